"""What happens under the lock once there is something to do: plan, guard, back up, migrate, verify."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Self

import msgspec
from msgspec.structs import replace

from headstart import ledger
from headstart.errors import ConfigurationError, HeadstartError, MigrationFailedError
from headstart.history.graph import revision_field
from headstart.history.squashed import refuse_below
from headstart.ledger.state import prepare
from headstart.ledger.writer import complete
from headstart.postgres import version_table
from headstart.postgres.lock import WORK
from headstart.steps import backup
from headstart.steps.ask import ask
from headstart.steps.compare import Comparison, Pending, Undetermined, UpToDate
from headstart.steps.connect import access, working
from headstart.steps.context import Context
from headstart.steps.migrate import migrate
from headstart.steps.stage import Stage
from headstart.steps.verify import read, verify
from headstart.worker.messages import MOVED, Planned, TaskFailedError
from headstart.worker.process import Process
from headstart.worker.tasks import Access, Ledger, Stamp

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.postgres.version_table import Place
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker


class Work:
    """One run's work on one database. All but `look` needs the migration lock. Made by `opened`."""

    def __init__(self, context: Context, *, ledger: bool | None = None) -> None:
        self._context = context
        self._run = context.run
        self._connection = context.ready.connection
        self._ledger = ledger
        self._place: Place | None = None
        self._planned: UpToDate | Pending | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        run: Run,
        ready: Ready,
        found: History,
        worker: Worker | None = None,
        *,
        proof: Access | None = None,
        ledger: bool | None = None,
    ) -> AsyncIterator[Self]:
        """Have a worker, and a process of it that nobody shares.

        Args:
            run: this run.
            ready: the supervisor's session.
            found: the project.
            worker: one that several runs share; one of its own when left out.
            proof: what the worker's sessions are proven by; this database as a whole when left out.
            ledger: whether there is one that can be written; asked, and seen to afterwards, when left out.
        """
        async with working(run, worker) as started, Process(started, run.log) as process:
            proof = proof or await access(run, ready, work_key=WORK)
            yield cls(Context(run, ready, found, process, proof), ledger=ledger)

    async def look(self, *, strict: bool = True, rolled_back: bool = False) -> Comparison:
        """Where the database stands, by env.py's own word, in sessions that cannot write.

        Args:
            strict: as for `ask`.
            rolled_back: let env.py write, and roll that back.

        Returns:
            Undetermined where env.py insists on writing, or on committing it.
        """
        reading = replace(self._context.access, work_key=None, read_only=True, rolled_back=rolled_back)
        found = await ask(replace(self._context, access=reading), strict=strict)
        if not isinstance(found, Undetermined):
            self._place = found.place
        return found

    async def plan(self, *, up: bool = True, strict: bool = True) -> UpToDate | Pending:
        """What is pending, by env.py's and Alembic's own word; nothing when another runner has done it meanwhile.

        What env.py writes beside the migrations is rolled back, unless it insists on committing it.

        Args:
            up: whether the way goes up.
            strict: refuse a history that does not fit what is recorded; `stamp` is there to mend that.

        Raises:
            BrokenHistoryError: the files are no history, or have several heads (70).
            DatabaseUnknownError: the recorded revision is not in it (72).
            ConfigurationError: env.py fails, or reaches another database (10).
        """
        asking = replace(self._context.access, read_only=True, rolled_back=True)
        found = await ask(replace(self._context, access=asking), up=up, strict=strict, place=self._place)
        if not isinstance(found, Undetermined) and not await self._is_recorded(found):
            found = Undetermined(reason="env.py writes the version table before it runs the migrations")
        if isinstance(found, Undetermined):
            self._run.log.info("env_writes", reason=found.reason)
            found = await ask(self._context, up=up, strict=strict, place=self._place)
        assert not isinstance(found, Undetermined)  # noqa: S101  (it may write)
        self._planned = found
        if isinstance(found, Pending):
            direction = {} if up else {"direction": "down"}
            pending = list(found.revisions)
            self._run.log.info("plan", revision=revision_field(found.recorded), pending=pending, **direction)
        return found

    async def _is_recorded(self, plan: UpToDate | Pending) -> bool:
        """Whether the version table that Alembic writes, if it is there, holds what Alembic has read."""
        return plan.place.oid is None or set(await read(self._connection, plan.place)) == set(plan.recorded)

    async def guard(self, plan: UpToDate | Pending) -> None:
        """Refuse, before anything is touched, what would fail half-way.

        Raises:
            RefusedError: the role may not write the version table, or not create it (21).
            ConfigurationError: the way down leads through a baseline; or Alembic does not find the version table that
                it writes (10).
        """
        place = plan.place
        if not await self._is_recorded(plan):
            raise ConfigurationError(
                f"Alembic reads {revision_field(plan.recorded)}, and the version table that it writes"
                f" ({place.schema}.{place.table}) holds something else",
                hint="give context.configure the version_table_schema that a schema_translate_map leads to",
            )
        if isinstance(plan, Pending) and not plan.up:
            refuse_below(plan.steps)
        await version_table.require_write_privilege(self._connection, place.user, place.table, place.schema)

    async def back_up(self, plan: Pending) -> None:
        """Take the backup that goes with a plan, as HEADSTART_BACKUP says.

        Raises:
            BackupFailedError: it is not whole (40).
            UnsuitableServerError: there is no pg_dump for the server's version (22).
        """
        run, ready = self._run, self._context.ready
        if await backup.wanted(run, ready, plan.place.table):
            last = plan.steps[-1]
            reached = (last.id,) if plan.up else last.down
            intended = plan.heads if run.settings.target in {"head", "heads"} else reached
            await backup.back_up(run, ready, before=plan.recorded, intended=intended)

    async def migrate(self, plan: Pending) -> UpToDate:
        """Run the plan, each revision in its own transaction unless env.py holds one around all of them.

        Raises:
            MigrationFailedError: what had been committed before is in the run's outcome (60, 61, 62, 63).
        """
        try:
            return await self._migrate(plan)
        except MigrationFailedError as error:
            if plan is not self._planned or not error.context.get(MOVED):
                raise
            again = await self.plan(up=plan.up)  # what env.py makes beside the migrations has been committed since
            if again == plan or not isinstance(again, Pending):
                raise
            self._run.record.failed = None
            await self.guard(again)
            return await self._migrate(again)

    async def _migrate(self, plan: Pending) -> UpToDate:
        with self._run.record.timed(Stage.UPGRADE if plan.up else Stage.DOWNGRADE):
            book = await self._book(plan.place)
        done = await migrate(self._context, plan, book)
        if book is not None and self._ledger is None:
            await self._complete(book, expected=len(plan.steps))
        return done

    async def verify(self, plan: UpToDate | Pending) -> None:
        """Read the recorded revision once more, and compare it with where we meant to go.

        Raises:
            VerificationFailedError: the database is somewhere else (80).
        """
        await verify(self._run, self._context.ready, plan.place, plan.recorded)

    async def stamp(
        self, place: Place, revisions: Sequence[str], *, action: str = "stamped", purge: bool = False
    ) -> UpToDate:
        """Write the version table and, in the same transaction, the ledger's rows, without running a revision.

        Args:
            place: the version table, from a plan.
            revisions: what is to be recorded, in Alembic's words.
            action: what the ledger says was done: stamped or adopted.
            purge: empty the table before.

        Raises:
            ConfigurationError: a revision is not in the history (10).
        """
        with self._run.record.timed(Stage.STAMP):
            book = await self._book(place)
            task = Stamp(
                **self._context.given,
                revisions=tuple(dict.fromkeys(revisions)),
                purge=purge,
                ledger=book,
                action=action,
                known={} if book is None else await ledger.applied(self._connection, book.history),
            )
            try:
                done = msgspec.convert(await self._context.process.do(task), Planned)
            except TaskFailedError as error:
                raise await self._of_stamp(error.meaning, place) from error
            if book is not None:
                await self._complete(book, expected=1)
        return UpToDate(recorded=done.recorded, place=done.place)

    async def _of_stamp(self, error: HeadstartError, place: Place) -> HeadstartError:
        """What a failure means, by what is recorded then: env.py may fail after the version table has been written."""
        before, found = self._run.record.before, await read(self._connection, place)
        self._run.record.after = found
        if before is None or set(found) == set(before):
            return error
        return MigrationFailedError(
            f"{error.message}; before that, {revision_field(found)} had been recorded",
            hint="correct env.py: what it does after context.run_migrations() has failed",
        )

    async def _complete(self, book: Ledger, *, expected: int) -> None:
        """Warn of rows that have not arrived."""
        log, run_id = self._run.log, self._run.run_id
        await complete(self._connection, run_id, expected=expected, log=log, version_table=book.history)

    async def _book(self, place: Place) -> Ledger | None:
        """What the ledger's rows say, where they may be written."""
        run = self._run
        name = ledger.key(place.table, place.configured)
        writes = self._ledger
        if writes is None:
            writes = await prepare(
                self._connection,
                mode=run.settings.ledger,
                log=run.log,
                version_table=place.oid or name,
                role=place.user,
            )
        if not writes:
            return None
        there = self._ledger is True
        return Ledger(history=name, run_id=run.run_id, image=run.settings.image, backup=run.record.backup, there=there)
