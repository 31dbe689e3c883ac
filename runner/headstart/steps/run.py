"""The record of one run: what it found, did and left, so that a half-finished run is a value too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import msgspec

from headstart.errors import (
    ConfigurationError,
    HeadstartError,
    InterruptedMigrationError,
    InterruptedRunError,
    MigrationFailedError,
    NotReadyError,
    PartlyCommittedError,
)
from headstart.errors.exits import Exit
from headstart.history.graph import revision_field
from headstart.log.logger import Timed, clean
from headstart.postgres.diagnosis import diagnose, is_lost, server_failed
from headstart.postgres.server import first_line
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.settings.settings import Settings
    from headstart.worker.supervise import Worker


SILENCE = 9.5
"""Seconds after which the log says which stage is at work; what has more to say speaks before that."""


class AppliedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision that was run and committed, and the seconds it took."""

    revision: str
    seconds: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, and where it left the database. `exit` decides; the rest says what happened on the way."""

    exit: Exit
    run_id: str
    error: str | None
    hint: str | None
    context: dict[str, Any]
    revision_before: tuple[str, ...] | None
    revision_after: tuple[str, ...] | None
    applied: tuple[AppliedRevision, ...]
    failed: str | None
    pending: tuple[str, ...]
    backup: str | None
    seconds: dict[str, float]
    restored: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the database is where it should be."""
        return self.exit is Exit.DONE


class Run:
    """What is known so far. One object per run, written by the use case, read by whoever has to report.

    Args:
        settings: of this run.
        log: bound to this run's id.
        run_id: short and unique.
        environ: the process's environment, for the programs that are started.
        cwd: the working directory: relative paths of the Alembic project start here.
        redact: takes the secrets out of a text.
        interrupted: says which signal, if any, has asked the run to end.
        options: what Alembic's command line would hand to env.py: `x`, `tag`, and `name` of the ini's section.
        worker: one that has been started already.
        variables: what is different in the environment of the worker's tasks; None takes one away.
        schema: of a tenant that is one: nothing else in the database is this run's.
    """

    def __init__(
        self,
        settings: Settings,
        log: FilteringBoundLogger,
        run_id: str,
        *,
        environ: Mapping[str, str],
        cwd: str,
        redact: Callable[[str], str],
        interrupted: Callable[[], int | None] = lambda: None,
        options: Mapping[str, Any] | None = None,
        worker: Worker | None = None,
        variables: Mapping[str, str | None] | None = None,
        schema: str | None = None,
    ) -> None:
        self.settings = settings
        self._log = Timed(log)
        self.run_id = run_id
        self.environ = environ
        self.cwd = cwd
        self.redact = redact
        self.interrupted = interrupted
        self.options = dict(options or {})
        self.worker = worker
        self.variables = dict(variables or {})
        self.schema = schema
        self.stage = Stage.START
        self.before: tuple[str, ...] | None = None
        self.after: tuple[str, ...] | None = None
        self.applied: list[AppliedRevision] = []
        self.failed: str | None = None
        self.pending: tuple[str, ...] = ()
        self.backup: str | None = None
        self.restored: str | None = None
        self.counts: dict[str, int] = {}
        self.leftovers: list[str] = []
        self.last_line: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @property
    def log(self) -> FilteringBoundLogger:
        """The run's logger."""
        return cast("FilteringBoundLogger", self._log)

    @log.setter
    def log(self, log: FilteringBoundLogger) -> None:
        self._log = Timed(log)

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last line of the log."""
        return self._log.silent_seconds

    @property
    def section(self) -> str:
        """The ini file's section: Alembic's `--name`."""
        return str(self.options.get("name") or "alembic")

    @property
    def application_name(self) -> str:
        """How this run shows in pg_stat_activity: enough to find the process. Postgres cuts it at 63 bytes."""
        return f"headstart {self.run_id} {socket.gethostname()}:{os.getpid()}"[:63]

    def found(self, revisions: tuple[str, ...]) -> None:
        """Note what the database records: what it was before, if this is the first look, and what it is now."""
        if self.before is None:
            self.before = revisions
        self.after = revisions

    @contextlib.contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Name the stage that the run is in, and add up the seconds it takes."""
        outer, self.stage = self.stage, stage
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started
            raise  # the stage's name stays: it is where the run failed
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started
        self.stage = outer

    def outcome(self, error: HeadstartError | None) -> Outcome:
        """The run as it stands, as a value."""
        seconds = {**self.seconds, "total": time.monotonic() - self._started}
        return Outcome(
            exit=error.exit if error else Exit.DONE,
            run_id=self.run_id,
            error=self.redact(error.message) if error else None,
            hint=self.redact(error.hint) if error else None,
            context=clean(error.context, self.redact) if error else {},
            revision_before=self.before,
            revision_after=self.after,
            applied=tuple(self.applied),
            failed=self.failed,
            pending=self.pending,
            backup=self.backup,
            seconds={stage: round(value, 3) for stage, value in seconds.items()},
            restored=self.restored,
        )

    def finish(self, error: HeadstartError | None, *, quiet: bool = False) -> Outcome:
        """Log `run_finished`, the last line of every run, and return the same as a value.

        Args:
            error: what ended it; None if it did what it was to do.
            quiet: say nothing after a success: for verbs that only read.
        """
        outcome = self.outcome(error)
        fields: dict[str, Any] = {
            "outcome": outcome.exit.outcome,
            "exit_code": int(outcome.exit),
            "revision_before": revision_field(outcome.revision_before),
            "revision_after": revision_field(outcome.revision_after),
            "applied": [each.revision for each in outcome.applied],
            "backup": outcome.backup,
        }
        fields |= {"restored": outcome.restored} if outcome.restored is not None else {}
        if error is not None:
            fields |= {"error": outcome.error, "hint": outcome.hint, "stage": self.stage}
            fields |= {"failed": outcome.failed} if outcome.failed else {}
            fields |= {"pending": list(outcome.pending)} if outcome.pending else {}
            fields |= {"leftovers": self.leftovers} if self.leftovers else {}
            fields |= outcome.context
        fields |= self.counts
        fields |= {f"{stage}_seconds": value for stage, value in outcome.seconds.items()}
        self.last_line = fields
        if error is not None:
            self.log.error("run_finished", **fields)
        elif not quiet or outcome.exit is not Exit.DONE:
            self.log.info("run_finished", **fields)
        return outcome


async def conduct(run: Run, job: Callable[[Run], Awaitable[None]], *, quiet: bool = False) -> Outcome:
    """Run `job` within the deadline, turn however it ends into an Outcome, and log that. As `attempt`."""
    return run.finish(await attempt(run, job), quiet=quiet)


async def attempt(run: Run, job: Callable[[Run], Awaitable[None]]) -> HeadstartError | None:
    """Run `job` within the deadline, and give what ended it; None if it did what it was to do.

    Only what has no name escapes: a bug, or the cancellation of a caller that is not a signal.
    """
    error: HeadstartError | None = None
    cancelled = False
    deadline = asyncio.timeout(run.settings.deadline)
    try:
        async with deadline, _never_silent(run):
            await job(run)
    except HeadstartError as caught:
        error = caught
    except TimeoutError as caught:
        error = out_of_time(run) if deadline.expired() else _of_server(run, caught)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as caught:
        error = _of_server(run, caught)
    except OSError as caught:
        if caught.errno not in _LIMITS:
            raise
        error = too_small(caught, run.stage)
    except asyncio.CancelledError:
        if run.interrupted() is None:
            raise
        cancelled = True
    signum = run.interrupted()
    if signum is not None and (error is not None or cancelled):
        error = InterruptedRunError(signum)  # some drivers surface a cancelled statement as an error of their own
    return error


@contextlib.asynccontextmanager
async def _never_silent(run: Run) -> AsyncIterator[None]:
    """The log speaks at least every ten seconds, in a stage too that has nothing to say of its own."""

    async def speak() -> None:
        while True:
            await asyncio.sleep(max(SILENCE - run.silent_seconds, 0.01))
            if run.silent_seconds >= SILENCE:
                run.log.info("stage_running", stage=run.stage)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


def _of_server(run: Run, caught: Exception) -> HeadstartError:
    """What the server said, or that it is gone, where no room expected it: the stage says what that means."""
    found = diagnose(caught, run.settings.dsn)
    kind, cause, hint = run.stage.failure or found.error, found.cause, found.hint
    lost = is_lost(caught)
    if not lost:  # it was connected, and has answered
        cause, hint = f"the server refused a query: {first_line(caught)}", None
    if kind is MigrationFailedError and (lost or server_failed(caught)):
        kind = InterruptedMigrationError
    return kind(f"{cause}, in stage '{run.stage}'", hint=hint, sqlstate=found.sqlstate)


_LIMITS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or the container's pids limit)",
    errno.ENOMEM: "give the process more memory",
}


def too_small(caught: OSError, stage: Stage) -> HeadstartError:
    """A limit of the process or the machine is too small for a run: the stage says what that means."""
    kind = stage.failure or ConfigurationError
    return kind(f"{caught.strerror}, in stage '{stage}'", hint=_LIMITS.get(caught.errno or 0))


def out_of_time(run: Run) -> HeadstartError:
    """The deadline has passed: what that means depends on the stage."""
    kind = run.stage.failure or NotReadyError
    if kind is MigrationFailedError and run.leftovers:
        kind = PartlyCommittedError
    return kind(
        f"HEADSTART_DEADLINE of {run.settings.deadline:g} s passed in stage '{run.stage}'"
        + (f", at revision {run.failed}" if run.failed else ""),
        hint="raise HEADSTART_DEADLINE, and keep it below Kubernetes' activeDeadlineSeconds",
    )
