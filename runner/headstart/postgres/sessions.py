"""Ends sessions of others in the server. PostgreSQL manual: 'Server Signaling Functions', 'pg_stat_activity'."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWERED = 1.0
"""Seconds that the server gets to answer that it has signalled sessions."""
GONE = 30.0
"""Seconds that the server gets to end the sessions of a process that is gone."""
HELD = 3.0
"""Seconds after which a session that is still there is ended: a child of env.py's may hold its socket."""

_CANCEL = "select pg_catalog.pg_cancel_backend(pid) from pg_catalog.unnest($1::pg_catalog.int4[]) pid"
_TERMINATE = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.unnest($1::pg_catalog.int4[]) pid"
_THERE = "select exists(select from pg_catalog.pg_stat_activity where pid = any($1::pg_catalog.int4[]))"


async def cancel(connection: asyncpg.Connection[Any] | None, backends: Sequence[int]) -> bool:
    """Cancel the statements of sessions.

    Args:
        connection: the supervisor's own session; None if there is none. One on which the server is silent is given up.
        backends: the sessions' pids.

    Returns:
        Whether the server has answered.
    """
    return await _signal(connection, _CANCEL, backends)


async def terminate(connection: asyncpg.Connection[Any] | None, backends: Sequence[int]) -> bool:
    """End sessions. As `cancel`."""
    return await _signal(connection, _TERMINATE, backends)


async def gone(connection: asyncpg.Connection[Any], backends: Sequence[int], *, timeout: float = GONE) -> bool:
    """Wait until the server has ended sessions, and have it end what stays; only then is what is committed certain.

    Args:
        connection: the supervisor's own session.
        backends: their pids.
        timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    held = deadline - timeout + min(HELD, timeout / 2)
    while backends and await connection.fetchval(_THERE, backends):
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() >= held:
            held = deadline
            await connection.fetch(_TERMINATE, backends)
        await asyncio.sleep(0.02)
    return True


async def _signal(connection: asyncpg.Connection[Any] | None, query: str, backends: Sequence[int]) -> bool:
    if connection is None or connection.is_closed() or not backends:
        return False
    try:
        async with asyncio.timeout(ANSWERED):
            await connection.fetch(query, backends)
    except TimeoutError:
        connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass
    else:
        return True
    return False
