"""What pg_dump writes, taken apart and put together, and the order of the parts."""

from __future__ import annotations

from headstart.commands.schema.parts import parts
from headstart.commands.schema.script import PREAMBLE, Entry, differing, normalised, parse, to_text

DUMP = """\
--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 18.4

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: raw; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA raw;


SET default_table_access_method = heap;

--
-- Name: plain; Type: TABLE; Schema: raw; Owner: -
--

CREATE TABLE raw.plain (
    id bigint CONSTRAINT old_id_not_null NOT NULL,
    "Odd" text CONSTRAINT "old_Odd_not_null" NOT NULL,
    named text CONSTRAINT wanted NOT NULL
);


SET default_table_access_method = columnar;

--
-- Name: wide; Type: TABLE; Schema: raw; Owner: -
--

CREATE TABLE raw.wide (
    id bigint
);


--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version (version_num) VALUES ('a1');


--
-- Data for Name: plain; Type: TABLE DATA; Schema: raw; Owner: -
--

INSERT INTO raw.plain (id, named) VALUES (1, 'a;
--
-- Name: x; Type: TABLE; Schema: y; Owner: -
--
');
INSERT INTO raw.plain (id, named) VALUES (2, 'b');


--
-- Data for Name: wide; Type: TABLE DATA; Schema: raw; Owner: -
--



--
-- Name: still; Type: SEQUENCE SET; Schema: raw; Owner: -
--

SELECT pg_catalog.setval('raw.still', 1, false);


--
-- Name: moved; Type: SEQUENCE SET; Schema: raw; Owner: -
--

SELECT pg_catalog.setval('raw.moved', 7, true);


--
-- Name: EXTENSION hstore; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EXTENSION hstore IS 'of this version';


--
-- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL; Schema: raw; Owner: -
--

ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA raw GRANT SELECT ON TABLES  TO reader;


--
-- Name: TABLE plain; Type: ACL; Schema: raw; Owner: -
--

REVOKE ALL ON TABLE raw.plain FROM owner;
GRANT SELECT ON TABLE raw.plain TO owner;
GRANT SELECT ON TABLE raw.plain TO owner_too WITH GRANT OPTION;


--
-- PostgreSQL database dump complete
--

\\unrestrict abc
"""


def ours() -> list[Entry]:
    """The dump as a schema file has it."""
    unmoved = {"SELECT pg_catalog.setval('raw.still', 1, false)"}
    return normalised(parse(DUMP), version_table="public.alembic_version", owner="owner", unmoved=unmoved)


def test_what_says_nothing_of_the_schema_is_left_out() -> None:
    """Versions, keys, the version table's rows, empty tables, unmoved sequences, comments of extensions, the owner."""
    text = to_text(ours())
    assert [each.label for each in ours()] == [
        "schema raw",
        "table raw.plain",
        "table raw.wide",
        "table public.alembic_version",
        "table data raw.plain",
        "sequence set raw.moved",
        "default acl raw.DEFAULT PRIVILEGES FOR TABLES",
        "acl raw.TABLE plain",
    ]
    assert text.startswith(PREAMBLE)
    for each in (
        "CREATE SCHEMA IF NOT EXISTS raw;",
        "    id bigint NOT NULL,",
        '    "Odd" text NOT NULL,',
        "    named text CONSTRAINT wanted NOT NULL\n",
        "SET default_table_access_method = columnar;\n\nCREATE TABLE raw.wide (\n",
        ");\n\nSET default_table_access_method = heap;\n",
        "FOR ROLE CURRENT_USER IN SCHEMA raw GRANT SELECT ON TABLES TO reader;",
        "FROM CURRENT_USER;\n\nGRANT SELECT ON TABLE raw.plain TO CURRENT_USER;",
        "TO owner_too WITH GRANT OPTION;",
    ):
        assert each in text
    assert "restrict" not in text
    assert "18.4" not in text


def test_what_is_written_reads_as_it_was() -> None:
    """A schema file taken apart and put together is the same text."""
    text = to_text(ours())
    assert to_text(parse(text)) == text
    assert differing(parse(text), ours()) == []


def test_of_rows_only_the_number_counts() -> None:
    """Another value is no difference, another number of rows is, and so is any other text."""
    text = to_text(ours())
    assert differing(parse(text.replace("'b'", "'2024-01-01'")), ours()) == []
    assert differing(parse(text.replace("INSERT INTO raw.plain (id, named) VALUES (2, 'b');", "")), ours()) == [
        "table data raw.plain"
    ]
    assert differing(parse(text.replace("bigint", "integer")), ours()) == ["table raw.plain", "table raw.wide"]


def test_parts_follow_one_another_as_they_need() -> None:
    """By kind, then by schema; what needs something of a later part comes behind it, in a part of its own."""

    def entry(kind: str, name: str, text: str, schema: str = "s") -> Entry:
        return Entry(name=name, kind=kind, schema=schema, statements=(text,))

    entries = [
        entry("SCHEMA", "s", "CREATE SCHEMA s", "-"),
        entry("FUNCTION", "f(a integer)", "CREATE FUNCTION s.f(a integer)"),
        entry("TABLE", "order", 'CREATE TABLE s."order" (a integer DEFAULT s.f(1))'),
        entry("COMMENT", "TABLE order", "COMMENT ON TABLE s.\"order\" IS 'x'"),
        entry("VIEW", "v", 'CREATE VIEW s.v AS SELECT a FROM s."order"'),
        entry("FUNCTION", "g()", "CREATE FUNCTION s.g() RETURNS SETOF s.v"),
        entry("TABLE", "t", "CREATE TABLE t.t (a integer DEFAULT s.g())", "t"),
        entry("VIEW", "w", "CREATE VIEW s.w AS SELECT * FROM s.g()"),
        entry("CONSTRAINT", "t t_pkey", "ALTER TABLE ONLY t.t ADD PRIMARY KEY (a)", "t"),
        entry("VIEW", "grouped", "CREATE VIEW s.grouped AS SELECT a FROM t.t GROUP BY a"),
        entry("ACL", "TABLE t", "GRANT SELECT ON t.t TO reader", "t"),
    ]
    found = {name: [each.name for each in inside] for name, inside in parts(entries)}
    assert found == {
        "01_schemas.sql": ["s"],
        "02_functions_s.sql": ["f(a integer)"],
        "03_tables_s.sql": ["order", "TABLE order"],
        "04_views_s.sql": ["v"],
        "05_functions_s_2.sql": ["g()"],
        "06_tables_t.sql": ["t"],
        "07_views_s_2.sql": ["w"],
        "08_constraints.sql": ["t t_pkey"],
        "09_views_s_3.sql": ["grouped"],
        "10_grants.sql": ["TABLE t"],
    }
