from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.sql.script import (
    ScriptError,
    builds_concurrently,
    is_rowless,
    is_single,
    line_of,
    split,
)
from headstart.sql.tokens import tokens


def texts(script: str, *, standard_conforming: bool = True) -> list[str]:
    """The statements of a script."""
    return [one.text for one in split(script, standard_conforming=standard_conforming)]


# Each is one statement, whatever it looks like.
ONE = [
    "SELECT 'a;b'",
    "SELECT 'it''s; fine'",
    r"SELECT 'C:\'",
    r"SELECT E'a\';b'",
    r"SELECT e'\\'';'",
    "SELECT E'a'\n'b\\';c'",
    "SELECT E'a' -- and so on\n  'b\\';c'",
    "SELECT U&'d\\0061;' , N';', B'1', X';'",
    "SELECT date'2024-01-01;'",
    "SELECT typE'a;\\'",
    "SELECT $$a;b$$",
    "SELECT $tag$ ; $$ ; $other$ ; $tag$",
    "SELECT $é$;$é$",
    "SELECT $$a;$$$$;b$$",
    "SELECT a$b$, c$$, d$b$",
    'SELECT "a;b", "c""d;"',
    'SELECT U&"d;"',
    "SELECT 1 -- ; not here\n + 2",
    "SELECT 1 /* ; /* nested; */ ; */ + 2",
    "SELECT 1 /* it's */ + 2",
    "SELECT 4 / 2, 3 - 1, '{}'::jsonb -> 'a', a - -1 FROM t",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
    "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql\nBEGIN ATOMIC\n SELECT a;\n SELECT 2;\nEND",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 ELSE 2 END; SELECT 3; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT (CASE WHEN true THEN 1 END); SELECT 3; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT t.end AS end, ';' FROM t; SELECT 3; END",
    "CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); /* END; */ DELETE FROM t; END",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1; SELECT ''BEGIN ATOMIC'';'",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\nCOPY t FROM stdin;\n  RETURN NEW;\nEND $$",
    "DO $$ BEGIN PERFORM 1; END $$",
    "SELECT * FROM t WHERE a = $1 AND b = $2",
]


@pytest.mark.parametrize("statement", ONE)
def test_one_statement_stays_whole(statement: str) -> None:
    """Nothing inside of quotes, comments, parentheses or bodies ends a statement."""
    assert texts(f"{statement};") == [statement]
    assert texts(f"SELECT 0;\n{statement} ;SELECT 9") == ["SELECT 0", statement, "SELECT 9"]


@given(st.lists(st.sampled_from(ONE), max_size=6), st.sampled_from([";", " ;\n", ";;\n\n", ";-- c;\n", ";/* ; */"]))
def test_statements_come_back_as_they_went_in(statements: list[str], between: str) -> None:
    """A script is the statements that it was made of, in their order, each where it stands in the source."""
    script = between.join(statements)
    found = split(script)
    assert [one.text for one in found] == statements
    assert all(script.startswith(one.text, one.start) for one in found)


FRAGMENTS = [*"'\"$;()-/*\\eEaé1 \n", "--", "/*", "*/", "$$", "$t$", "E'", "\\'", "''", "SELECT ", "CREATE ", "$1"]


@example(script="1$$;'", standard_conforming=False)
@example(script="1.$$;$$;1.5$$;$1$$;$$", standard_conforming=True)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join), st.booleans())
def test_quick_and_thorough_agree(script: str, standard_conforming: bool) -> None:
    """The expression that jumps over plain text sees the same ends as the one that goes word by word."""
    expected, start, end, depth = [], -1, 0, 0
    try:
        found = texts(script, standard_conforming=standard_conforming)
    except ScriptError:
        assert "\\" in [token.text for token in tokens(script, standard_conforming=standard_conforming)]
        return
    for token in tokens(script, standard_conforming=standard_conforming):
        nested = depth > 0 and script[start : start + 6] == "CREATE"
        if token.text == ";" and not nested:
            if start >= 0:
                expected.append(script[start:end])
            start, depth = -1, 0
            continue
        start = token.start if start < 0 else start
        depth = max(0, depth + {"(": 1, ")": -1}.get(token.text, 0))
        end = token.start + len(token.text)
    if start >= 0:
        expected.append(script[start:end])
    # A comment after the last word belongs to the text of a statement, but not to its words.
    assert len(found) == len(expected)
    assert all(one.startswith(other.rstrip()) for one, other in zip(found, expected, strict=True))


@given(st.text(alphabet=st.sampled_from("'\"$;()-/*\\eE aé\n"), max_size=60))
def test_any_text_is_split_or_refused(script: str) -> None:
    """There is no text on which the lexer fails in any other way, and no text that it changes."""
    try:
        found = split(script)
    except ScriptError:
        return
    assert all(one.text and script[one.start :].startswith(one.text) for one in found)


@pytest.mark.parametrize("script", ["", " \n", ";", ";;", "-- nothing", "/* nothing /* at */ all */", "\n;-- a\n;"])
def test_nothing_is_no_statement(script: str) -> None:
    """Empty and comment-only segments are left out."""
    assert split(script) == []


@pytest.mark.parametrize(
    "script", ["SELECT 'a; b", 'SELECT "a; b', "SELECT $$a; b", "SELECT 1 /* ; b", "SELECT E'a;\\'"]
)
def test_unclosed_reaches_to_the_end(script: str) -> None:
    """What is never closed is one statement, for the server to complain about."""
    assert texts(script) == [script]


def test_backslash_in_strings_follows_the_setting() -> None:
    """With standard_conforming_strings off, a backslash escapes in plain strings; a SET in the script is followed."""
    assert texts(r"SELECT 'a\'; b'", standard_conforming=False) == [r"SELECT 'a\'; b'"]
    script = (
        r"SET standard_conforming_strings = off; SELECT 'a\';b'; SET standard_conforming_strings TO on; SELECT 'a\';b"
    )
    assert texts(script)[1:] == [
        r"SELECT 'a\';b'",
        "SET standard_conforming_strings TO on",
        "SELECT 'a\\'",
        "b",
    ]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("BEGIN", "transaction_control"),
        ("begin work", "transaction_control"),
        ("START TRANSACTION READ ONLY", "transaction_control"),
        ("COMMIT AND CHAIN", "transaction_control"),
        ("END", "transaction_control"),
        ("ABORT", "transaction_control"),
        ("ROLLBACK", "transaction_control"),
        ("PREPARE TRANSACTION 'x'", "transaction_control"),
        ("COMMIT PREPARED 'x'", "transaction_control"),
        ("PREPARE x AS SELECT 1", "plain"),
        ("SAVEPOINT a", "savepoint"),
        ("RELEASE a", "savepoint"),
        ("ROLLBACK TO SAVEPOINT a", "savepoint"),
        ("rollback work to a", "savepoint"),
        ("SET TRANSACTION READ ONLY", "plain"),
        ("COPY t FROM '/tmp/x'", "plain"),
        ("COPY t TO stdout", "copy_out"),
        ("COPY (SELECT 1 FROM stdin) TO stdout", "copy_out"),
        ("COPY t FROM stdin", "copy_in"),
        ("/* c */ copy t from stdin", "copy_in"),
    ],
)
def test_kinds(statement: str, kind: str) -> None:
    """A statement's kind says whether it ends a transaction, or talks to the client."""
    (found,) = split(f"{statement};")
    assert found.kind == kind
    assert found.keyword == statement.removeprefix("/* c */ ").split()[0].upper()


def test_copy_data_is_taken_up_to_its_end() -> None:
    """The rows of a COPY are data, even where they look like SQL, and what follows them is SQL again."""
    script = 'SELECT 1;\nCOPY "A b"."T" (id, "x""y", Z) FROM stdin;\n1\t\\N\tCOPY q FROM stdin;\n\\.x\n\\.\nSELECT 2;'
    first, copy, last = split(script)
    assert (copy.kind, copy.text) == ("copy_in", 'COPY "A b"."T" (id, "x""y", Z) FROM stdin')
    assert copy.data == "1\t\\N\tCOPY q FROM stdin;\n\\.x\n"
    assert (first.text, last.text) == ("SELECT 1", "SELECT 2")
    assert script[last.start :] == "SELECT 2;"


@pytest.mark.parametrize(
    ("script", "data"),
    [
        ("COPY t FROM stdin;\n\\.\n", ""),
        ("COPY t FROM stdin; -- rows\n1\n\\.", "1\n"),
        ("COPY t FROM stdin;\r\n1\r\n\\.\r\n", "1\r\n"),
        ("COPY t FROM stdin;", None),
        ("COPY t FROM stdin", None),
        ("COPY t FROM stdin;\n1\n2\n", None),
        ("COPY t FROM stdin; SELECT 1;\n\\.\n", None),
    ],
)
def test_copy_without_its_end_has_no_data(script: str, data: str | None) -> None:
    """Rows begin on the line after the statement and have to be ended; nothing else is guessed to be data."""
    try:
        found = split(script)[0]
    except ScriptError as error:
        assert data is None
        assert "\\." in error.message  # noqa: PT017
        return
    assert found.data == data


def test_pg_dump_restrict_lines_are_skipped() -> None:
    r"""pg_dump's \restrict and \unrestrict are no SQL and mean nothing here."""
    assert texts("--\n\\restrict aB3\n\nSELECT 1;\n\n\\unrestrict aB3\n\n") == ["SELECT 1"]


@pytest.mark.parametrize(
    "script", ["SELECT 1;\n\\connect other\n", "\\i x.sql", "SELECT 1 \\gset", "SELECT 1;\n\\", "CREATE TABLE \\d"]
)
def test_other_psql_commands_are_refused_by_name(script: str) -> None:
    """A command of psql cannot be run, and is named with its line."""
    name = script[script.index("\\") :].split(maxsplit=1)[0]
    with pytest.raises(ScriptError) as caught:
        split(script)
    assert name in caught.value.message
    assert f"line {script[: script.index(name)].count(chr(10)) + 1}" in caught.value.message


@pytest.mark.parametrize("statement", ["SELECT 1", " UPDATE t SET a = 1 ;\n", "DROP TABLE t"])
def test_is_single_is_sure_of_ordinary_statements(statement: str) -> None:
    """An ordinary statement is recognised without being taken apart."""
    assert is_single(statement)


@given(st.sampled_from([*ONE, "COPY t FROM stdin", "-- c", "\\q", "SELECT 1; SELECT 2", ""]))
def test_is_single_is_never_wrong(script: str) -> None:
    """What `is_single` says is one statement, `split` finds to be one, and plain."""
    if is_single(script):
        assert [one.kind for one in split(script)] == ["plain"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE TABLE t ()", True),
        ("INSERT INTO t VALUES (1)", True),
        ("update t set returning_at = 1", True),
        ("\n  drop table t", True),
        ("SET a = 1", True),
        ("INSERT INTO t VALUES ($1)", False),
        ("INSERT INTO t VALUES (1)\nRETURNING a", False),
        ("update t set a = 1 returning *", False),
        ("SELECT 1", False),
        ("WITH a AS (SELECT 1) DELETE FROM t", False),
        ("SETTLE", False),
        ("", False),
    ],
)
def test_no_rows_are_expected_of_commands(statement: str, expected: bool) -> None:
    """What may give rows back, or takes parameters, is prepared; in doubt, too."""
    assert is_rowless(statement) is expected


def test_lines_are_counted_from_one() -> None:
    """The first line is line 1."""
    assert [line_of("a\nb\nc", offset) for offset in (0, 1, 2, 4)] == [1, 1, 2, 3]


def test_a_large_dump_is_split() -> None:
    """100,000 inserts, some 10 MB, are as many statements."""
    row = "INSERT INTO public.quotes (id, symbol, day, price, note) VALUES (%d, 'ABC', '2024-01-01', 12.5, 'it''s');\n"
    script = "".join(row % number for number in range(100_000))
    assert len(split(script)) == 100_000


@pytest.mark.parametrize(
    "piece", ["'a''b', ", "(1, 2), ", "E'a\\'b', ", "/* c */ ", "-- c\n", '"a", ', "$$a$$, ", "a - b, ", "$1 "]
)
def test_one_large_statement_needs_no_memory_to_match(piece: str) -> None:
    """A statement of many pieces is gone through without a stack that grows with it."""
    script = "CREATE TABLE t AS SELECT " + piece * 20_000 + "1"
    tracemalloc.start()
    try:
        assert len(split(script)) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(script)


@pytest.mark.parametrize(
    "statement",
    [
        "create index concurrently i on t (id)",
        "-- why\nCREATE /* a */ UNIQUE INDEX -- b\n CONCURRENTLY IF NOT EXISTS i ON t (id);",
        "drop index concurrently if exists i",
        "REINDEX INDEX CONCURRENTLY i",
        "reindex (concurrently, verbose) table t",
        "alter table parent detach partition child concurrently",
    ],
)
def test_what_builds_concurrently(statement: str) -> None:
    """One statement that builds, drops or detaches CONCURRENTLY is known, whatever its comments."""
    assert builds_concurrently(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "create index i on t (id)",
        "refresh materialized view concurrently v",
        "create index concurrently i on t (id); alter table t add x int",
        "create index i on t (id) -- concurrently",
        'create index "concurrently" on t (id)',
        'alter table parent detach partition "concurrently"',
        "alter table t add note text default 'concurrently'",
        "create index i on t (id) where note = E'concurrently'",
        "create function f() returns void language sql as $$ create index concurrently i on t (id) $$",
        "select 'create index concurrently'",
    ],
)
def test_what_does_not_build_concurrently(statement: str) -> None:
    """Anything else has its lock timeout: a word in a string, a name or a comment does not matter."""
    assert not builds_concurrently(statement)
