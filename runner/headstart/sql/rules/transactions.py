"""What holds locks for long, writes many rows at once, or reaches beyond the revision's own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.rules.model import Rule

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act
    from headstart.sql.rules.seen import Seen

# PostgreSQL manual, 'Explicit Locking': these keep no reader and no writer waiting.
_HARMLESS = frozenset({"access share", "row share", "row exclusive", "share update exclusive"})


def _truncated(act: Act, seen: Seen) -> str | None:
    return None if act.kind != "truncate" or seen.is_new(act.table) else f"{act.table} is emptied"


def _all_rows(act: Act, seen: Seen) -> str | None:
    if act.kind != "write" or "where" in act.has or seen.is_new(act.table):
        return None
    return f"{act.name.upper()} of {act.table} has no WHERE"


def _filled(act: Act, seen: Seen) -> str | None:
    if act.kind != "write" or not seen.in_transaction or act.table not in seen.locked:
        return None
    return f"{act.name.upper()} of {act.table} runs while this transaction keeps everyone else out of it"


def _several(act: Act, seen: Seen) -> str | None:
    table = seen.locks(act)
    if table is None or not seen.in_transaction or not seen.locked or table in seen.locked or act.kind == "drop":
        return None
    return f"{table} is locked while {', '.join(sorted(map(str, seen.locked)))} is"


def _locked(act: Act, seen: Seen) -> str | None:
    if act.kind != "lock" or act.name in _HARMLESS or seen.is_new(act.table):
        return None
    return f"{act.table} is locked in {act.name.upper()} mode"


def _disabled(act: Act, seen: Seen) -> str | None:
    if act.kind != "disable trigger" or seen.is_new(act.table):
        return None
    return f"trigger {act.name} of {act.table} is disabled"


def _new_label(act: Act, seen: Seen) -> str | None:
    if act.kind == "add enum value" or not seen.in_transaction or not seen.labels:
        return None
    used = sorted(seen.labels & seen.strings())
    return f"'{used[0]}' is used in the transaction that added it to its type" if used else None


def _control(act: Act, _seen: Seen) -> str | None:
    return f"{act.name} takes the transaction out of the runner's hands" if act.kind == "control transaction" else None


def _search_path(act: Act, _seen: Seen) -> str | None:
    if act.kind != "set search path" or "local" in act.has:
        return None
    return "search_path is set for the whole session"


RULES = (
    Rule(
        id="truncate",
        condition="TRUNCATE, of a table that was there before the revision.",
        effect="An ACCESS EXCLUSIVE lock until the transaction ends, and the rows are gone. With CASCADE every table"
        " with a foreign key to it is emptied, too, and theirs.",
        remedy="DELETE in batches, outside of the revision's transaction; or a new empty table.",
        finds=_truncated,
        bad="TRUNCATE orders;",
        good="""\
-- autocommit
DELETE FROM orders WHERE id BETWEEN 1 AND 1000;
""",
    ),
    Rule(
        id="unbatched-write",
        condition="UPDATE or DELETE without WHERE, on a table that was there before the revision.",
        effect="Every row stays locked until the transaction ends, so that whoever writes one of them waits. Every"
        " row is written once more, into the table, its indexes, the WAL and every replica.",
        remedy="Batches by ranges of the key, each in a transaction of its own, with WHERE so that a second run finds"
        " only what is left.",
        finds=_all_rows,
        bad="UPDATE orders SET state = 'done';",
        good="""\
-- autocommit
UPDATE orders SET state = 'done' WHERE state IS DISTINCT FROM 'done' AND id BETWEEN 1 AND 1000;
UPDATE orders SET state = 'done' WHERE state IS DISTINCT FROM 'done' AND id BETWEEN 1001 AND 2000;
""",
    ),
    Rule(
        id="backfill-after-ddl",
        condition="UPDATE, DELETE or MERGE on a table that was there before, in the transaction that has altered it.",
        effect="The ACCESS EXCLUSIVE lock of the ALTER TABLE is held until the rows are written: nobody can read.",
        remedy="Fill the column in the next revision, in batches.",
        finds=_filled,
        bad="""\
ALTER TABLE orders ADD COLUMN currency text;
UPDATE orders SET currency = 'JPY' WHERE currency IS NULL;
""",
        good="""\
ALTER TABLE orders ADD COLUMN currency text;
-- next revision
-- autocommit
UPDATE orders SET currency = 'JPY' WHERE currency IS NULL AND id BETWEEN 1 AND 1000;
""",
    ),
    Rule(
        id="several-tables-locked",
        condition="One transaction takes ACCESS EXCLUSIVE locks on two or more tables that were there before, other"
        " than to drop them.",
        effect="The first table is closed to everyone while the transaction waits for the second. Code that takes"
        " them in the other order deadlocks with it (SQLSTATE 40P01).",
        remedy="A revision for each table.",
        finds=_several,
        severity="warn",
        bad="""\
ALTER TABLE orders ADD COLUMN note text;
ALTER TABLE accounts ADD COLUMN note text;
""",
        good="""\
ALTER TABLE orders ADD COLUMN note text;
-- next revision
ALTER TABLE accounts ADD COLUMN note text;
""",
    ),
    Rule(
        id="lock-table",
        condition="LOCK TABLE in SHARE mode or a stronger one, which includes the default.",
        effect="Writers wait until the transaction ends, and in ACCESS EXCLUSIVE mode readers as well.",
        remedy="Leave locks to the statements that need them. Against a second runner there is the migration lock;"
        " for single rows there is SELECT .. FOR UPDATE.",
        finds=_locked,
        bad="LOCK TABLE orders;",
        good="SELECT id FROM orders WHERE id BETWEEN 1 AND 1000 FOR UPDATE;",
    ),
    Rule(
        id="disable-trigger",
        condition="ALTER TABLE .. DISABLE TRIGGER, on a table that was there before the revision.",
        effect="A SHARE ROW EXCLUSIVE lock until the transaction ends: nobody can write. Committed, it holds for"
        " every session, until someone remembers; with ALL, foreign keys are not enforced any more.",
        remedy="Let the trigger itself pass over the work: `WHEN (current_setting('shop.backfill', true) IS DISTINCT"
        " FROM 'on')` in its definition, and `SET LOCAL shop.backfill = 'on'` in the revision.",
        finds=_disabled,
        given="""\
CREATE FUNCTION keep_total() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER keep_total BEFORE UPDATE ON orders FOR EACH ROW
    WHEN (current_setting('shop.backfill', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION keep_total();
""",
        bad="ALTER TABLE orders DISABLE TRIGGER keep_total;",
        good="""\
SET LOCAL shop.backfill = 'on';
UPDATE orders SET total = 0 WHERE id = 1;
""",
    ),
    Rule(
        id="enum-value-used-in-same-transaction",
        condition="A string equal to an enum value that the same transaction has added.",
        effect="The server refuses it (SQLSTATE 55P04), and the revision fails.",
        remedy="Add the value in one revision and use it in the next.",
        finds=_new_label,
        fails="55P04",
        given="CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE days (mood mood);",
        bad="""\
ALTER TYPE mood ADD VALUE 'happy';
INSERT INTO days VALUES ('happy');
""",
        good="""\
ALTER TYPE mood ADD VALUE 'happy';
-- next revision
INSERT INTO days VALUES ('happy');
""",
    ),
    Rule(
        id="transaction-control",
        condition="BEGIN, COMMIT, ROLLBACK or PREPARE TRANSACTION in a revision.",
        effect="It ends the revision's transaction: what came before is committed without its revision being"
        " recorded, and what comes after is not taken back when it fails.",
        remedy="Take it out: each revision has its own transaction. What must run outside of one goes into `with"
        " op.get_context().autocommit_block():`, in a revision of its own. SAVEPOINT is fine.",
        finds=_control,
        bad="""\
ALTER TABLE orders ADD COLUMN note text;
COMMIT;
""",
        good="""\
SAVEPOINT before_note;
ALTER TABLE orders ADD COLUMN note text;
RELEASE SAVEPOINT before_note;
""",
    ),
    Rule(
        id="set-search-path",
        condition="SET search_path without LOCAL.",
        effect="It outlives the revision: the revisions after it look for their tables, and Alembic for its version"
        " table, somewhere else.",
        remedy="Qualify the names. Where that is not possible: SET LOCAL, which ends with the revision's transaction.",
        finds=_search_path,
        bad="SET search_path TO raw, public;",
        good="SET LOCAL search_path TO raw, public;",
    ),
)
