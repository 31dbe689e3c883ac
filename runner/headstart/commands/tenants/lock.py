"""The lock of a tenant that is a schema: it excludes a run on the whole database, but no other tenant.

The supervisor's session holds the database's gate (`postgres.lock`) shared, so that no `up`, backup or restore of
the whole database is at work meanwhile, and the gate of each tenant that is worked on alone. Each of the worker's
sessions holds the tenant's work key, shared: as there, no other runner begins before it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from hashlib import blake2b

import asyncpg
from structlog.typing import FilteringBoundLogger

from headstart.postgres.connection import ScriptConnection
from headstart.postgres.lock import ALONE, GATE, UNLOCK, WORK, poll
from headstart.steps.run import Run
from headstart.steps.stage import Stage

_SHARED = "select pg_catalog.pg_try_advisory_lock_shared($1::pg_catalog.int8)"
_FREE = (
    "select case when pg_catalog.pg_try_advisory_lock($1::pg_catalog.int8)"
    " then pg_catalog.pg_advisory_unlock($1::pg_catalog.int8) else false end"
)


def gate_of(schema: str) -> int:
    """The key that the supervisor's session holds during the work on a tenant."""
    return _key(f"headstart migration lock, schema {schema}")


def work_of(schema: str) -> int:
    """The key that each of the worker's sessions holds, shared."""
    return _key(f"headstart migration lock, work, schema {schema}")


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


async def share(connection: ScriptConnection, *, timeout: float, log: FilteringBoundLogger) -> None:
    """Exclude runs on the whole database for as long as this session lives.

    Args:
        connection: outside a transaction.
        timeout: seconds that another may still hold it.
        log: receives who holds it, at once and then every ten seconds.

    Raises:
        LockNotObtainedError: the time ran out (30).
    """
    deadline = time.monotonic() + timeout
    await poll(connection, _SHARED, GATE, deadline, log)
    await poll(connection, _FREE, WORK, deadline, log)  # a dead runner may have left sessions that still work


@contextlib.asynccontextmanager
async def held(run: Run, connection: ScriptConnection, schema: str) -> AsyncIterator[None]:
    """Hold a tenant's lock.

    Args:
        run: the tenant's; its log receives who else holds the lock, at once and then every ten seconds.
        connection: that shares the database's gate, outside a transaction.
        schema: the tenant's.

    Raises:
        LockNotObtainedError: the time ran out (30).
        NotReadyError: the connection was lost meanwhile (20).
    """
    started = time.monotonic()
    deadline = started + run.settings.lock_timeout
    with run.record.timed(Stage.LOCK):
        await poll(connection, ALONE, gate_of(schema), deadline, run.log)
    try:
        with run.record.timed(Stage.LOCK):
            await poll(connection, _FREE, work_of(schema), deadline, run.log)
            run.log.info("lock_obtained", waited_seconds=time.monotonic() - started)
        yield
    finally:
        # A session that cannot be asked any more takes the lock with it when it ends.
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(1):
                await connection.fetchval(UNLOCK, gate_of(schema))
