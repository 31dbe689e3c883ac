"""Two databases exchange their names in one transaction, while no session is connected and none can connect.

ALTER DATABASE ... RENAME takes an exclusive lock on the database and then waits up to five seconds for its sessions to
go (RenameDatabase in dbcommands.c); if one stays, it fails. Meanwhile a new session waits for that lock, and then gets
the error that the database was renamed. So the renaming follows at once upon what makes the others go, and upon the end
of the session that holds the migration lock; if it is cancelled, everything is as it was.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from headstart.errors import RefusedError, RestoreFailedError
from headstart.postgres.server import close, first_line, quote

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.connection import ScriptConnection
    from headstart.settings.dsn import Dsn

#: Seconds that a session which is just ending may take before it counts as connected: less than the renaming waits.
SETTLE_TIMEOUT = 3.0
STOP = "stop the app and whatever else uses the database, or end their sessions with --end-sessions"
"""What to do about those that are connected."""
_PAUSE = 0.05
_NAMED = 5

_SESSIONS = """
select pid, coalesce(application_name, '') as application_name, usename::pg_catalog.text as user,
       client_addr::pg_catalog.text as client_addr, backend_type
from pg_catalog.pg_stat_activity
where datname = $1 and pid <> all($2::pg_catalog.int4[]) and pid <> pg_catalog.pg_backend_pid()
  and backend_type is distinct from 'autovacuum worker'
order by backend_start
"""


_TERMINATE = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.unnest($1::pg_catalog.int4[]) pid"


class Other(NamedTuple):
    """A session that is connected to a database."""

    pid: int
    application_name: str
    user: str | None
    client_addr: str | None
    backend_type: str | None

    def __str__(self) -> str:
        kind = f", {self.backend_type}" if self.backend_type not in {None, "client backend"} else ""
        name = f" {self.application_name}" if self.application_name else ""
        where = f", from {self.client_addr}" if self.client_addr else ""  # a socket's, or not shown to us
        return f"pid {self.pid}{name} (user {self.user}{where}{kind})"


async def others(conn: asyncpg.Connection, database: str, ours: Sequence[int]) -> list[Other]:
    """The sessions of a database, without `ours`."""
    return [Other(**dict(row)) for row in await conn.fetch(_SESSIONS, database, list(ours))]


async def refuse_others(conn: asyncpg.Connection, database: str, ours: Sequence[int], *, hint: str) -> None:
    """Refuse while others are connected, after a short wait for sessions that are just ending.

    Args:
        conn: to another database.
        database: that is to be renamed.
        ours: sessions of our own there.
        hint: what to do about them.

    Raises:
        RestoreFailedError: with each session (41).
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while (found := await others(conn, database, ours)) and time.monotonic() < deadline:  # noqa: ASYNC110  (no event)
        await asyncio.sleep(_PAUSE)
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise RestoreFailedError(
            f"others are connected to the database {database}: {'; '.join(map(str, found[:_NAMED]))}{more}",
            hint=hint,
            sessions=[each._asdict() for each in found],
        )


async def exchange(
    conn: ScriptConnection,
    *,
    live: str,
    restored: str,
    before: str,
    holder: ScriptConnection,
    end_sessions: bool,
    log: FilteringBoundLogger,
) -> None:
    """Rename `live` to `before`, and `restored` to `live`; either both or none.

    Args:
        conn: to another database.
        live: the name that both have in turn.
        restored: takes that name.
        before: what the one that had it is called from now on.
        holder: our session in `live` that holds the migration lock; closed right before the renaming.
        end_sessions: end other sessions, instead of refusing while there are any.
        log: receives the sessions that we end.

    Raises:
        RestoreFailedError: others are connected, or do not go (41).
        RefusedError: the role may not end them (21).
    """
    ours = [holder.get_server_pid()]
    if not end_sessions:
        await refuse_others(conn, live, ours, hint=STOP)
    await close(holder)
    await conn.execute("begin")
    if end_sessions:
        await _end(conn, live, ours, log=log)
    await _rename(conn, live, before, live)
    await _uninterrupted(_commit(conn, live, restored))


async def take_place(conn: ScriptConnection, *, live: str, restored: str) -> None:
    """Give `restored` the name of a database that is lost.

    Raises:
        RestoreFailedError: there is such a database again, or somebody is connected to the restored one (41).
    """
    await conn.execute("begin")
    await _uninterrupted(_commit(conn, live, restored))


async def _commit(conn: ScriptConnection, live: str, restored: str) -> None:
    await _rename(conn, restored, live, live)
    try:
        await conn.execute("commit")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise RestoreFailedError(
            f"the connection was lost while the databases were exchanged: which one is called {live} is not known",
            hint="list the databases (psql -l): where the name with _before_restore_ is there, they were exchanged",
        ) from error


async def _rename(conn: ScriptConnection, old: str, new: str, live: str) -> None:
    """Rename a database, or end the transaction with the server's answer as an error of ours."""
    try:
        await conn.execute(f"alter database {quote(old)} rename to {quote(new)}")
    except asyncpg.InsufficientPrivilegeError as error:
        await _roll_back(conn)
        raise RefusedError(
            f"the role may not rename the databases: {first_line(error)}",
            hint=f"grant it the role that owns {live}, and createdb (alter role ... createdb)",
            sqlstate=error.sqlstate,
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        there = await others(conn, old, ()) if await _roll_back(conn) else []
        detail = "; ".join(filter(None, [getattr(error, "detail", None), *map(str, there[:_NAMED])]))
        raise RestoreFailedError(
            f"the databases could not be exchanged: {first_line(error)}" + (f" ({detail})" if detail else ""),
            hint="see that nobody is connected to either, then restore again",
            sqlstate=getattr(error, "sqlstate", None),
        ) from error


async def _roll_back(conn: ScriptConnection) -> bool:
    """Whether the session is still there to do it; if it is not, it ends, and the server rolls back."""
    try:
        await conn.execute("rollback", timeout=SETTLE_TIMEOUT)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        conn.terminate()
        return False
    return True


async def _uninterrupted(work: Coroutine[object, object, None]) -> None:
    """Run to the end: a signal that comes now is too late, and has no effect."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    task.result()


async def _end(conn: ScriptConnection, live: str, ours: Sequence[int], *, log: FilteringBoundLogger) -> None:
    """End the sessions of others, all at once: some programs connect again in no time."""
    found = await others(conn, live, ours)
    try:
        await conn.fetch(_TERMINATE, [each.pid for each in found])
    except asyncpg.InsufficientPrivilegeError as error:
        raise RefusedError(
            f"the role may not end all of these sessions: {'; '.join(map(str, found))} ({first_line(error)})",
            hint="grant pg_signal_backend to the role of DATABASE_URL (a superuser's session only a superuser may"
            " end), or stop what is connected",
            sqlstate=error.sqlstate,
        ) from error
    for each in found:
        log.warning("session_ended", database=live, session=str(each), pid=each.pid)


def command(dsn: Dsn, *renames: tuple[str, str]) -> str:
    """A command for a shell that renames databases in one transaction.

    Args:
        dsn: of another database; its password is left to PGPASSWORD or a passfile.
        renames: each with the old and the new name.
    """
    return _psql(dsn, "; ".join(f"alter database {quote(old)} rename to {quote(new)}" for old, new in renames))


def drop_command(dsn: Dsn, database: str) -> str:
    """A command for a shell that drops a database; `dsn` as for `command`."""
    return _psql(dsn, f"drop database {quote(database)}")


def _psql(dsn: Dsn, sql: str) -> str:
    return f"psql {shlex.quote(dsn.display())} -c {shlex.quote(sql)}"
