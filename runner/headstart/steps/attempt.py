"""A run within its deadline: however a job ends, it becomes an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
from msgspec.structs import replace

from headstart.errors import (
    ConfigurationError,
    HeadstartError,
    InterruptedMigrationError,
    InterruptedRunError,
    LostInTheQueueError,
    MigrationFailedError,
    NotReadyError,
    PartlyCommittedError,
)
from headstart.log.logger import Timed
from headstart.postgres.diagnosis import diagnose, how_lost, is_lost, server_failed
from headstart.postgres.server import first_line
from headstart.steps.outcome import Outcome, finish

if TYPE_CHECKING:
    from headstart.steps.record import Record
    from headstart.steps.run import Run


PAUSE = 0.5
"""Seconds before a connection that was lost is made anew."""
SILENCE = 9.5
"""Seconds after which the log says which stage is at work; what has more to say speaks before that."""


async def conduct(run: Run, job: Callable[[Run], Awaitable[None]], *, quiet: bool = False) -> Outcome:
    """Run `job` within the deadline, turn however it ends into an Outcome, and log that. As `attempt`."""
    return finish(run, await attempt(run, job), quiet=quiet)


async def attempt(run: Run, job: Callable[[Run], Awaitable[None]]) -> HeadstartError | None:
    """Run `job` within the deadline, and give what ended it; None if it did what it was to do.

    Only what has no name escapes: a bug, or the cancellation of a caller that is not a signal.
    """
    error: HeadstartError | None = None
    cancelled = False
    deadline = asyncio.timeout(run.settings.deadline)
    log: Any = Timed(run.log)
    try:
        async with deadline, _never_silent(log, run.record):
            await _with_patience(replace(run, log=log), job)
    except HeadstartError as caught:
        error = caught
        if run.record.applied and isinstance(caught, NotReadyError):  # 20 says that nothing was changed
            error = InterruptedMigrationError(caught.message, hint=caught.hint, **caught.context)
    except TimeoutError as caught:
        error = out_of_time(run) if deadline.expired() else _of_server(run, caught)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as caught:
        error = _of_server(run, caught)
    except OSError as caught:
        if caught.errno not in _LIMITS:
            raise
        error = too_small(run, caught)
    except asyncio.CancelledError:
        if run.interrupted() is None:
            raise
        cancelled = True
    signum = run.interrupted()
    if signum is not None and (error is not None or cancelled):
        error = InterruptedRunError(signum)  # some drivers surface a cancelled statement as an error of their own
    return error


async def _with_patience(run: Run, job: Callable[[Run], Awaitable[None]]) -> None:
    """Do the job; begin again, over a new connection, where the old one was lost in the queue for the lock.

    It waits for the lock no longer than one that keeps its connection.
    """
    until = time.monotonic() + run.settings.lock_timeout
    while True:
        try:
            return await job(run)
        except LostInTheQueueError as error:
            if time.monotonic() >= until:
                raise
            run.log.info("server_lost", error=error.message)
        await asyncio.sleep(PAUSE)
        left = max(until - time.monotonic(), 0.0)
        run = replace(run, settings=replace(run.settings, lock_timeout=left), worker=None)


@contextlib.asynccontextmanager
async def _never_silent(log: Timed, record: Record) -> AsyncIterator[None]:
    """The log speaks at least every ten seconds, in a stage too that has nothing to say of its own."""

    async def speak() -> None:
        while True:
            await asyncio.sleep(max(SILENCE - log.silent_seconds, 0.01))
            if log.silent_seconds >= SILENCE:
                log.info("stage_running", stage=record.stage)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


def _of_server(run: Run, caught: Exception) -> HeadstartError:
    """What the server said, or that it is gone, where no room expected it: the stage says what that means."""
    found = diagnose(caught, run.settings.dsn)
    kind, stage = _meaning(run, found.error), run.record.stage
    if is_lost(caught):
        kind = InterruptedMigrationError if kind is MigrationFailedError else kind
        message = f"the connection was lost in stage '{stage}': {how_lost(caught)}"
        return kind(message, hint="see why the server ended it, then run again", sqlstate=found.sqlstate)
    # It was connected, and has answered.
    if kind is MigrationFailedError and server_failed(caught):
        kind = InterruptedMigrationError
    return kind(f"the server refused a query: {first_line(caught)}, in stage '{stage}'", sqlstate=found.sqlstate)


def _meaning(run: Run, found: type[HeadstartError]) -> type[HeadstartError]:
    """What a failure is in the present stage; `found`, where the stage leaves that to the cause.

    Once revisions have been applied it is none whose code says `untouched`.
    """
    kind = run.record.stage.failure or found
    return InterruptedMigrationError if run.record.applied and not issubclass(kind, MigrationFailedError) else kind


_LIMITS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or the container's pids limit)",
    errno.ENOMEM: "give the process more memory",
}


def too_small(run: Run, caught: OSError) -> HeadstartError:
    """A limit of the process or the machine is too small for a run: the stage says what that means."""
    return _meaning(run, ConfigurationError)(
        f"{caught.strerror}, in stage '{run.record.stage}'", hint=_LIMITS.get(caught.errno or 0)
    )


def out_of_time(run: Run) -> HeadstartError:
    """The deadline has passed: what that means depends on the stage."""
    kind = _meaning(run, NotReadyError)
    if kind is MigrationFailedError and run.record.leftovers:
        kind = PartlyCommittedError
    return kind(
        f"HEADSTART_DEADLINE of {run.settings.deadline:g} s passed in stage '{run.record.stage}'"
        + (f", at revision {run.record.failed}" if run.record.failed else ""),
        hint="raise HEADSTART_DEADLINE, and keep it below Kubernetes' activeDeadlineSeconds",
    )
