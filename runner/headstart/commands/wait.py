"""Wait until the server answers, or until the database is at this image's head."""

from __future__ import annotations

import asyncio
import contextlib
import time

import asyncpg

from headstart.errors import NotReadyError
from headstart.history import History
from headstart.history.graph import revision_field
from headstart.log.printable import counted
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.indexes import REBUILD
from headstart.postgres.server import close
from headstart.steps.compare import UpToDate
from headstart.steps.connect import connected, find, reach
from headstart.steps.indexes import left_invalid
from headstart.steps.run import Run
from headstart.steps.stage import Stage
from headstart.steps.standing import standing

PAUSE = 1.0
"""Seconds between two looks at the recorded revision while waiting for it."""
REPORT = 9.0
"""Seconds between two lines of the log while waiting for it."""


async def wait_for_server(run: Run) -> None:
    """Wait until a query is answered on the target database, by a primary that stays."""
    async with connected(run):
        pass


async def wait_for_head(run: Run) -> None:
    """Wait until the database is at this image's head: what an app's pod waits for. No lock, no write.

    Raises:
        NotReadyError: it is not there in time (20).
    """
    found = find(run)
    deadline = time.monotonic() + run.settings.wait_timeout
    reported = float("-inf")
    async with connected(run) as ready, contextlib.AsyncExitStack() as reopened:
        connection = ready.connection
        with run.record.timed(Stage.WAIT):
            while True:
                try:
                    plan = await standing(run, ready._replace(connection=connection), found)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    run.log.info("server_lost", error=type(error).__name__)
                    left = max(deadline - time.monotonic(), 0.1)
                    connection = (await reach(run, timeout=left)).connection
                    reopened.push_async_callback(close, connection)
                    continue
                if isinstance(plan, UpToDate):
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotReadyError(
                        f"the database is at {revision_field(plan.recorded)}, not at {run.settings.target}:"
                        f" {counted(len(plan.steps), 'revision')} pending",
                        hint="see whether the migration runs or has failed, or raise HEADSTART_WAIT_TIMEOUT",
                        pending=list(plan.revisions),
                    )
                if time.monotonic() - reported >= REPORT:
                    reported = time.monotonic()
                    run.log.info(
                        "revision_waiting",
                        revision=revision_field(plan.recorded),
                        pending=list(plan.revisions),
                        left_seconds=left,
                    )
                await asyncio.sleep(min(PAUSE, left))
            await _until_valid(run, connection, found, deadline)
    run.log.info("at_target", revision=revision_field(run.record.after))


async def _until_valid(run: Run, connection: ScriptConnection, found: History, deadline: float) -> None:
    """Wait until nothing is INVALID that one of the revisions has left.

    Raises:
        NotReadyError: something is, to the end (20).
    """
    reported = float("-inf")
    while invalid := await left_invalid(run, connection, found):
        names = [str(each) for each in invalid]
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotReadyError(
                f"a revision has left what is of no use to any query: INVALID index {', '.join(names)}",
                hint=REBUILD.format(index=names[0]),
                invalid_indexes=names,
            )
        if time.monotonic() - reported >= REPORT:
            reported = time.monotonic()
            run.log.warning("invalid_indexes_found", indexes=names, hint=REBUILD.format(index="..."))
        await asyncio.sleep(min(PAUSE, left))
