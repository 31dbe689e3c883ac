"""What takes away something that running code still uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.rules.model import Rule

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act
    from headstart.sql.rules.seen import Seen


def _renamed_column(act: Act, seen: Seen) -> str | None:
    if act.kind != "rename column" or seen.is_new_column(act.table, act.name):
        return None
    return f"column {act.name} of {act.table} is renamed"


def _renamed(act: Act, seen: Seen) -> str | None:
    if act.kind != "rename" or act.name == "schema" or seen.is_new(act.table) or seen.is_new_type(act.table):
        return None
    return f"{act.name} {act.table} is called {act.other} from now on"


def _renamed_schema(act: Act, seen: Seen) -> str | None:
    if act.kind != "rename" or act.name != "schema" or act.table is None or seen.is_new_schema(act.table.name):
        return None
    return f"schema {act.table.name} is renamed"


def _renamed_label(act: Act, seen: Seen) -> str | None:
    if act.kind != "rename enum value" or seen.is_new_type(act.table):
        return None
    return f"the value '{act.name}' of {act.table} is renamed"


def _dropped_column(act: Act, seen: Seen) -> str | None:
    if act.kind != "drop column" or seen.is_new_column(act.table, act.name):
        return None
    return f"column {act.name} of {act.table} is dropped"


def _dropped_table(act: Act, seen: Seen) -> str | None:
    if act.kind != "drop" or act.name not in {"table", "foreign table"} or seen.is_new(act.table):
        return None
    return f"table {act.table} is dropped"


def _dropped_schema(act: Act, seen: Seen) -> str | None:
    if act.kind != "drop" or act.name not in {"schema", "owned"} or act.table is None:
        return None
    if seen.is_new_schema(act.table.name):
        return None
    what = "schema" if act.name == "schema" else "everything owned by"
    return f"{what} {act.table.name} is dropped"


def _dropped_database(act: Act, _seen: Seen) -> str | None:
    if act.kind != "drop" or act.name != "database" or act.table is None:
        return None
    return f"database {act.table.name} is dropped"


def _cascade(act: Act, seen: Seen) -> str | None:
    if act.kind not in {"drop", "drop column", "drop constraint"} or "cascade" not in act.has:
        return None
    if seen.is_new(act.table) or seen.is_new_type(act.table):
        return None
    what = f"{act.name} {act.table}" if act.kind == "drop" else f"{act.name} of {act.table}"
    return f"whatever depends on {what} is dropped with it"


def _dropped_not_null(act: Act, seen: Seen) -> str | None:
    if act.kind != "drop not null" or seen.is_new(act.table):
        return None
    return f"column {act.name} of {act.table} may be null from now on"


RULES = (
    Rule(
        id="rename-column",
        condition="RENAME COLUMN on a table that was there before the revision.",
        effect="Code that is still running, and every old instance during the deployment, asks for a column that is"
        " gone (SQLSTATE 42703). Views go on working; queries in functions do not.",
        remedy="Keep the name and change it in the code's mapping; or expand and contract: a new column, filled and"
        " kept equal, then the code reads it, then the old one is dropped.",
        finds=_renamed_column,
        bad="ALTER TABLE orders RENAME COLUMN state TO status;",
        good="CREATE VIEW orders_by_status AS SELECT id, account_id, state AS status FROM orders;",
    ),
    Rule(
        id="rename-table",
        condition="RENAME TO or SET SCHEMA on a table or view that was there before the revision.",
        effect="Code that is still running asks for a table that is gone (SQLSTATE 42P01).",
        remedy="Keep the name and change it in the code's mapping. Or rename it and leave a view with the old name in"
        " the same revision, since such a view can be written to; allow it with that as the reason, and drop the view"
        " later.",
        finds=_renamed,
        bad="ALTER TABLE orders RENAME TO purchases;",
        good="CREATE VIEW purchases AS SELECT * FROM orders;",
    ),
    Rule(
        id="rename-schema",
        condition="ALTER SCHEMA .. RENAME TO, of a schema that was there before the revision.",
        effect="Every qualified name in running code, and every search_path that names it, fails at once.",
        remedy="A new schema with views on the tables of the old one; move the tables when no code names the old one.",
        finds=_renamed_schema,
        given="CREATE SCHEMA raw; CREATE TABLE raw.events (id bigint);",
        bad="ALTER SCHEMA raw RENAME TO landing;",
        good="CREATE SCHEMA landing; CREATE VIEW landing.events AS SELECT * FROM raw.events;",
    ),
    Rule(
        id="rename-enum-value",
        condition="ALTER TYPE .. RENAME VALUE, of a type that was there before the revision.",
        effect="Code that is still running sends the old value, which the server refuses (SQLSTATE 22P02), and reads"
        " a new one that it does not know.",
        remedy="ADD VALUE with the new word, teach the code both, and change the rows in batches. An enum's value"
        " cannot be removed: the old one stays, unused.",
        finds=_renamed_label,
        given="CREATE TYPE mood AS ENUM ('glad', 'sad');",
        bad="ALTER TYPE mood RENAME VALUE 'glad' TO 'happy';",
        good="ALTER TYPE mood ADD VALUE 'happy';",
    ),
    Rule(
        id="drop-column",
        condition="DROP COLUMN on a table that was there before the revision.",
        effect="Code that is still running selects and inserts the column (SQLSTATE 42703), and what was in it is"
        " gone: a downgrade brings back an empty column.",
        remedy="Deploy code that does not name the column first (a mapped class selects all of its columns), and drop"
        " it in a later release, allowed with that as the reason. If it is NOT NULL, drop that first.",
        finds=_dropped_column,
        bad="ALTER TABLE orders DROP COLUMN state;",
        good="COMMENT ON COLUMN orders.state IS 'unused since 2.4, to be dropped in 2.5';",
    ),
    Rule(
        id="drop-table",
        condition="DROP TABLE, of a table that was there before the revision.",
        effect="Code that is still running asks for it (SQLSTATE 42P01), and its rows are gone, in a downgrade too."
        " The tables that its foreign keys lead to are locked as well.",
        remedy="Deploy code that does not use it first, and drop it in a later release, allowed with that as the"
        " reason. Revoking the privileges before shows whether someone still reads it.",
        finds=_dropped_table,
        bad="DROP TABLE orders;",
        good="REVOKE ALL ON orders FROM PUBLIC;",
    ),
    Rule(
        id="drop-schema",
        condition="DROP SCHEMA or DROP OWNED.",
        effect="With CASCADE every table in it goes, and every foreign key and view elsewhere that leads to one.",
        remedy="Drop its tables by name first, then the schema without CASCADE, allowed with a reason: what was"
        " forgotten then stops the revision.",
        finds=_dropped_schema,
        given="CREATE SCHEMA raw;",
        bad="DROP SCHEMA raw;",
        good="REVOKE ALL ON SCHEMA raw FROM PUBLIC;",
    ),
    Rule(
        id="drop-database",
        condition="DROP DATABASE.",
        effect="A whole database goes, with no way back but a backup. A revision is about the database that it runs"
        " in.",
        remedy="Leave it to whoever administers the server.",
        finds=_dropped_database,
        given="CREATE DATABASE rules_of_headstart;",
        bad="""\
-- autocommit
DROP DATABASE rules_of_headstart;
""",
        good="COMMENT ON TABLE orders IS 'archived since 2024';",
    ),
    Rule(
        id="drop-cascade",
        condition="DROP .. CASCADE, of anything that was there before the revision.",
        effect="Whatever depends on it goes too, and that is decided by what the database happens to hold, not by the"
        " revision: views, foreign keys, columns, defaults, triggers. Nothing says which, but a NOTICE.",
        remedy="Drop the dependent objects by name, then the object without CASCADE.",
        finds=_cascade,
        given="CREATE VIEW open_orders AS SELECT * FROM orders; CREATE VIEW old_orders AS SELECT * FROM open_orders;",
        bad="DROP VIEW open_orders CASCADE;",
        good="DROP VIEW old_orders; DROP VIEW open_orders;",
    ),
    Rule(
        id="drop-not-null",
        condition="DROP NOT NULL on a column that was there before the revision.",
        effect="Code that is still running reads a null where it never met one, as soon as someone writes one.",
        remedy="Deploy code that reads nulls first, or write none until it is everywhere.",
        finds=_dropped_not_null,
        severity="warn",
        bad="ALTER TABLE orders ALTER COLUMN id DROP NOT NULL;",
        good="ALTER TABLE orders ALTER COLUMN id SET DEFAULT 0;",
    ),
)
