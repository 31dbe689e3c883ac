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
from headstart.postgres.indexes import REBUILD
from headstart.postgres.readiness import Ready
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
    async with connected(run) as opened, contextlib.AsyncExitStack() as reopened:
        ready = opened
        with run.record.timed(Stage.WAIT):
            while True:
                try:
                    missing: NotReadyError | None = await _missing(run, ready, found)
                except NotReadyError as error:  # env.py was in the way of another, or the table is locked
                    missing = error
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    run.log.info("server_lost", error=type(error).__name__)
                    again = await reach(run, timeout=max(deadline - time.monotonic(), 0.1))
                    reopened.push_async_callback(close, again.connection)
                    ready.connection.terminate()
                    ready = ready._replace(connection=again.connection)
                    cause = f"the connection to the server was lost ({type(error).__name__})"
                    missing = NotReadyError(cause, hint="see why in the server's log")
                if missing is None:
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    raise missing
                if time.monotonic() - reported >= REPORT:
                    reported = time.monotonic()
                    _report(run, missing, left)
                await asyncio.sleep(min(PAUSE, left))
    run.log.info("at_target", revision=revision_field(run.record.after))


async def _missing(run: Run, ready: Ready, found: History) -> NotReadyError | None:
    """What is not as the app needs it: a pending revision, or an index that one of the revisions has left INVALID."""
    plan = await standing(run, ready, found)
    if not isinstance(plan, UpToDate):
        return NotReadyError(
            f"the database is at {revision_field(plan.recorded)}, not at {run.settings.target}:"
            f" {counted(len(plan.steps), 'revision')} pending",
            hint="see whether the migration runs or has failed, or raise HEADSTART_WAIT_TIMEOUT",
            pending=list(plan.revisions),
        )
    names = [str(each) for each in await left_invalid(run, ready.connection, found)]
    if not names:
        return None
    return NotReadyError(
        f"a revision has left what is of no use to any query: INVALID index {', '.join(names)}",
        hint=REBUILD.format(index=names[0]),
        invalid_indexes=names,
    )


def _report(run: Run, missing: NotReadyError, left: float) -> None:
    if "pending" in missing.context:
        revision = revision_field(run.record.after)
        run.log.info("revision_waiting", revision=revision, pending=missing.context["pending"], left_seconds=left)
    elif "invalid_indexes" in missing.context:
        run.log.warning("invalid_indexes_found", indexes=missing.context["invalid_indexes"], hint=missing.hint)
    else:
        run.log.info("server_not_ready", cause=missing.message, error=type(missing).__name__, left_seconds=left)
