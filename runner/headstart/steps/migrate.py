"""Has the worker run what is pending, and says what came of it: by what the database then records, never by a guess."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg
import tenacity

from headstart.errors import HeadstartError, InterruptedMigrationError, MigrationFailedError, NotReadyError
from headstart.steps import aftermath
from headstart.steps.committed import Committed
from headstart.steps.compare import UpToDate
from headstart.steps.explain import LostRaceError, explain, partly, too_late
from headstart.steps.record import AppliedRevision
from headstart.steps.stage import Stage
from headstart.steps.verify import read
from headstart.steps.watch import Watch
from headstart.worker.messages import Planned, RevisionApplied, RevisionStarted, TaskFailedError
from headstart.worker.process import WorkerLostError
from headstart.worker.tasks import Ledger, Migrate

if TYPE_CHECKING:
    from headstart.history.graph import Revision
    from headstart.steps.compare import Pending
    from headstart.steps.context import Context
    from headstart.worker.messages import Message

LOOK_AGAIN = 20.0
"""Seconds that a server which went away gets to come back, so that the report can say where the database is."""
_UNREAD = (NotReadyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
LAST_LOOK = 1.0
"""Seconds for the same after a signal or the deadline."""


async def migrate(context: Context, plan: Pending, book: Ledger | None) -> UpToDate:
    """Run the plan; a revision that loses a race for its locks is tried again, with what follows it.

    Args:
        context: whose session holds the migration lock.
        plan: what is to be run.
        book: what the ledger's rows say; None for none.

    Returns:
        What the version table has to hold now, by Alembic's account, and where it is.

    Raises:
        MigrationFailedError: a revision failed and was rolled back (60).
        PartlyCommittedError: it had committed something outside its transaction (61).
        TableLocksNotObtainedError: it lost the race for its locks again and again (62).
        InterruptedMigrationError: the server, the connection or the worker failed (63).
    """
    work = _Migration(context, plan, book)
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(LostRaceError),
        stop=work.given_up,
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
        before_sleep=work.retried,
        reraise=True,
    )
    with context.run.record.timed(Stage.UPGRADE if plan.up else Stage.DOWNGRADE):
        work.begin()
        try:
            recorded: tuple[str, ...] = await retrying(work.attempt)
        except LostRaceError as error:
            raise too_late(error, work.watch.blockers) from error
    return UpToDate(recorded=recorded, place=work.place)


class _Migration:
    """One migration, and how far it has got.

    Attributes:
        done: how many steps have been committed.
        place: the version table, as env.py's own session has seen it last.
        watch: of the worker while it works.
    """

    def __init__(self, context: Context, plan: Pending, book: Ledger | None) -> None:
        self._context = context
        self._run = context.run
        self._process = context.process
        self._connection = context.ready.connection
        self._plan = plan
        self._descriptions = {step.id: step.doc for step in plan.steps}
        self._book = book
        self._before = plan.recorded
        self._committed = Committed()
        self._begun = False  # a revision, in the present attempt
        self._current: str | None = None
        self._began = 0.0
        self._losing_since: float | None = None  # the present revision, the race for its locks
        self.done = 0
        self.place = plan.place
        settings = self._run.settings
        shortest = min(filter(None, (settings.table_lock_timeout, settings.statement_timeout)), default=0)
        self.watch = Watch(self._process, self._connection, shortest=shortest, run=self._run)

    @property
    def _left(self) -> tuple[Revision, ...]:
        return self._plan.steps[self.done :]

    def begin(self) -> None:
        """Say how transactions will be."""
        self._run.record.pending = self._plan.revisions
        if reason := self._plan.one_transaction:
            self._run.log.info("one_transaction", reason=reason, hint="all revisions are applied, or none of them")

    async def attempt(self) -> tuple[str, ...]:
        """Run what is left, once."""
        task = Migrate(
            **self._context.given,
            target=self._run.settings.target,
            before=self._before,
            place=self._plan.place,
            steps=tuple(step.id for step in self._left),
            up=self._plan.up,
            one_transaction=bool(self._plan.one_transaction),
            ledger=self._book,
        )
        self._current, self._committed, self._begun = None, Committed(), False
        try:
            recorded = await self.watch.over(self._process.do(task, self._hear))
            self._run.record.after = None  # until it is read
            self._settle(await read(self._connection, self.place))
        except TaskFailedError as error:
            if not (self._process.fresh or self._begun):  # env.py may not bear to be run twice in one process
                return await self.attempt()
            await self._look()
            raise await self._failed(error) from error
        except (WorkerLostError, InterruptedMigrationError) as error:
            await self._process.stop(self._connection)
            await self._look()
            raise await self._lost(error) from error
        except _UNREAD:
            await self._look()  # over another session
            raise
        except asyncio.CancelledError:
            await self._process.stop(self._connection)
            with contextlib.suppress(HeadstartError):
                await self._look(timeout=LAST_LOOK)
            if leftovers := await self._leftovers():
                self._run.record.leftovers = leftovers
                self._run.log.warning("leftovers_found", leftovers=leftovers)
            raise
        return tuple(sorted(recorded))

    def _hear(self, message: Message) -> None:
        run = self._run
        self._committed.hear(message)
        match message:
            case Planned():
                self.place = message.place
            case RevisionStarted():
                self._begun = True
                self._current, self._began = message.revision, time.monotonic()
                self.watch.at(message.revision)
            case RevisionApplied():
                self._current = None
                self.watch.at(None)
                self.watch.heard()
                if message.committed:
                    self._applied(AppliedRevision(revision=message.revision, seconds=message.seconds))
                event = "revision_applied" if message.up else "revision_reverted"
                run.log.info(
                    event if message.committed else "revision_run",
                    revision=message.revision,
                    description=self._descriptions.get(message.revision, ""),
                    applied_seconds=message.seconds,
                    **({"done": self.done} if message.committed else {}),
                    of=len(self._plan.steps),
                )
            case _:
                pass

    def _applied(self, applied: AppliedRevision) -> None:
        self.done += 1
        self._losing_since = None
        self._run.record.applied.append(applied)
        self._run.record.pending = self._plan.revisions[self.done :]

    def _settle(self, recorded: tuple[str, ...]) -> None:
        """Let the account of what was applied agree with what is recorded."""
        self._run.record.after = recorded
        self._before = recorded
        while (left := self._left) and self._plan.is_done(left[0], recorded):
            took = round(time.monotonic() - self._began, 3) if left[0].id == self._current else 0.0
            self._applied(AppliedRevision(revision=left[0].id, seconds=took))

    async def _look(self, *, timeout: float = LOOK_AGAIN) -> None:
        """After a failure: note what is recorded, and which revision has failed."""
        run = self._run
        run.record.failed = self._current or (self._left[0].id if self._left else None)
        run.record.after = None
        backends = list(self._process.backends)
        recorded = await aftermath.recorded(run, self._context.ready, self.place, backends, timeout=timeout)
        if recorded is None:
            return
        self._settle(recorded)
        if run.record.failed not in {step.id for step in self._left}:
            run.record.failed = None

    async def _leftovers(self) -> list[str]:
        """What the failed revision has committed all the same: statements, and indexes that stayed INVALID."""
        failed = [step for step in self._left if step.id == self._run.record.failed]
        if self._run.record.after is None or not failed:  # the server does not answer, or none has failed
            return []
        return await aftermath.leftovers(self._run, self._context.ready, self._committed, failed[0].path)

    async def _failed(self, error: TaskFailedError) -> HeadstartError:
        """The error that names revision, statement, SQLSTATE and position, and what was committed."""
        failed = error.failed
        if failed.lost:
            return await self._lost(HeadstartError(failed.message, **failed.context))
        if failed.revision is None:
            return self._of_environment(error)
        found = explain(
            failed,
            await self._leftovers(),
            blockers=self.watch.blockers,
            statement_timeout=self._run.settings.statement_timeout,
            unversioned=not self._plan.recorded,
            untouched=not self._run.record.applied,
        )
        if isinstance(found, LostRaceError):
            if failed.unheard:  # to run again what may be committed is no remedy
                return too_late(found, self.watch.blockers)
            self._losing_since = self._losing_since or time.monotonic()
        return found

    def _of_environment(self, error: TaskFailedError) -> HeadstartError:
        """env.py has failed, and no revision was at work: what it means depends on what had been run."""
        applied = self._run.record.applied
        if not applied:
            return error.meaning
        return MigrationFailedError(
            f"{error.failed.message}; what had been run before that is committed, up to {applied[-1].revision}",
            hint="correct env.py: what it does after context.run_migrations() has failed",
        )

    async def _lost(self, error: HeadstartError) -> HeadstartError:
        """The connection, the server or the worker has failed, and not a revision.

        A revision that ends its own process (os._exit) is at fault all the same.
        """
        where = "unknown" if self._run.record.after is None else f"at {', '.join(self._run.record.after) or 'base'}"
        at = f" in revision {self._run.record.failed}" if self._run.record.failed else ""
        message = f"interrupted{at}: {error.message}; the database is {where}"
        context = {**error.context, "revision": self._run.record.failed}
        leftovers = await self._leftovers()
        if leftovers:
            return partly(message, leftovers, context)
        if isinstance(error, WorkerLostError) and error.by_itself:
            return MigrationFailedError(message, hint=_RAISE, **context)
        return InterruptedMigrationError(
            message, hint=_AGAIN if self._run.record.after is not None else _UNKNOWN, **context
        )

    @property
    def _retry_left(self) -> float:
        """Seconds in which the present revision may still be tried again."""
        since = self._losing_since or time.monotonic()
        return since + self._run.settings.table_lock_retry - time.monotonic()

    def given_up(self, state: tenacity.RetryCallState) -> bool:
        """Whether the present revision has lost for too long."""
        return state.upcoming_sleep >= self._retry_left

    async def retried(self, state: tenacity.RetryCallState) -> None:
        """Say that a revision is tried again, and why."""
        error = state.outcome.exception() if state.outcome is not None else None
        assert isinstance(error, LostRaceError)  # noqa: S101  (nothing else is tried again)
        self._run.record.failed = None
        self._run.log.warning(
            "revision_retried",
            revision=error.context["revision"],
            sqlstate=error.context["sqlstate"],
            cause=error.context["cause"],
            attempt=state.attempt_number,
            pause_seconds=state.upcoming_sleep,
            left_seconds=self._retry_left,
            blockers=[str(each) for each in self.watch.blockers],
        )


_RAISE = "let the revision raise an exception instead of ending its process"
_AGAIN = "run again; if it ends here again, look at what the revision executes"
_UNKNOWN = "see `headstart status` once the server answers; then run again"
