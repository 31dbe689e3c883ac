"""A second connection that watches the first: who blocks it, how far it is, what it left behind.

PostgreSQL manual: 'pg_blocking_pids', 'Progress Reporting', 'Building Indexes Concurrently'.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from headstart import remedies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from headstart.script_connection import ScriptConnection

SPEAK = 10.0
"""Seconds after which long work says that it is still at it."""

_BLOCKERS = """
select b.pid, b.application_name, b.usename::pg_catalog.text as user, b.client_addr::pg_catalog.text as client_addr,
       b.state, pg_catalog.left(b.query, 200) as query,
       extract(epoch from pg_catalog.clock_timestamp() - b.xact_start)::pg_catalog.float8 as transaction_seconds
from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1::pg_catalog.int4)) as blocking(pid)
join pg_catalog.pg_stat_activity b using (pid)
order by b.xact_start
"""

_INVALID = """
select pg_catalog.format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where not i.indisvalid and c.relkind = 'i'
  and i.indexrelid not in (select index_relid from pg_catalog.pg_stat_progress_create_index)
  and ($1::pg_catalog.text is null or n.nspname = $1)
order by 1
"""

_PROGRESS = """
select phase, blocks_done, blocks_total, tuples_done, tuples_total, lockers_total, lockers_done
from pg_catalog.pg_stat_progress_create_index where pid = $1
"""


_PASSWORD = re.compile(r"(password\s+)'(?:[^']|'')*'", re.IGNORECASE)


def summary(statement: str, length: int = 500) -> str:
    """A statement as a message shows it: on one line, cut, and without a role's password."""
    text = _PASSWORD.sub(r"\1'***'", " ".join(statement.split()))
    return text if len(text) <= length else text[: length - 3] + "..."


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """A session that holds a lock which a statement of ours waits for."""

    pid: int
    application_name: str
    user: str | None
    client_addr: str | None
    state: str | None
    query: str
    transaction_seconds: float | None

    def __str__(self) -> str:
        since = (
            f", in a transaction for {self.transaction_seconds:.0f} s" if self.transaction_seconds is not None else ""
        )
        name = f" {self.application_name}" if self.application_name else ""
        return f"pid {self.pid}{name} (user {self.user}, {self.state}{since}): {' '.join(self.query.split())}"


async def blockers(connection: asyncpg.Connection, pid: int) -> list[Blocker]:
    """Which sessions the backend `pid` waits for at this moment."""
    rows = await connection.fetch(_BLOCKERS, pid)
    return [Blocker(**{**dict(row), "query": row["query"] or ""}) for row in rows]


async def invalid_indexes(connection: asyncpg.Connection, schema: str | None = None) -> frozenset[str]:
    """The INVALID indexes that nobody is building just now: what a failed concurrent build leaves.

    Args:
        connection: to the database.
        schema: the only one to look at, where others are somebody else's work.
    """
    return frozenset(row[0] for row in await connection.fetch(_INVALID, schema))


class Activity:
    """What the migration is doing now; written by the bridge, read by the watcher."""

    def __init__(self) -> None:
        self.revision: str | None = None
        self.statement: str | None = None
        self.pid: int | None = None
        self.since = 0.0
        self.blockers: list[Blocker] = []

    def begin(self, statement: str, pid: int | None) -> None:
        """A statement starts, in the backend `pid`."""
        self.statement, self.pid, self.since = statement, pid, time.monotonic()

    def end(self) -> None:
        """It has returned."""
        self.statement = None


async def watch(
    activity: Activity,
    connect: Callable[[], Awaitable[ScriptConnection]],
    *,
    pace: float,
    log: FilteringBoundLogger,
) -> None:
    """Until cancelled: notice who blocks a statement that takes long, and say every ten seconds what is going on.

    Connects only when a statement has been running for longer than one pace.

    Args:
        activity: what is being done.
        connect: makes the second connection.
        pace: seconds between two looks; well below the table lock timeout, or the blockers are gone before the look.
        log: gets `statement_running` and `statement_blocked`.
    """
    connection: ScriptConnection | None = None
    spoke = time.monotonic()
    watched = 0.0
    try:
        while True:
            await asyncio.sleep(pace)
            statement = activity.statement
            if statement is None or activity.pid is None:
                continue
            if activity.since != watched:
                watched, spoke = activity.since, activity.since
                continue
            try:
                if connection is None or connection.is_closed():
                    connection = await connect()
                found = await blockers(connection, activity.pid)
                new = {each.pid for each in found} - {each.pid for each in activity.blockers}
                activity.blockers = found or activity.blockers
                if new:
                    log.warning("statement_blocked", revision=activity.revision, blockers=[str(each) for each in found])
                if time.monotonic() - spoke >= SPEAK:
                    spoke = time.monotonic()
                    hint = remedies.of_slowness(statement)
                    log.info(
                        "statement_running",
                        revision=activity.revision,
                        statement=summary(statement),
                        running_seconds=spoke - activity.since,
                        blockers=[str(each) for each in found],
                        progress=await _progress(connection, activity.pid),
                        **({"hint": hint} if hint else {}),
                    )
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                # Watching is a courtesy: without a free connection slot the migration goes on unwatched, and says so.
                log.info("watch_unavailable", error=type(error).__name__, sqlstate=getattr(error, "sqlstate", None))
                await asyncio.sleep(SPEAK)
    finally:
        if connection is not None:
            connection.drop()


async def _progress(connection: asyncpg.Connection, pid: int) -> dict[str, Any] | None:
    row = await connection.fetchrow(_PROGRESS, pid)
    return dict(row) if row is not None else None
