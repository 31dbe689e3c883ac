"""The lock of a tenant that is a schema: tenants of one database do not exclude each other, but who has all of it does.

The session that works on a tenant holds the tenant's own gate alone, and the database's (see `headstart.lock`) shared,
so that no `up`, backup or restore of the whole database is at work meanwhile. A session that env.py has opened by
itself holds the tenant's work key, shared: as there, nobody gets in before it has gone.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from headstart.lock import ALONE, GATE, UNLOCK, poll

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.script_connection import ScriptConnection

_SHARED = "select pg_catalog.pg_try_advisory_lock_shared($1::pg_catalog.int8)"


def gate_of(schema: str) -> int:
    """What the session that works on a tenant holds."""
    return _key(f"headstart migration lock, schema {schema}")


def work_of(schema: str) -> int:
    """What a session of env.py's own holds, shared."""
    return _key(f"headstart migration lock, work, schema {schema}")


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


async def take(connection: ScriptConnection, schema: str, *, timeout: float, log: FilteringBoundLogger) -> None:
    """Take a tenant's lock, for as long as this session lives.

    Args:
        connection: outside a transaction; the one that is to do the work.
        schema: the tenant's.
        timeout: seconds that others may still hold it.
        log: told who holds it, at once and then every ten seconds.

    Raises:
        LockNotObtainedError: the time ran out (30).
        NotReadyError: the connection was lost meanwhile (20).
    """
    started = time.monotonic()
    work = work_of(schema)
    # The database's gate comes last: who waits for a tenant keeps nobody out of the rest.
    for query, key in ((ALONE, gate_of(schema)), (ALONE, work), (_SHARED, GATE)):
        await poll(connection, query, key, started + timeout, log)
        if key == work:  # nobody can take it anew: the tenant's gate is ours
            await connection.fetchval(UNLOCK, work)
    log.info("lock_obtained", waited_seconds=time.monotonic() - started)


async def share(connection: ScriptConnection) -> None:
    """Keep the database's gate from those who want all of it, for as long as this session lives.

    Args:
        connection: that holds the gate alone now, or nobody does.
    """
    await connection.fetchval("select pg_catalog.pg_advisory_lock_shared($1::pg_catalog.int8)", GATE)
