from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.sql.rules import RULES, Allowance, Finding, allowed, as_markdown, judge, problems_of
from headstart.sql.rules.recognise import acts
from headstart.sql.script import Statement
from support.examples import Step, given_steps, shop_steps, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.sql.rules import Rule


def found(*statements: str, before: Sequence[str] = (), in_transaction: bool = True) -> set[str]:
    """The rules that speak of a revision's statements, where `before` has run in an earlier one."""
    executed = [Step("0", text, in_transaction=False, path="0.py") for text in before]
    executed += [Step("1", text, in_transaction=in_transaction, path="1.py") for text in statements]
    return {finding.rule for finding in judge(executed, {}) if finding.path == "1.py"}


def of_example(rule: Rule, example: str) -> set[str]:
    """The rules that speak of an example."""
    executed = shop_steps() + given_steps(rule) + steps(example)
    return {one.rule for one in judge(executed, {}) if one.revision != "0"}


every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))


@every_rule
def test_a_bad_example_is_found(rule: Rule) -> None:
    """A rule finds its own bad example, and no other rule does."""
    assert of_example(rule, rule.bad) == {rule.id}


@every_rule
def test_a_good_example_is_clean(rule: Rule) -> None:
    """No rule finds anything in what the catalogue says to write instead."""
    assert of_example(rule, rule.good) == set()


@every_rule
def test_what_is_given_is_clean(rule: Rule) -> None:
    """A table that a revision makes, and everything that happens to it there, is not judged."""
    given = [step._replace(in_transaction=True) for step in given_steps(rule) if "DATABASE" not in step.text]
    assert not judge(shop_steps() + given, {})


@every_rule
def test_a_rule_says_everything(rule: Rule) -> None:
    """Each rule has an id in kebab-case, and says in sentences when it speaks, what happens, and what to do."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+|truncate", rule.id)
    for text in (rule.condition, rule.effect, rule.remedy):
        assert text.endswith(".")
        assert "http" not in text


def test_there_are_enough_rules() -> None:
    """The catalogue is as wide as those that it is measured by."""
    assert len(RULES) >= 40


# What tools for the same purpose refuse, and the rule that does it here. What is not here has another answer: timeouts
# are set by the runner, each revision runs in a transaction (so that IF NOT EXISTS is not needed), a default that is
# constant has cost nothing since Postgres 11, and bigint, identity and text are a matter of taste.
SQUAWK = {
    "CREATE INDEX i ON t (a)": "index-not-concurrent",
    "DROP INDEX i": "drop-index-not-concurrent",
    "REINDEX TABLE t": "reindex-not-concurrent",
    "CREATE INDEX CONCURRENTLY i ON t (a)": "concurrent-in-transaction",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a)": "foreign-key-without-not-valid",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)": "check-without-not-valid",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL": "set-not-null-without-check",
    "ALTER TABLE t ADD COLUMN b int NOT NULL": "add-not-null-column-without-default",
    "ALTER TABLE t ADD COLUMN b uuid DEFAULT uuid_generate_v4()": "volatile-default",
    "ALTER TABLE t ADD COLUMN b bigserial": "add-serial-column",
    "ALTER TABLE t ADD CONSTRAINT q UNIQUE (a)": "unique-constraint-without-index",
    "ALTER TABLE t ADD PRIMARY KEY (a)": "primary-key-without-index",
    "ALTER TABLE t ALTER COLUMN a TYPE bigint": "change-column-type",
    "ALTER TABLE t RENAME COLUMN a TO b": "rename-column",
    "ALTER TABLE t RENAME TO u": "rename-table",
    "ALTER TABLE t DROP COLUMN a": "drop-column",
    "ALTER TABLE t ALTER COLUMN a DROP NOT NULL": "drop-not-null",
    "DROP TABLE t": "drop-table",
    "DROP DATABASE d": "drop-database",
    "TRUNCATE t CASCADE": "truncate",
    "ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0)": "domain-constraint-without-not-valid",
    "CREATE TABLE u (id integer PRIMARY KEY)": "narrow-primary-key",
    "CREATE TABLE u (a char(3))": "char-column",
    "CREATE TABLE u (a timestamp)": "timestamp-without-time-zone",
    "BEGIN": "transaction-control",
    "ALTER TABLE t DETACH PARTITION p": "detach-partition-not-concurrent",
    "VACUUM FULL t": "vacuum-full",
}
STRONG_MIGRATIONS = {
    "ALTER TABLE t ADD CONSTRAINT e EXCLUDE USING gist (a WITH =)": "exclusion-constraint",
    "ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a + 1) STORED": "stored-generated-column",
    "ALTER TABLE t ADD COLUMN b json": "json-column",
    "ALTER SCHEMA s RENAME TO r": "rename-schema",
    "UPDATE t SET a = 1": "unbatched-write",
}


@pytest.mark.parametrize(("statement", "rule"), (SQUAWK | STRONG_MIGRATIONS).items())
def test_what_others_refuse(statement: str, rule: str) -> None:
    """What squawk and strong_migrations refuse is found here, too."""
    assert rule in found(statement, before=["CREATE TABLE t (a int)"])


FORMS = {
    # as SQLAlchemy and Alembic write it
    "CREATE INDEX ix_t_a ON t (a)": "index-not-concurrent",
    "CREATE UNIQUE INDEX ix ON raw.t USING btree (a DESC)": "index-not-concurrent",
    "ALTER TABLE t ADD COLUMN x INTEGER NOT NULL": "add-not-null-column-without-default",
    "ALTER TABLE t ADD FOREIGN KEY(a) REFERENCES u (id) ON DELETE SET NULL": "foreign-key-without-not-valid",
    "\nDROP INDEX ix": "drop-index-not-concurrent",
    "\nDROP TABLE t": "drop-table",
    "ALTER TABLE t ALTER COLUMN a TYPE VARCHAR(10) USING a::varchar": "change-column-type",
    "ALTER TABLE t RENAME a TO b": "rename-column",
    "ALTER TABLE raw.t SET SCHEMA stg": "rename-table",
    "ALTER TABLE t ADD UNIQUE (a)": "unique-constraint-without-index",
    # as people write it
    'create /* now */ index\n-- here\n"Ix" on Only_t ("A")': "index-not-concurrent",
    "CREATE INDEX ON t (a)": "index-not-concurrent",
    "CREATE INDEX IF NOT EXISTS concurrently_not ON t (a)": "index-not-concurrent",
    'ALTER TABLE IF EXISTS ONLY "public"."t" * ALTER "a" SET NOT NULL': "set-not-null-without-check",
    "alter table t alter a set data type text": "change-column-type",
    "ALTER TABLE t ADD x int DEFAULT random()": "volatile-default",
    "ALTER TABLE t ADD COLUMN IF NOT EXISTS x int DEFAULT pg_catalog.nextval('s') NOT NULL": "volatile-default",
    "ALTER TABLE t ADD COLUMN x timestamptz DEFAULT date_trunc('day', clock_timestamp())": "volatile-default",
    "ALTER TABLE t ADD COLUMN x int DEFAULT 1 CHECK (x > 0)": "check-without-not-valid",
    "ALTER TABLE t ADD COLUMN x bigint DEFAULT 1 REFERENCES u (id)": "foreign-key-without-not-valid",
    "ALTER TABLE t ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY (START 5)": "add-serial-column",
    "ALTER TABLE t ADD CONSTRAINT n NOT NULL a": "set-not-null-without-check",
    "ALTER TABLE t ALTER a DROP NOT NULL, DROP b CASCADE": "drop-cascade",
    "ALTER VIEW v RENAME TO w": "rename-table",
    "ALTER MATERIALIZED VIEW v SET SCHEMA raw": "rename-table",
    "ALTER DOMAIN d SET NOT NULL": "domain-constraint-without-not-valid",
    "ALTER TYPE public.mood RENAME VALUE 'a' TO 'b'": "rename-enum-value",
    "REINDEX (VERBOSE) TABLE t": "reindex-not-concurrent",
    "VACUUM (FULL, ANALYZE) t": "vacuum-full",
    "CLUSTER t USING ix": "vacuum-full",
    "TRUNCATE TABLE ONLY a, t": "truncate",
    "DELETE FROM ONLY t USING u": "unbatched-write",
    "WITH gone AS (DELETE FROM u WHERE a = 1 RETURNING *) UPDATE t SET a = 2 FROM gone": "unbatched-write",
    "UPDATE t SET a = (SELECT 1 WHERE true)": "unbatched-write",
    "LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE NOWAIT": "lock-table",
    "ALTER TABLE t SET ACCESS METHOD heap": "change-table-storage",
    "DROP FUNCTION f(int, text) CASCADE": "drop-cascade",
    "DROP OWNED BY someone": "drop-schema",
    "DROP FOREIGN TABLE f": "drop-table",
    "SET SESSION search_path = ''": "set-search-path",
    "START TRANSACTION READ ONLY": "transaction-control",
    "CREATE TABLE u (a int, b int, PRIMARY KEY (a))": "narrow-primary-key",
    "SELECT 1; DROP TABLE t; SELECT 2": "drop-table",
}


@pytest.mark.parametrize(("statement", "rule"), FORMS.items())
def test_the_form_does_not_matter(statement: str, rule: str) -> None:
    """A statement is recognised whatever its case, quotes, comments, schema and optional words."""
    assert rule in found(statement)


HARMLESS = [
    "SELECT 'DROP TABLE t; -- CREATE INDEX i ON t (a)'",
    "INSERT INTO log VALUES ('ALTER TABLE t RENAME TO u')",
    "COMMENT ON TABLE t IS $$DROP TABLE t$$",
    "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; END $$",
    "CREATE VIEW v AS SELECT 1",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "DROP VIEW v",
    "DROP TRIGGER a ON t",
    "ALTER TABLE t ADD COLUMN x int",
    "ALTER TABLE t ADD COLUMN x varchar(10) DEFAULT 'a'::character varying(10) NOT NULL",
    "ALTER TABLE t ADD COLUMN x timestamptz DEFAULT now() NOT NULL",
    "ALTER TABLE t ADD COLUMN x timestamp with time zone DEFAULT (CURRENT_TIMESTAMP(3) AT TIME ZONE 'utc')",
    "ALTER TABLE t ADD COLUMN x numeric(10, 2) DEFAULT CAST(0 AS numeric(10, 2)) NOT NULL",
    "ALTER TABLE t ADD COLUMN x jsonb DEFAULT '{}'::jsonb NOT NULL",
    "ALTER TABLE t ADD COLUMN x text[] DEFAULT ARRAY[]::text[] NOT NULL",
    "ALTER TABLE t ADD COLUMN x bigint REFERENCES u (id) ON DELETE SET DEFAULT",
    "ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (a * 2) VIRTUAL",
    "ALTER TABLE t ALTER COLUMN a SET DEFAULT gen_random_uuid()",
    "ALTER TABLE t ALTER COLUMN a DROP DEFAULT",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT n NOT NULL a NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT q UNIQUE USING INDEX q",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER TABLE t DROP CONSTRAINT c",
    "ALTER TABLE t RENAME CONSTRAINT c TO d",
    "ALTER TABLE t SET (fillfactor = 70)",
    "ALTER TABLE t ENABLE TRIGGER a",
    "ALTER INDEX i RENAME TO j",
    "ALTER SEQUENCE s AS bigint",
    "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'happy' BEFORE 'sad'",
    "CREATE INDEX i ON ONLY t (a)",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    "LOCK TABLE t IN ROW EXCLUSIVE MODE",
    "SET LOCAL search_path TO raw",
    "SET LOCAL lock_timeout = '1s'",
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "UPDATE t SET a = 1 WHERE id BETWEEN 1 AND 9",
    "UPDATE ONLY t AS x SET a = 1 FROM u WHERE u.id = x.id",
    "INSERT INTO t SELECT * FROM u",
    "WITH u AS (SELECT 1 AS a) INSERT INTO t SELECT * FROM u ON CONFLICT (a) DO UPDATE SET a = 1",
    "CREATE TABLE u (id bigint PRIMARY KEY, a int, b timestamptz, c varchar(3), UNIQUE (a), CHECK (a > 0))",
    "CREATE TABLE u (a int, b int, PRIMARY KEY (a, b))",
    "CREATE TEMPORARY TABLE u (id int PRIMARY KEY)",
    "CREATE TABLE u AS SELECT * FROM t",
    "UPDATE alembic_version SET version_num='a' WHERE alembic_version.version_num = 'b'",
    "DELETE FROM alembic_version",
    "GRANT SELECT ON t TO PUBLIC",
    "DO $$ BEGIN NULL; END $$",
    "\\connect elsewhere",
    "ALTER TABLE",
    "CREATE",
    "ALTER TABLE t ADD",
    "CREATE TABLE t (",
    "",
]


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_is_harmless_is_passed_over(statement: str) -> None:
    """What takes no lock for long, or is not SQL that the rules speak of, is not found."""
    assert found(statement) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY t",
        "REINDEX (CONCURRENTLY) TABLE t",
        "VACUUM ANALYZE t",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
    ],
)
def test_in_an_autocommit_block(statement: str) -> None:
    """What cannot run in a transaction is found in one, and nowhere else."""
    assert found(statement) == {"concurrent-in-transaction"}
    assert found(statement, in_transaction=False) == set()


CHANGES_OF_A_NEW_TABLE = [
    "CREATE INDEX i ON raw.new (a)",
    "ALTER TABLE raw.new ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
    "ALTER TABLE raw.new ADD CONSTRAINT c CHECK (a > 0)",
    "ALTER TABLE raw.new ALTER COLUMN a SET NOT NULL",
    "ALTER TABLE raw.new ALTER COLUMN a TYPE bigint",
    "ALTER TABLE raw.new ADD COLUMN b bigserial",
    "ALTER TABLE raw.new RENAME COLUMN a TO b",
    "ALTER TABLE raw.new DROP COLUMN a",
    "UPDATE raw.new SET a = 1",
    "TRUNCATE raw.new",
    "DROP TABLE raw.new CASCADE",
]


@pytest.mark.parametrize("statement", CHANGES_OF_A_NEW_TABLE)
@pytest.mark.parametrize("create", ["CREATE TABLE raw.new (a smallint)", 'CREATE TABLE "raw".NEW AS SELECT 1 AS a'])
def test_a_table_of_the_same_revision(create: str, statement: str) -> None:
    """A table that the revision has made is free game; one made before, or of another schema, is not."""
    assert found(create, statement) == set()
    assert found(create, statement.replace("raw.new", "new")) != set()
    assert found(statement, before=[create]) != set()


def test_a_new_table_under_its_new_name() -> None:
    """A new table that is renamed is still new."""
    assert found("CREATE TABLE a (x int)", "ALTER TABLE a RENAME TO b", "CREATE INDEX i ON b (x)") == set()


def test_names_follow_the_search_path() -> None:
    """A name without a schema is where the search path leads."""
    create = "CREATE TABLE raw.new (a int)"
    assert found("SET LOCAL search_path TO raw, public", create, "CREATE INDEX i ON new (a)") == set()
    assert found(create, "SET LOCAL search_path TO stg", "CREATE INDEX i ON new (a)") == {"index-not-concurrent"}


@pytest.mark.parametrize(
    ("old", "new", "is_safe"),
    [
        ("varchar(10)", "varchar(20)", True),
        ("character varying(10)", "VARCHAR", True),
        ("varchar(10)", "text", True),
        ("text", "varchar", True),
        ("varchar(20)", "varchar(10)", False),
        ("text", "varchar(10)", False),
        ("char(3)", "varchar(3)", False),
        ("numeric(10,2)", "DECIMAL(12, 2)", True),
        ("numeric(10,2)", "numeric", True),
        ("numeric(10)", "numeric(12,0)", True),
        ("numeric(10,2)", "numeric(12,3)", False),
        ("numeric", "numeric(12,3)", False),
        ("timestamptz(3)", "timestamp with time zone", True),
        ("timestamp", "timestamptz", False),
        ("int", "integer", True),
        ("int", "bigint", False),
        ("cidr", "inet", True),
        ("varchar(10)[]", "varchar(20)[]", False),
    ],
)
def test_changes_of_type(old: str, new: str, *, is_safe: bool) -> None:
    """A type may be loosened, as long as the history says what it was; and any use of USING is a rewrite."""
    change = f"ALTER TABLE t ALTER COLUMN a TYPE {new}"
    created = [f"CREATE TABLE t (a {old})"]
    added = ["CREATE TABLE t ()", "ALTER TABLE t ADD COLUMN a smallint", f"ALTER TABLE t ALTER a TYPE {old}"]
    assert found(change, before=created) == found(change, before=added)
    assert found(change, before=created) == (set() if is_safe else {"change-column-type"})
    assert found(f"{change} USING a::{new}", before=created) == {"change-column-type"}
    assert found(change) == {"change-column-type"}


@pytest.mark.parametrize(
    ("check", "is_enough"),
    [
        ("a IS NOT NULL", True),
        ("(A is not null) AND b > 0", True),
        ('b > 0 AND ("a" IS NOT NULL AND c)', True),
        ("a IS NOT NULL OR b > 0", False),
        ("a > 0", False),
        ("b IS NOT NULL", False),
    ],
)
def test_set_not_null_after_a_check(check: str, *, is_enough: bool) -> None:
    """SET NOT NULL passes where a validated CHECK implies it, wherever in the history it was validated."""
    add = f"ALTER TABLE t ADD CONSTRAINT c CHECK ({check}) NOT VALID"
    validate = "ALTER TABLE t VALIDATE CONSTRAINT c"
    change = "ALTER TABLE t ALTER COLUMN a SET NOT NULL"
    assert (found(change, before=[add, validate]) == set()) is is_enough
    assert found(change, before=[add]) == {"set-not-null-without-check"}
    assert found(change, before=[add, validate, "ALTER TABLE t DROP CONSTRAINT c"]) == {"set-not-null-without-check"}
    assert found(change, before=[validate]) == {"set-not-null-without-check"}


def test_a_transaction_ends_at_an_autocommit_block() -> None:
    """Locks are held until an autocommit block, which commits what comes before it."""
    alter = Step("1", "ALTER TABLE t ADD COLUMN b int")
    block = Step("1", "CREATE INDEX CONCURRENTLY i ON u (a)", in_transaction=False)
    write = Step("1", "UPDATE t SET b = 1 WHERE a = 1")
    assert [one.rule for one in judge([alter, write], {})] == ["backfill-after-ddl"]
    assert judge([alter, block, write], {}) == []
    assert judge([alter, write._replace(revision="2")], {}) == []


def test_two_of_a_kind() -> None:
    """Two actions of one statement are two findings; one that is repeated in a loop is one."""
    drops = Step("1", "ALTER TABLE t DROP COLUMN a, DROP COLUMN b")
    assert [one.message for one in judge([drops, drops], {})] == [
        "column a of t is dropped",
        "column b of t is dropped",
    ]


def test_a_view_that_was_never_filled() -> None:
    """The first filling of a materialized view made WITH NO DATA cannot be concurrent, and blocks nobody."""
    before = ["CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA"]
    refresh = "REFRESH MATERIALIZED VIEW v"
    assert found(refresh, before=before) == set()
    assert found(refresh, before=[*before, refresh]) == {"refresh-not-concurrent"}


def test_an_index_of_a_new_table() -> None:
    """An index may be dropped and rebuilt the short way in the revision that has made its table."""
    assert found("CREATE TABLE t (a int)", "CREATE INDEX i ON t (a)", "REINDEX INDEX i", "DROP INDEX i") == set()


def test_a_new_enum_may_be_used_at_once() -> None:
    """Values that are added to a type of the same revision can be used."""
    use = "INSERT INTO days VALUES ('sad')"
    assert found("CREATE TYPE mood AS ENUM ()", "ALTER TYPE mood ADD VALUE 'sad'", use) == set()
    assert found("ALTER TYPE mood ADD VALUE 'sad'", use) == {"enum-value-used-in-same-transaction"}


def test_a_finding_says_where_and_what() -> None:
    """A finding names the revision, file, line and statement, what was found, and what to do."""
    executed = Step("abc", "SELECT 1; DROP TABLE raw.t;", path="versions/abc.py", line=12)
    rule = RULES["drop-table"]
    assert judge([executed], {}) == [
        Finding(
            "drop-table",
            "abc",
            "versions/abc.py",
            12,
            "DROP TABLE raw.t",
            "table raw.t is dropped",
            rule.remedy,
            "refuse",
        )
    ]


DROP = Step("1", "DROP TABLE t", path="1.py")


def rules_of(source: str) -> list[tuple[str, int | None]]:
    """What is left of a DROP TABLE where the revision file says this."""
    return [(one.rule, one.line) for one in judge([DROP], {"1.py": source})]


def test_allowed_with_a_reason() -> None:
    """A comment with a reason allows a rule in the whole file, alone or beside others."""
    assert rules_of("# headstart: allow drop-table: nobody reads it") == []
    assert rules_of("def upgrade():\n    op.drop_table('t')  #headstart:ALLOW drop-table : gone") == []
    both = {"1.py": "# headstart: allow drop-table, truncate: old"}
    assert judge([DROP, DROP._replace(text="TRUNCATE t")], both) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# headstart: allow drop-table", [("drop-table", 7), ("allow-without-reason", 1)]),
        ("\n# headstart: allow drop-table:  ", [("drop-table", 7), ("allow-without-reason", 2)]),
        ("# headstart: allow drop-tables: old", [("drop-table", 7), ("allow-unknown", 1)]),
        ("# headstart: drop-table: old", [("drop-table", 7), ("allow-unreadable", 1)]),
        ("# headstart: allow drop-table, truncate: old", [("allow-unused", 1)]),
        ('"""# headstart: allow drop-table: old"""', [("drop-table", 7)]),
        ("# headstart: allow drop-table: old\n'''", [("drop-table", 7)]),
    ],
)
def test_a_comment_that_allows_nothing(source: str, expected: list[tuple[str, int | None]]) -> None:
    """A comment without a reason, of an unknown rule, unreadable, or that nothing needs is a finding itself."""
    assert rules_of(source) == expected


def test_an_unused_comment_in_a_file_that_executed_nothing() -> None:
    """Files without statements are looked at as well."""
    (finding,) = judge([], {"2.py": "# headstart: allow truncate: old"})
    assert (finding.rule, finding.path, finding.revision) == ("allow-unused", "2.py", "")


def test_another_file_allows_nothing() -> None:
    """A comment counts in its own file only."""
    assert [one.rule for one in judge([DROP], {"2.py": "# headstart: allow drop-table: old"})] == [
        "allow-unused",
        "drop-table",
    ]


def test_allowed_says_the_reason() -> None:
    """What is allowed can be listed with its reasons."""
    assert allowed("x = 1  # headstart: allow drop-table, truncate: no one: ever\n") == [
        Allowance("drop-table", "no one: ever", 1),
        Allowance("truncate", "no one: ever", 1),
    ]


def test_switched_off() -> None:
    """A rule that the project has switched off finds nothing, and a comment that allows it is not called unused."""
    source = "# headstart: allow drop-table: old"
    assert judge([DROP], {"1.py": source}, off={"drop-table"}) == []


def test_problems_of_what_is_switched_off() -> None:
    """The project's list is checked: unknown rules, with the nearest one, and missing reasons."""
    assert problems_of({"truncate": "small tables"}) == []
    assert problems_of({"drop-tabel": "x", "truncate": " "}) == [
        "there is no rule drop-tabel; did you mean drop-table?",
        "truncate is switched off without a reason",
    ]


def test_a_version_table_of_another_name() -> None:
    """The version table is passed over, whatever it is called."""
    executed = [Step("1", "DELETE FROM versions")]
    assert judge(executed, {}, passing_over=("versions",)) == []
    assert judge(executed, {}, passing_over=("public.versions",)) == []
    assert judge(executed, {}, passing_over=("raw.versions",)) != []


WORDS = sorted({word for text in (*FORMS, *HARMLESS) for word in re.findall(r"\w+|\W", text)})


@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join) | st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    """No text, SQL or not, stops the judgement."""
    judge([Step("1", text), Step("1", text, in_transaction=False)], {"1.py": text})
    keyword = text.strip().partition(" ")[0].upper()
    assert acts(Statement(text=text, start=0, keyword=keyword))


def test_the_page_has_every_rule() -> None:
    """The generated page has a section for each rule, with both examples."""
    page = as_markdown()
    for rule in RULES.values():
        assert f"### `{rule.id}`\n" in page
        assert rule.bad.strip() in page
        assert rule.good.strip() in page
    assert "http" not in page
