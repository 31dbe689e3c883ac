"""After a failure: what is recorded, and what the failed revision has committed, once its sessions are gone.

It is asked over a new session if the supervisor's own is gone: the report must not guess.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from headstart.errors import HeadstartError, InterruptedMigrationError
from headstart.postgres.readiness import wait_until_ready
from headstart.postgres.server import close
from headstart.postgres.sessions import gone
from headstart.steps.verify import read

if TYPE_CHECKING:
    from headstart.postgres.readiness import Ready
    from headstart.postgres.version_table import Place
    from headstart.steps.committed import Committed
    from headstart.steps.run import Run

ALIVE = 2.0
"""Seconds that the supervisor's own session gets to answer."""

NO_ANSWER = (HeadstartError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a server that cannot be asked raises."""


async def recorded(
    run: Run, ready: Ready, place: Place, backends: Sequence[int], *, timeout: float
) -> tuple[str, ...] | None:
    """What is recorded once the worker's sessions are gone; None, and a warning, where the server does not say.

    Args:
        run: this run.
        ready: the supervisor's session.
        place: the version table.
        backends: pids of the worker's sessions.
        timeout: seconds that a server which went away gets to come back, and the sessions to end.
    """
    try:
        async with session(run, ready, timeout) as connection:
            if not await gone(connection, backends, timeout=timeout):
                raise InterruptedMigrationError("the worker's session is still there")
            return await read(connection, place)
    except NO_ANSWER as unknown:
        hint = "`headstart status` says where the database is"
        run.log.warning("revision_unknown", cause=str(unknown), hint=hint)
        return None


async def leftovers(run: Run, ready: Ready, committed: Committed, path: str) -> list[str]:
    """What the failed revision has committed all the same; nothing, and a warning, where the server does not say.

    Args:
        run: this run.
        ready: the supervisor's session.
        committed: what the revision may have committed.
        path: its file.
    """
    try:
        async with session(run, ready, ALIVE) as connection:
            return await committed.leftovers(connection, path, run.schema)
    except NO_ANSWER as unknown:
        hint = "see what the failed revision has committed by itself"
        run.log.warning("leftovers_unknown", cause=str(unknown), hint=hint)
        return []


@contextlib.asynccontextmanager
async def session(run: Run, ready: Ready, timeout: float) -> AsyncIterator[Any]:
    """The supervisor's own session if it answers, else another.

    Args:
        run: this run.
        ready: the supervisor's session; it is ended if it does not answer.
        timeout: seconds that a server which went away, or its standby, gets to answer.

    Raises:
        NotReadyError, RefusedError, UnsuitableServerError: as `wait_until_ready` (20, 21, 22).
    """
    if await _answers(ready.connection):
        yield ready.connection
        return
    ready.connection.terminate()  # it may be in the middle of a question that was given up
    again = await wait_until_ready(
        ready.everywhere, timeout=timeout, application_name=run.application_name, log=run.log
    )
    try:
        yield again.connection
    finally:
        await close(again.connection)


async def _answers(connection: asyncpg.Connection[Any]) -> bool:
    with contextlib.suppress(*NO_ANSWER):
        async with asyncio.timeout(ALIVE):
            await connection.fetchval("select 1")
        return True
    return False
