"""Indexes, and what else can be done concurrently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.rules.model import Rule

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act
    from headstart.sql.rules.seen import Seen


def _built(act: Act, seen: Seen) -> str | None:
    if act.kind != "create index" or {"concurrently", "only"} & act.has or seen.is_new(act.table):
        return None
    return f"index {act.name or '(unnamed)'} on {act.table} is built without CONCURRENTLY"


def _dropped(act: Act, seen: Seen) -> str | None:
    if act.kind != "drop" or act.name != "index" or "concurrently" in act.has:
        return None
    return None if seen.is_new(seen.table_of(act.table)) else f"index {act.table} is dropped without CONCURRENTLY"


def _rebuilt(act: Act, seen: Seen) -> str | None:
    if act.kind != "reindex" or "concurrently" in act.has or act.name == "system":
        return None
    new = seen.is_new(act.table) or seen.is_new(seen.table_of(act.table))
    return None if new else f"REINDEX {act.name.upper()} {act.table} runs without CONCURRENTLY"


def _concurrent_in_transaction(act: Act, seen: Seen) -> str | None:
    concurrent = "concurrently" in act.has and act.kind != "refresh"
    if not seen.in_transaction or not (concurrent or "alone" in act.has):
        return None
    what = "CONCURRENTLY" if concurrent else " ".join(seen.statement.split()[:2]).upper()
    return f"{what} cannot run in a transaction"


def _if_not_exists(act: Act, _seen: Seen) -> str | None:
    if act.kind != "create index" or not {"concurrently", "if not exists"} <= act.has:
        return None
    return f"IF NOT EXISTS takes an INVALID {act.name} for a finished one"


def _refreshed(act: Act, seen: Seen) -> str | None:
    if act.kind != "refresh" or "concurrently" in act.has or act.table is None:
        return None
    if seen.is_new(act.table) or act.table in seen.empty_views:
        return None
    return f"materialized view {act.table} is refreshed without CONCURRENTLY"


def _detached(act: Act, seen: Seen) -> str | None:
    if act.kind != "detach partition" or "concurrently" in act.has or seen.is_new(act.table):
        return None
    return f"partition {act.other} is detached from {act.table} without CONCURRENTLY"


RULES = (
    Rule(
        id="index-not-concurrent",
        condition="CREATE INDEX without CONCURRENTLY on a table that was there before the revision.",
        effect="A SHARE lock on the table until the transaction ends: every INSERT, UPDATE and DELETE waits while the"
        " whole table is read and sorted, and for the rest of the revision.",
        remedy="Build it with CONCURRENTLY in an `autocommit_block()`, in a revision of its own: with Alembic"
        " `op.create_index(..., postgresql_concurrently=True)`. On a partitioned table: CREATE INDEX ON ONLY the"
        " parent, an index CONCURRENTLY on each partition, then ALTER INDEX .. ATTACH PARTITION.",
        finds=_built,
        bad="CREATE INDEX ix_orders_account_id ON orders (account_id);",
        good="""\
-- autocommit
CREATE INDEX CONCURRENTLY ix_orders_account_id ON orders (account_id);
""",
    ),
    Rule(
        id="drop-index-not-concurrent",
        condition="DROP INDEX without CONCURRENTLY on a table that was there before the revision.",
        effect="An ACCESS EXCLUSIVE lock on the table until the transaction ends. The drop itself is quick, but while"
        " it waits for the queries that are running, every new one waits behind it.",
        remedy="DROP INDEX CONCURRENTLY in an `autocommit_block()`: `op.drop_index(..., postgresql_concurrently=True)`."
        " An index on a partitioned table can only be dropped the short way.",
        finds=_dropped,
        given="CREATE INDEX ix_orders_state ON orders (state);",
        bad="DROP INDEX ix_orders_state;",
        good="""\
-- autocommit
DROP INDEX CONCURRENTLY ix_orders_state;
""",
    ),
    Rule(
        id="reindex-not-concurrent",
        condition="REINDEX without CONCURRENTLY.",
        effect="A SHARE lock on the table and an ACCESS EXCLUSIVE lock on the index while it is built anew: writers"
        " wait, and so do readers, whose plans have to look at every index of the table.",
        remedy="REINDEX INDEX CONCURRENTLY in an `autocommit_block()`.",
        finds=_rebuilt,
        given="CREATE INDEX ix_orders_state ON orders (state);",
        bad="REINDEX INDEX ix_orders_state;",
        good="""\
-- autocommit
REINDEX INDEX CONCURRENTLY ix_orders_state;
""",
    ),
    Rule(
        id="concurrent-in-transaction",
        condition="CREATE INDEX, DROP INDEX, REINDEX or DETACH PARTITION with CONCURRENTLY, VACUUM, or the making of"
        " a database, in the revision's transaction.",
        effect="The server refuses it (SQLSTATE 25001), and the revision fails.",
        remedy="Put it into `with op.get_context().autocommit_block():`, in a revision of its own, since the block"
        " commits what comes before it.",
        finds=_concurrent_in_transaction,
        fails="25001",
        bad="CREATE INDEX CONCURRENTLY ix_orders_account_id ON orders (account_id);",
        good="""\
-- autocommit
CREATE INDEX CONCURRENTLY ix_orders_account_id ON orders (account_id);
""",
    ),
    Rule(
        id="concurrent-index-if-not-exists",
        condition="CREATE INDEX CONCURRENTLY with IF NOT EXISTS.",
        effect="A concurrent build that fails leaves an INVALID index, which no query uses but every write maintains."
        " When the revision runs again, IF NOT EXISTS sees a name that is taken, and passes it off as done.",
        remedy="DROP INDEX CONCURRENTLY IF EXISTS first, then build without IF NOT EXISTS. Both can be repeated.",
        finds=_if_not_exists,
        bad="""\
-- autocommit
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_orders_state ON orders (state);
""",
        good="""\
-- autocommit
DROP INDEX CONCURRENTLY IF EXISTS ix_orders_state;
CREATE INDEX CONCURRENTLY ix_orders_state ON orders (state);
""",
    ),
    Rule(
        id="refresh-not-concurrent",
        condition="REFRESH MATERIALIZED VIEW without CONCURRENTLY, on a view that has been filled.",
        effect="An ACCESS EXCLUSIVE lock on the view until the transaction ends: whoever reads it waits while its"
        " query runs.",
        remedy="REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index over whole columns of the view.",
        finds=_refreshed,
        given="""\
CREATE MATERIALIZED VIEW sales AS SELECT account_id, sum(total) FROM orders GROUP BY account_id;
CREATE UNIQUE INDEX uq_sales_account_id ON sales (account_id);
""",
        bad="REFRESH MATERIALIZED VIEW sales;",
        good="REFRESH MATERIALIZED VIEW CONCURRENTLY sales;",
    ),
    Rule(
        id="detach-partition-not-concurrent",
        condition="DETACH PARTITION without CONCURRENTLY.",
        effect="An ACCESS EXCLUSIVE lock on the whole partitioned table until the transaction ends.",
        remedy="DETACH PARTITION .. CONCURRENTLY in an `autocommit_block()`; where the table has a default partition,"
        " that is not possible.",
        finds=_detached,
        given="""\
CREATE TABLE events (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
""",
        bad="ALTER TABLE events DETACH PARTITION events_2023;",
        good="""\
-- autocommit
ALTER TABLE events DETACH PARTITION events_2023 CONCURRENTLY;
""",
    ),
)
