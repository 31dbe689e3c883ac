"""What makes the server write a table anew."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from headstart.sql.rules.model import Rule

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act
    from headstart.sql.rules.columns import Column, Type
    from headstart.sql.rules.seen import Seen
    from headstart.sql.tokens import Token

# Functions that give every row the same value within one statement (pg_proc.provolatile is not v), and type names,
# whose length in parentheses looks like a call. Any other call is taken to be volatile, as CREATE FUNCTION does.
_STEADY = frozenset(
    """
    abs any array array_fill bit cast char character coalesce concat current_setting current_time current_timestamp date
    date_trunc decimal decode encode floor greatest interval json_build_array json_build_object jsonb_build_array
    jsonb_build_object least left length localtime localtimestamp lower make_date make_interval make_time
    make_timestamptz md5 now nullif numeric repeat replace right round row statement_timestamp time timestamp
    timestamptz timezone to_char to_date to_timestamp transaction_timestamp upper varbit varchar varying zone
    """.split()  # noqa: SIM905  (one screen of words, not one line for each)
)
_TEXTS = frozenset({"varchar", "text"})
# A longer length, or none, only loosens these.
_LOOSENED = frozenset({"varchar", "varbit", "timestamp", "timestamptz", "time", "timetz", "interval"})


def _volatile_call(default: tuple[Token, ...]) -> str | None:
    """The first function called that may give each row another value."""
    for token, following in pairwise(default):
        if following.text == "(" and token.kind in {"word", "quoted"}:
            name = token.text.strip('"').lower()
            if name not in _STEADY:
                return name
    return None


def is_loosened(old: Type | None, new: Type | None) -> bool:
    """Whether a change of type leaves every stored value as it is, so that no row is read or written.

    PostgreSQL manual, 'ALTER TABLE', notes: the old type is binary coercible to the new one.

    Args:
        old: the column's type, None if it is not known.
        new: the type that it gets, None if it could not be read.
    """
    if old is None or new is None or old.array or new.array:
        return False
    if old == new:
        return True
    if (old.name, new.name) == ("cidr", "inet"):
        return True
    if old.name in _TEXTS and new.name in _TEXTS:
        return _is_longer(old, new)
    if old.name == new.name == "numeric":
        # The scale is stored in no row, but rounds each.
        return not new.arguments or (
            bool(old.arguments)
            and old.arguments[0] <= new.arguments[0]
            and (*old.arguments, 0)[1] == (*new.arguments, 0)[1]
        )
    return old.name == new.name and old.name in _LOOSENED and _is_longer(old, new)


def _is_longer(old: Type, new: Type) -> bool:
    return not new.arguments or (bool(old.arguments) and old.arguments <= new.arguments)


def _added(act: Act, seen: Seen) -> Column | None:
    return None if act.kind != "add column" or seen.is_new(act.table) else act.column


def _volatile_default(act: Act, seen: Seen) -> str | None:
    column = _added(act, seen)
    call = _volatile_call(column.default) if column is not None else None
    return f"column {column.name} of {act.table} has the default {call}()" if column is not None and call else None


def _serial(act: Act, seen: Seen) -> str | None:
    column = _added(act, seen)
    if column is None or not ("identity" in column.has or column.type.name in {"serial", "bigserial", "smallserial"}):
        return None
    return f"column {column.name} of {act.table} numbers the rows that are there"


def _stored(act: Act, seen: Seen) -> str | None:
    column = _added(act, seen)
    if column is None or "stored" not in column.has:
        return None
    return f"column {column.name} of {act.table} is computed and stored for the rows that are there"


def _retyped(act: Act, seen: Seen) -> str | None:
    if act.kind != "change type" or act.table is None or seen.is_new(act.table):
        return None
    old = seen.types.get((act.table, act.name))
    if "using" not in act.has and is_loosened(old, act.type):
        return None
    was = f" from {old}" if old is not None else ""
    return f"column {act.name} of {act.table} changes its type{was} to {act.type}"


def _moved(act: Act, seen: Seen) -> str | None:
    if act.kind != "change storage" or seen.is_new(act.table):
        return None
    return f"SET {act.name.upper()} copies {act.table}"


def _compacted(act: Act, seen: Seen) -> str | None:
    if act.kind == "cluster" or (act.kind == "vacuum" and "full" in act.has):
        what = "CLUSTER" if act.kind == "cluster" else "VACUUM FULL"
        return None if seen.is_new(act.table) else f"{what} copies {act.table or 'every table'}"
    return None


RULES = (
    Rule(
        id="volatile-default",
        condition="ADD COLUMN with a default that calls a function which may give each row another value.",
        effect="The table is written anew, with all its indexes, under an ACCESS EXCLUSIVE lock. A constant, and"
        " `now()`, which is the same for all rows, cost nothing.",
        remedy="Add the column without a default, set the default for new rows, and fill the old ones in batches. A"
        " function of your own that is not volatile has to be allowed.",
        finds=_volatile_default,
        bad="ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid();",
        good="""\
ALTER TABLE orders ADD COLUMN token uuid;
ALTER TABLE orders ALTER COLUMN token SET DEFAULT gen_random_uuid();
-- next revision
-- autocommit
UPDATE orders SET token = gen_random_uuid() WHERE token IS NULL AND id BETWEEN 1 AND 1000;
""",
    ),
    Rule(
        id="add-serial-column",
        condition="ADD COLUMN of a serial type or GENERATED AS IDENTITY, on a table that was there before.",
        effect="Every row gets its number, so that the table is written anew under an ACCESS EXCLUSIVE lock.",
        remedy="Add a plain column, give it a sequence as the default of new rows, and number the old rows in batches.",
        finds=_serial,
        bad="ALTER TABLE orders ADD COLUMN number bigint GENERATED BY DEFAULT AS IDENTITY;",
        good="""\
ALTER TABLE orders ADD COLUMN number bigint;
CREATE SEQUENCE orders_number_seq OWNED BY orders.number;
ALTER TABLE orders ALTER COLUMN number SET DEFAULT nextval('orders_number_seq');
-- next revision
-- autocommit
UPDATE orders SET number = nextval('orders_number_seq') WHERE number IS NULL AND id BETWEEN 1 AND 1000;
""",
    ),
    Rule(
        id="stored-generated-column",
        condition="ADD COLUMN .. GENERATED ALWAYS AS (..) STORED, on a table that was there before.",
        effect="The expression is computed for every row: the table is written anew under an ACCESS EXCLUSIVE lock.",
        remedy="Add a plain column, keep it by a trigger, and fill the old rows in batches; or compute it in a view."
        " From Postgres 18 on a VIRTUAL column costs nothing.",
        finds=_stored,
        bad="ALTER TABLE orders ADD COLUMN tax numeric GENERATED ALWAYS AS (total * 0.1) STORED;",
        good="CREATE VIEW orders_with_tax AS SELECT *, total * 0.1 AS tax FROM orders;",
    ),
    Rule(
        id="change-column-type",
        condition="ALTER COLUMN .. TYPE, unless every value stays as it is stored: a longer varchar, varchar to text,"
        " a larger precision with the same scale. What the column was is known from the revisions before.",
        effect="The table is written anew, with all its indexes, under an ACCESS EXCLUSIVE lock; where only the check"
        " of a length is needed, every row is read. Running code may send values of the old type.",
        remedy="Expand and contract: a new column of the new type, kept by a trigger or by the code, filled in"
        " batches; then the code reads the new one; then the old one is dropped.",
        finds=_retyped,
        bad="ALTER TABLE orders ALTER COLUMN total TYPE bigint;",
        good="""\
ALTER TABLE accounts ALTER COLUMN name TYPE varchar(100);
-- next revision
ALTER TABLE orders ADD COLUMN total_in_cents bigint;
""",
    ),
    Rule(
        id="change-table-storage",
        condition="SET LOGGED, SET UNLOGGED, SET ACCESS METHOD or SET TABLESPACE.",
        effect="The table is copied under an ACCESS EXCLUSIVE lock. An unlogged table is empty after a crash, and"
        " always on a standby.",
        remedy="Make a new table with the storage wanted, fill it in batches, and exchange them; or planned downtime.",
        finds=_moved,
        bad="ALTER TABLE orders SET UNLOGGED;",
        good="CREATE UNLOGGED TABLE orders_scratch (LIKE orders);",
    ),
    Rule(
        id="vacuum-full",
        condition="VACUUM FULL or CLUSTER.",
        effect="The table is copied under an ACCESS EXCLUSIVE lock: nobody can read or write, and it needs its size"
        " again on disk.",
        remedy="Plain VACUUM frees room for new rows while others work. To shrink a file without downtime use"
        " pg_repack, outside of the revisions.",
        finds=_compacted,
        bad="""\
-- autocommit
VACUUM FULL orders;
""",
        good="""\
-- autocommit
VACUUM (ANALYZE) orders;
""",
    ),
)
