"""CREATE and DROP DATABASE: both wait for a checkpoint, which takes minutes on a slow disk.

So their time says nothing about whether the server is still there. Another session says it.
PostgreSQL manual, 'CREATE DATABASE', 'CHECKPOINT'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from headstart.postgres.server import close

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection

Another = Callable[[], Awaitable["ScriptConnection"]]
"""Opens another session on the same server."""

LIMIT = 600.0
"""Seconds that such a statement may take."""

ASK_EVERY = 20.0
"""Seconds between two questions whether it is still at work: a silent server is to be noticed within a minute."""

ANSWER = 10.0
"""Seconds that the server gets for the question, over a session that is opened for it."""

DELIVERY = 2.0
"""Seconds that the answer to a statement which has just ended may be on its way."""

_ACTIVE = """
select exists (select from pg_catalog.pg_stat_activity where pid = $1 and state = 'active')
"""


async def execute(conn: ScriptConnection, statement: str, another: Another) -> None:
    """Run a statement that may take minutes; if the server falls silent meanwhile, the connection is ended.

    Args:
        conn: that runs it.
        statement: CREATE DATABASE or DROP DATABASE.
        another: opens the session that asks.

    Raises:
        TimeoutError: it has not ended within the limit, and was cancelled.
        asyncpg.PostgresError: the server refused it, or (ConnectionDoesNotExistError) is gone.
    """
    watch = asyncio.create_task(_end_if_silent(conn, another))
    try:
        await conn.execute(statement, timeout=LIMIT)
    except TimeoutError as error:
        raise TimeoutError(f"the server has not done it within {LIMIT:.0f} s") from error
    finally:
        watch.cancel()
        await asyncio.wait([watch])


async def _end_if_silent(conn: ScriptConnection, another: Another) -> None:
    pid, active = conn.get_server_pid(), True
    while active:
        await asyncio.sleep(ASK_EVERY)
        active = await _is_active(pid, another)
    await asyncio.sleep(DELIVERY)
    conn.terminate()


async def _is_active(pid: int, another: Another) -> bool:
    """Whether the server says that the session is at work; False if it says nothing."""
    try:
        async with asyncio.timeout(ANSWER):
            asking = await another()
            try:
                return bool(await asking.fetchval(_ACTIVE, pid))
            finally:
                await close(asking)
    except asyncpg.PostgresError:
        return True  # it is there, and has no session to spare
    except (OSError, asyncpg.InterfaceError):
        return False
