"""INVALID indexes: what a concurrent build that failed leaves behind.

PostgreSQL manual: 'Building Indexes Concurrently', 'pg_index', 'CREATE INDEX Progress Reporting'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncpg

REBUILD = (
    "reindex index concurrently {index}; or, if its revision is still pending, drop index concurrently {index};"
    " `headstart repair` does it"
)
"""What to do about an INVALID index."""

_COMMITTING = 0.2
"""Seconds that a commit may take."""

# Of another role's build only the pid is shown, and that it has locked the table. What is being dropped is INVALID as
# long as others still use it, and is locked itself, as only DDL does.
# To plan the other one costs more than to run this one, which mostly suffices.
_ANY_INVALID = "select exists (select from pg_catalog.pg_index where not indisvalid)"
_INVALID = """
select pg_catalog.format('%I.%I', n.nspname, c.relname) as shown,
       n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
       (select t.relname::pg_catalog.text from pg_catalog.pg_class t where t.oid = i.indrelid) as table
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not i.indisvalid and c.relkind = 'i'
  and not exists (select from pg_catalog.pg_stat_progress_create_index b where b.index_relid = i.indexrelid
      or b.index_relid is null and b.pid in (select l.pid from pg_catalog.pg_locks l where l.relation = i.indrelid))
  and not exists (select from pg_catalog.pg_locks l where l.relation = i.indexrelid and l.granted
      and l.mode in ('ShareUpdateExclusiveLock', 'AccessExclusiveLock'))
  and ($1::pg_catalog.text is null or n.nspname = $1)
order by 1
"""


class InvalidIndex(NamedTuple):
    """An index that no query can use.

    Args:
        shown: its name with its schema, as SQL quotes them.
        schema: its schema.
        name: its name.
        table: that of its table.
    """

    shown: str
    schema: str
    name: str
    table: str

    def __str__(self) -> str:
        return self.shown


async def invalid_indexes(connection: asyncpg.Connection, schema: str | None = None) -> frozenset[InvalidIndex]:
    """The INVALID indexes that nobody is building or dropping just now: what a failed concurrent build leaves.

    Args:
        connection: to the database.
        schema: the only one to look at, where others are somebody else's work.
    """
    if not await connection.fetchval(_ANY_INVALID):
        return frozenset()
    found = frozenset(InvalidIndex(*row) for row in await connection.fetch(_INVALID, schema))
    if found:  # a build that ends gives its lock back just before it is committed
        await asyncio.sleep(_COMMITTING)
        found &= {InvalidIndex(*row) for row in await connection.fetch(_INVALID, schema)}
    return found
