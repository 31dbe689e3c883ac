"""Constraints that are checked against rows that are already there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.rules.model import Rule

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act
    from headstart.sql.rules.columns import Constraint, ConstraintKind
    from headstart.sql.rules.seen import Seen


def _added(act: Act, seen: Seen, kind: ConstraintKind) -> Constraint | None:
    """The constraint of this kind that is added to a table which was there before."""
    if act.kind != "add constraint" or act.constraint is None or act.constraint.kind != kind or seen.is_new(act.table):
        return None
    return act.constraint


def _shown(constraint: Constraint) -> str:
    return constraint.name or "(unnamed)"


def _new_column(act: Act, seen: Seen, word: str) -> bool:
    """Whether a column with such a constraint is added to a table which was there before."""
    return act.kind == "add column" and act.column is not None and word in act.column.has and not seen.is_new(act.table)


def _column(act: Act) -> str:
    return f"column {act.column.name if act.column else act.name} of {act.table}"


def _foreign_key(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "foreign key")
    if constraint is not None and not constraint.not_valid:
        return f"foreign key {_shown(constraint)} on {act.table} is checked while it is added"
    # A column without a default is null in every row, so that there is nothing to look up.
    if _new_column(act, seen, "references") and act.column is not None and act.column.default:
        return f"{_column(act)} comes with a foreign key and a default, which is looked up for every row"
    return None


def _check(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "check")
    if constraint is not None and not constraint.not_valid:
        return f"check {_shown(constraint)} on {act.table} is checked while it is added"
    return f"{_column(act)} comes with a CHECK" if _new_column(act, seen, "check") else None


def _domain(act: Act, seen: Seen) -> str | None:
    if act.kind != "domain constraint" or "not valid" in act.has or seen.is_new_type(act.table):
        return None
    return f"domain {act.table} gets a constraint that is checked at once, in every table that uses it"


def _validated(act: Act, seen: Seen) -> str | None:
    if act.kind != "validate constraint" or seen.is_new(act.table) or not seen.in_transaction:
        return None
    if not any(table == act.table for table, _ in seen.unchecked) and act.table not in seen.locked:
        return None
    return f"{act.name} is validated under the lock that this transaction has taken on {act.table}"


def _not_null(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "not null")
    if constraint is not None and not constraint.not_valid:
        column = next(iter(constraint.not_null))
    elif act.kind == "set not null" and not seen.is_new(act.table):
        column = act.name
    else:
        return None
    if act.table is not None and seen.is_never_null(act.table, column):
        return None
    return f"column {column} of {act.table} becomes NOT NULL without a validated CHECK ({column} IS NOT NULL)"


def _new_not_null(act: Act, seen: Seen) -> str | None:
    column = act.column
    if column is None or seen.is_new(act.table) or not {"not null", "primary key"} & column.has:
        return None
    filled = column.default or {"identity", "stored", "virtual"} & column.has or "serial" in column.type.name
    return None if filled else f"{_column(act)} is NOT NULL and has no default"


def _unique(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "unique")
    if constraint is not None and not constraint.using_index:
        return f"unique constraint {_shown(constraint)} on {act.table} builds its own index"
    return f"{_column(act)} is UNIQUE and builds its own index" if _new_column(act, seen, "unique") else None


def _primary_key(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "primary key")
    if constraint is not None and not constraint.using_index:
        return f"primary key of {act.table} builds its own index"
    return f"{_column(act)} is the PRIMARY KEY and builds its index" if _new_column(act, seen, "primary key") else None


def _exclusion(act: Act, seen: Seen) -> str | None:
    constraint = _added(act, seen, "exclude")
    return f"exclusion constraint {_shown(constraint)} on {act.table} builds its index" if constraint else None


def _attached(act: Act, seen: Seen) -> str | None:
    if act.kind != "attach partition" or act.other is None or seen.is_new(act.table) or seen.is_new(act.other):
        return None
    if seen.is_checked(act.other):
        return None
    return f"{act.other} is attached to {act.table} without a CHECK that says what it holds"


RULES = (
    Rule(
        id="foreign-key-without-not-valid",
        condition="A foreign key is added to a table that was there before, without NOT VALID; or a column with both"
        " a default and a foreign key.",
        effect="A SHARE ROW EXCLUSIVE lock on both tables while every row is looked up in the other table: nobody can"
        " write to either, for as long as the transaction lasts.",
        remedy="Add it as NOT VALID, which holds for new rows from then on, and VALIDATE CONSTRAINT in a later"
        " revision, which lets others write. Alembic: `op.create_foreign_key(..., postgresql_not_valid=True)`.",
        finds=_foreign_key,
        bad="ALTER TABLE orders ADD CONSTRAINT fk_orders_account FOREIGN KEY (account_id) REFERENCES accounts (id);",
        good="""\
ALTER TABLE orders ADD CONSTRAINT fk_orders_account FOREIGN KEY (account_id) REFERENCES accounts (id) NOT VALID;
-- next revision
ALTER TABLE orders VALIDATE CONSTRAINT fk_orders_account;
""",
    ),
    Rule(
        id="check-without-not-valid",
        condition="A CHECK is added to a table that was there before, without NOT VALID, or with a new column.",
        effect="An ACCESS EXCLUSIVE lock on the table while every row is read: nobody can read or write.",
        remedy="Add it as NOT VALID, which holds for new rows from then on, and VALIDATE CONSTRAINT in a later"
        " revision, which lets others read and write. Alembic: `op.create_check_constraint(...,"
        " postgresql_not_valid=True)`.",
        finds=_check,
        bad="ALTER TABLE orders ADD CONSTRAINT ck_orders_total CHECK (total >= 0);",
        good="""\
ALTER TABLE orders ADD CONSTRAINT ck_orders_total CHECK (total >= 0) NOT VALID;
-- next revision
ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_total;
""",
    ),
    Rule(
        id="domain-constraint-without-not-valid",
        condition="ALTER DOMAIN adds a constraint without NOT VALID, or sets NOT NULL.",
        effect="A SHARE lock on every table that has a column of the domain, while all their rows are read: nobody"
        " can write to any of them.",
        remedy="ADD CONSTRAINT .. NOT VALID, and VALIDATE CONSTRAINT in a later revision; better, a CHECK on each"
        " table.",
        finds=_domain,
        given="CREATE DOMAIN amount AS numeric; ALTER TABLE orders ADD COLUMN fee amount;",
        bad="ALTER DOMAIN amount ADD CONSTRAINT ck_amount CHECK (VALUE >= 0);",
        good="ALTER DOMAIN amount ADD CONSTRAINT ck_amount CHECK (VALUE >= 0) NOT VALID;",
    ),
    Rule(
        id="validate-in-same-transaction",
        condition="VALIDATE CONSTRAINT in a transaction that has added a NOT VALID constraint to the table, or has"
        " locked it in another way.",
        effect="The lock of the ALTER TABLE before it is held while every row is read: as if NOT VALID had been left"
        " out.",
        remedy="Validate in a later revision. Each revision has a transaction of its own.",
        finds=_validated,
        bad="""\
ALTER TABLE orders ADD CONSTRAINT ck_orders_total CHECK (total >= 0) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_total;
""",
        good="""\
ALTER TABLE orders ADD CONSTRAINT ck_orders_total CHECK (total >= 0) NOT VALID;
-- next revision
ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_total;
""",
    ),
    Rule(
        id="set-not-null-without-check",
        condition="SET NOT NULL on a column for which no validated CHECK (.. IS NOT NULL) has been seen.",
        effect="An ACCESS EXCLUSIVE lock on the table while every row is read: nobody can read or write.",
        remedy="Add CHECK (.. IS NOT NULL) NOT VALID, validate it in a second revision, then SET NOT NULL, which now"
        " needs no scan, and drop the CHECK. From Postgres 18 on ADD CONSTRAINT .. NOT NULL .. NOT VALID does the"
        " same.",
        finds=_not_null,
        bad="ALTER TABLE orders ALTER COLUMN state SET NOT NULL;",
        good="""\
ALTER TABLE orders ADD CONSTRAINT ck_orders_state CHECK (state IS NOT NULL) NOT VALID;
-- next revision
ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_state;
-- next revision
ALTER TABLE orders ALTER COLUMN state SET NOT NULL;
ALTER TABLE orders DROP CONSTRAINT ck_orders_state;
""",
    ),
    Rule(
        id="add-not-null-column-without-default",
        condition="ADD COLUMN .. NOT NULL without a default, on a table that was there before.",
        effect="It fails as soon as the table has a row (SQLSTATE 23502): on an empty test database it passes. Where"
        " it does pass, running code that does not know the column can no longer insert.",
        remedy="Give it a constant default, which costs no rewrite, or add it nullable, fill it, and set NOT NULL"
        " later.",
        finds=_new_not_null,
        fails="23502",
        bad="ALTER TABLE orders ADD COLUMN currency text NOT NULL;",
        good="ALTER TABLE orders ADD COLUMN currency text DEFAULT 'JPY' NOT NULL;",
    ),
    Rule(
        id="unique-constraint-without-index",
        condition="A UNIQUE constraint is added to a table that was there before, without USING INDEX.",
        effect="An ACCESS EXCLUSIVE lock on the table while its index is built: nobody can read or write.",
        remedy="CREATE UNIQUE INDEX CONCURRENTLY in a revision of its own, then ADD CONSTRAINT .. UNIQUE USING INDEX.",
        finds=_unique,
        bad="ALTER TABLE accounts ADD CONSTRAINT uq_accounts_name UNIQUE (name);",
        good="""\
-- autocommit
CREATE UNIQUE INDEX CONCURRENTLY uq_accounts_name ON accounts (name);
-- next revision
ALTER TABLE accounts ADD CONSTRAINT uq_accounts_name UNIQUE USING INDEX uq_accounts_name;
""",
    ),
    Rule(
        id="primary-key-without-index",
        condition="A PRIMARY KEY is added to a table that was there before, without USING INDEX.",
        effect="An ACCESS EXCLUSIVE lock on the table while its index is built: nobody can read or write.",
        remedy="CREATE UNIQUE INDEX CONCURRENTLY in a revision of its own, then ADD PRIMARY KEY USING INDEX. Columns"
        " that may still be null are made NOT NULL first: see set-not-null-without-check.",
        finds=_primary_key,
        bad="ALTER TABLE orders ADD CONSTRAINT pk_orders PRIMARY KEY (id);",
        good="""\
-- autocommit
CREATE UNIQUE INDEX CONCURRENTLY pk_orders ON orders (id);
-- next revision
ALTER TABLE orders ADD CONSTRAINT pk_orders PRIMARY KEY USING INDEX pk_orders;
""",
    ),
    Rule(
        id="exclusion-constraint",
        condition="An EXCLUDE constraint is added to a table that was there before.",
        effect="An ACCESS EXCLUSIVE lock on the table while its index is built: nobody can read or write. There is"
        " neither NOT VALID nor USING INDEX for it.",
        remedy="Make it with the table. For a table that is there: a new one with the constraint, filled in batches,"
        " and exchanged; or planned downtime, allowed with that as the reason.",
        finds=_exclusion,
        given="CREATE TABLE bookings (during tstzrange);",
        bad="ALTER TABLE bookings ADD CONSTRAINT ex_bookings EXCLUDE USING gist (during WITH &&);",
        good="CREATE TABLE bookings_2 (during tstzrange, CONSTRAINT ex_bookings EXCLUDE USING gist (during WITH &&));",
    ),
    Rule(
        id="attach-partition-without-check",
        condition="ATTACH PARTITION of a table that was there before and has no validated CHECK.",
        effect="An ACCESS EXCLUSIVE lock on the table that becomes a partition, while every row of it is read.",
        remedy="Add a CHECK that implies the partition's bounds (NOT VALID, then VALIDATE CONSTRAINT); then attach,"
        " which no longer reads the rows, and drop the CHECK. The columns of the bound have to be NOT NULL, too. A"
        " default partition needs a CHECK that excludes the new bounds, or is read as well.",
        finds=_attached,
        given="""\
CREATE TABLE events (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE events_2024 (at date NOT NULL);
INSERT INTO events_2024 VALUES ('2024-05-01');
""",
        bad="ALTER TABLE events ATTACH PARTITION events_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');",
        good="""\
ALTER TABLE events_2024 ADD CONSTRAINT ck_events_2024 CHECK (at >= '2024-01-01' AND at < '2025-01-01') NOT VALID;
-- next revision
ALTER TABLE events_2024 VALIDATE CONSTRAINT ck_events_2024;
-- next revision
ALTER TABLE events ATTACH PARTITION events_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
ALTER TABLE events_2024 DROP CONSTRAINT ck_events_2024;
""",
    ),
)
