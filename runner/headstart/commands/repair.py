"""Rebuild, or drop, the INVALID indexes that the project's own revisions have left.

PostgreSQL manual: 'REINDEX', 'Rebuilding Indexes Concurrently'; 'DROP INDEX'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg

from headstart.errors import VerificationFailedError
from headstart.postgres.diagnosis import is_lost
from headstart.postgres.server import first_line
from headstart.steps.compare import Pending, Undetermined
from headstart.steps.connect import beside, connected, find, locked
from headstart.steps.indexes import left_invalid, report_invalid, require_valid, way_out
from headstart.steps.stage import Stage
from headstart.steps.watch import Watch
from headstart.steps.work import Work
from headstart.worker.messages import StatementStarted

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run

LAST_LOOK = 1.0
"""Seconds for a look at what stays after an interruption."""


async def repair(run: Run, *, dry_run: bool) -> None:
    """Say what is to be done about each INVALID index that a revision has left; then do it, one after the other.

    That of an applied revision is built anew. That of a pending one is dropped: its revision builds it. What nobody of
    this project has left is named, and left alone.

    Args:
        run: this run.
        dry_run: only say it.

    Raises:
        VerificationFailedError: an index cannot be built (80).
    """
    found = find(run)
    async with connected(run) as ready, Work.opened(run, ready, found) as work, locked(run, ready):
        state = await work.look()
        if isinstance(state, Undetermined):
            state = await work.plan()
        pending = [step.path for step in state.steps] if isinstance(state, Pending) else []
        left = await left_invalid(run, ready.connection, found)
        ways = [(each, way_out(each, pending, found)) for each in left]
        for index, statement in ways:
            if statement is None:
                run.log.info("repair_left", index=str(index), hint="`headstart up` runs it")
            else:
                run.log.info("repair_planned", index=str(index), statement=statement)
        if dry_run:
            return
        with run.record.timed(Stage.REPAIR):
            for _, statement in ways:
                if statement is not None:
                    await _execute(run, ready, statement)
        await require_valid(run, ready.connection, found, passing_over=[each for each, way in ways if way is None])


async def _execute(run: Run, ready: Ready, statement: str) -> None:
    """Execute one, in a session of its own, without a limit for its locks: given up, it would leave another copy."""
    began = time.monotonic()
    try:
        async with beside(run, ready) as session:
            await session.execute("select pg_catalog.set_config('lock_timeout', '0', false)")
            at_work = _AtWork(session, statement)
            await Watch(at_work, ready.connection, shortest=0, run=run).over(session.execute(statement))
    except asyncpg.PostgresError as error:
        if is_lost(error):
            raise
        raise VerificationFailedError(
            f"`{statement}` failed ({error.sqlstate}): {first_line(error)}",
            hint="remove what is in its way (rows that are equal, say), then `headstart repair` again",
            sqlstate=error.sqlstate,
        ) from error
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(LAST_LOOK):
                found = await report_invalid(run, ready.connection)
                run.record.leftovers = [f"INVALID index {each}" for each in sorted(found)]
        raise
    run.log.info("repaired", statement=statement, repair_seconds=time.monotonic() - began)


class _AtWork:
    """A statement of ours, as `Watch` wants it."""

    def __init__(self, session: ScriptConnection, statement: str) -> None:
        self.statement = StatementStarted(backend=session.get_server_pid(), statement=statement)
        self.since = time.monotonic()
        self.backends = (session.get_server_pid(),)
