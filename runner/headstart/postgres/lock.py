"""The migration lock: session advisory locks, polled, never awaited inside the server.

Two keys. The supervisor's session holds the *gate* from before the backup until the end. Each session of env.py holds
the *work* key, shared. Whoever gets the gate waits until nobody holds the work key: if a supervisor dies while one of
its env.py sessions still works, everybody else stays out until that session has ended too.

Polling, because a session that waits inside `pg_advisory_lock` holds a snapshot that CREATE INDEX CONCURRENTLY waits
for.

An operator finds the holder by hand with `HOLDER` below. PostgreSQL manual, 'Advisory Locks' and 'pg_locks'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from headstart.errors import HeadstartError, InterruptedMigrationError, LockNotObtainedError
from headstart.postgres.diagnosis import is_lost, lost

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.connection import ScriptConnection


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


GATE = _key("headstart migration lock")
WORK = _key("headstart migration lock, work")
TENANTS = _key("headstart migration lock, work on a tenant")
"""Fixed keys: an advisory lock belongs to one database already, and two projects in one database, each with a version
table of its own, must not migrate at once either, or one would dump while the other migrates."""

HOLDER = """
select a.pid, coalesce(a.application_name, '') as application_name, a.client_addr::pg_catalog.text as client_addr,
       a.usename::pg_catalog.text as user,
       coalesce(extract(epoch from pg_catalog.clock_timestamp() - a.backend_start), 0)::pg_catalog.float8
       as connected_seconds
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
  and (l.classid::pg_catalog.int8 << 32 | l.objid::pg_catalog.int8) = any ($1::pg_catalog.int8[])
order by a.backend_start
"""

ALONE = "select pg_catalog.pg_try_advisory_lock($1::pg_catalog.int8)"
UNLOCK = "select pg_catalog.pg_advisory_unlock($1::pg_catalog.int8)"

CHECKS_MISSED = 3
"""Checks in a row that may get no answer before an idle lock connection counts as lost."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The session that holds the migration lock."""

    pid: int
    application_name: str
    client_addr: str | None
    user: str | None
    connected_seconds: float

    def __str__(self) -> str:
        where = f" from {self.client_addr}" if self.client_addr else ""
        who = self.application_name or "a session without a name"
        return f"{who} (pid {self.pid}, user {self.user}{where}, connected for {self.connected_seconds:.0f} s)"


async def holders(connection: asyncpg.Connection, keys: Sequence[int] = (GATE, WORK, TENANTS)) -> list[Holder]:
    """Who holds the migration lock of this database now, or what other keys are asked for."""
    rows = await connection.fetch(HOLDER, list(keys))
    return list({row["pid"]: Holder(**row) for row in rows}.values())  # one may hold several keys


@contextlib.asynccontextmanager
async def migration_lock(
    connection: ScriptConnection, *, timeout: float, log: FilteringBoundLogger
) -> AsyncIterator[None]:
    """Hold the migration lock on `connection`.

    Args:
        connection: outside a transaction, so that a waiter holds no snapshot.
        timeout: seconds that another runner may still hold it.
        log: gets the holder, at once and then every ten seconds.

    Raises:
        LockNotObtainedError: the time ran out; the line names the holder (exit 30).
        LostInTheQueueError: the connection was lost meanwhile (exit 20).
    """
    started = time.monotonic()
    await poll(connection, ALONE, GATE, started + timeout, log)
    try:
        # The gate is ours. Nobody can take a work key anew now: wait for what a dead runner may have left working.
        for key in (WORK, TENANTS):
            await poll(connection, ALONE, key, started + timeout, log)
            await connection.fetchval(UNLOCK, key)
        log.info("lock_obtained", waited_seconds=time.monotonic() - started)
        yield
    finally:
        await _release(connection)


async def poll(connection: ScriptConnection, query: str, key: int, deadline: float, log: FilteringBoundLogger) -> None:
    """Ask for a key again and again; nothing waits inside the server.

    Args:
        connection: outside a transaction.
        query: tries to take `$1`, and returns whether it did.
        key: what it takes.
        deadline: until when, by the monotonic clock.
        log: gets the holder.

    Raises:
        LockNotObtainedError: it is held until then (30).
        LostInTheQueueError: the connection was lost meanwhile (20).
    """
    import tenacity  # here, because a no-op takes no lock

    keys = (GATE, WORK, TENANTS) if key in {GATE, WORK, TENANTS} else (key,)
    reported = float("-inf")

    async def report_holders(_: tenacity.RetryCallState) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= 8:  # noqa: PLR2004  (seconds: long work reports at least every ten)
            reported = now
            for holder in await holders(connection, keys):
                log.info("lock_waiting", holder=str(holder), holder_pid=holder.pid, left_seconds=deadline - now)

    jitter = tenacity.wait_random_exponential(multiplier=0.05, max=1, min=0.02)
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_delay(max(deadline - time.monotonic(), 0.0)),
        wait=lambda state: min(jitter(state), max(deadline - time.monotonic(), 0.0)),  # and once more at the deadline
        retry=tenacity.retry_if_result(lambda taken: not taken),
        before_sleep=report_holders,
    )
    try:
        try:
            await retrying(connection.fetchval, query, key)
        except tenacity.RetryError:
            found = await holders(connection, (key,))
        else:
            return
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if not is_lost(error):
            raise
        raise lost(error) from error
    named = "; ".join(map(str, found)) or "a session that has just left"
    ends = f" or end it ({'; '.join(f'select pg_terminate_backend({each.pid})' for each in found)})" if found else ""
    raise LockNotObtainedError(
        f"the migration lock is held by {named}", hint=f"wait for it{ends}, or raise HEADSTART_LOCK_TIMEOUT"
    )


async def _release(connection: ScriptConnection) -> None:
    """Unlock; if the session cannot be asked any more, end it, since its lock ends with it."""
    if connection.is_closed():
        return
    try:
        async with asyncio.timeout(5):
            if connection.is_in_transaction():
                await connection.execute("rollback")
            await connection.fetchval(UNLOCK, GATE)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


@contextlib.asynccontextmanager
async def stop_if_lost(
    connection: ScriptConnection, error: type[HeadstartError] = InterruptedMigrationError
) -> AsyncIterator[Callable[[], Awaitable[dict[str, object]]]]:
    """Run the block only as long as the lock's connection lives; end it at once with an error when that dies.

    For work that the lock guards but that does not run on its connection: the dump. The block is given a function
    to call every few seconds, when nothing else uses the connection; it notices a server that is gone without a
    word.

    Args:
        connection: that holds the lock.
        error: what a lost connection means to the block.

    Raises:
        HeadstartError: of that class: the connection was lost.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine runs in a task)
    watch = _Watch(connection, task)
    connection.add_termination_listener(watch.give_up)
    try:
        yield watch.check
    except asyncio.CancelledError:
        if not watch.lost:
            raise
        task.uncancel()
        raise error(
            "the session that holds the migration lock was lost; nothing was changed",
            hint="see why the server ended it (its log says), then run again",
        ) from None
    except Exception:
        if watch.lost:  # the block had its own error by then: what was to end it is not to end what follows
            task.uncancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        raise
    finally:
        watch.over = True
        if not connection.is_closed():
            connection.remove_termination_listener(watch.give_up)


class _Watch:
    """Cancels a task when a connection is lost.

    Attributes:
        lost: it was, and the task is cancelled.
        over: the task has gone on to something else.
    """

    def __init__(self, connection: ScriptConnection, task: asyncio.Task[Any]) -> None:
        self._connection = connection
        self._task = task
        self._missed = 0
        self.lost = self.over = False

    def give_up(self, *_: object) -> None:
        """It is lost."""
        if not (self.lost or self.over):
            self.lost = True
            self._task.cancel()

    async def check(self) -> dict[str, object]:
        """Ask whether it is still there; nothing else uses it meanwhile."""
        try:
            async with asyncio.timeout(1):
                await self._connection.fetchval("select 1")
            self._missed = 0
        except TimeoutError:
            self._missed += 1
            if self._missed == CHECKS_MISSED:
                self.give_up()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.give_up()
        return {}
