"""What happens under the lock once there is something to do: plan, guard, back up, migrate, verify."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from headstart import ledger
from headstart.history.graph import revision_field
from headstart.ledger.state import prepare
from headstart.ledger.writer import complete
from headstart.postgres import version_table
from headstart.postgres.lock import WORK
from headstart.steps import backup
from headstart.steps.ask import ask, failure
from headstart.steps.compare import Comparison, Pending, Undetermined, UpToDate
from headstart.steps.connect import access
from headstart.steps.environ import environ_of
from headstart.steps.migrate import migrate
from headstart.steps.stage import Stage
from headstart.steps.verify import verify
from headstart.worker.messages import Planned
from headstart.worker.process import Process, TaskFailedError
from headstart.worker.tasks import Access, Ledger, Place, Stamp

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.messages import Message
    from headstart.worker.supervise import Worker


class Work:
    """One run's work on one database. All but `look` needs the migration lock. Made by `opened`."""

    def __init__(
        self, run: Run, ready: Ready, found: History, process: Process, proof: Access, *, ledger: bool | None = None
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._ready = ready
        self._found = found
        self._process = process
        self._access = proof
        self._place: Place | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        run: Run,
        ready: Ready,
        found: History,
        worker: Worker,
        *,
        proof: Access | None = None,
        ledger: bool | None = None,
    ) -> AsyncIterator[Self]:
        """Have a worker, and a process of it that nobody shares.

        Args:
            run: this run.
            ready: the supervisor's session.
            found: the project.
            worker: that is at work.
            proof: what the worker's sessions are proven by; this database as a whole when left out.
            ledger: whether there is one that can be written; asked, and seen to afterwards, when left out.
        """
        async with Process(worker, run.log) as process:
            proof = proof or await access(run, ready, work_key=WORK)
            yield cls(run, ready, found, process, proof, ledger=ledger)

    async def look(self, *, strict: bool = True, target: str | None = None) -> Comparison:
        """Where the database stands, by env.py's own word, in sessions that cannot write.

        Args:
            strict: as for `plan`.
            target: as for `compare.ask`.

        Returns:
            Undetermined where env.py insists on writing.
        """
        reading = msgspec.structs.replace(self._access, work_key=None, read_only=True)
        found = await ask(self._run, self._ready, self._found, self._process, reading, strict=strict, target=target)
        if not isinstance(found, Undetermined):
            self._place = found.place
        return found

    async def plan(self, *, up: bool = True, strict: bool = True, target: str | None = None) -> UpToDate | Pending:
        """What is pending, by env.py's and Alembic's own word; nothing when another runner has done it meanwhile.

        Args:
            up: whether the way goes up.
            strict: refuse a history that does not fit what is recorded; `stamp` is there to mend that.
            target: as for `compare.ask`.

        Raises:
            BrokenHistoryError: the files are no history, or have several heads (70).
            DatabaseUnknownError: the recorded revision is not in it (72).
            ConfigurationError: env.py fails, or reaches another database (10).
        """
        run = self._run
        found = await ask(
            run,
            self._ready,
            self._found,
            self._process,
            self._access,
            up=up,
            strict=strict,
            target=target,
            place=self._place,
        )
        assert not isinstance(found, Undetermined)  # noqa: S101  (it may write)
        if isinstance(found, Pending):
            direction = {} if up else {"direction": "down"}
            run.log.info("plan", revision=revision_field(found.recorded), pending=list(found.revisions), **direction)
        return found

    async def guard(self, plan: UpToDate | Pending) -> None:
        """Refuse, before anything is touched, what would fail half-way for want of a privilege.

        Raises:
            RefusedError: the role may not write the version table, or not create it (21).
        """
        place = plan.place
        assert place is not None  # noqa: S101  (env.py has said so)
        await version_table.require_write_privilege(self._ready.connection, place.user, place.table, place.schema)

    async def back_up(self, plan: Pending) -> None:
        """Take the backup that goes with a plan, as HEADSTART_BACKUP says.

        Raises:
            BackupFailedError: it is not whole (40).
            UnsuitableServerError: there is no pg_dump for the server's version (22).
        """
        if await backup.wanted(self._run, self._ready, plan.place.table):
            last = plan.steps[-1]
            reached = (last.revision,) if last.up else last.down
            intended = plan.heads if self._run.settings.target in {"head", "heads"} else reached
            await backup.back_up(self._run, self._ready, before=plan.recorded, intended=intended)

    async def migrate(self, plan: Pending, *, up: bool = True) -> UpToDate:
        """Run the plan, each revision in its own transaction unless env.py holds one around all of them.

        Raises:
            MigrationFailedError: what had been committed before is in the run's outcome (60, 61, 62, 63).
        """
        run = self._run
        book = await self._book(plan.place)
        done = await migrate(run, self._ready, self._found, self._process, self._access, plan, up=up, book=book)
        if book is not None and self._ledger is None:
            await complete(
                self._ready.connection,
                run.run_id,
                expected=len(plan.steps),
                log=run.log,
                version_table=book.history,
            )
        return done

    async def verify(self, plan: UpToDate | Pending) -> None:
        """Read the recorded revision once more, and compare it with where we meant to go.

        Raises:
            VerificationFailedError: the database is somewhere else (80).
        """
        assert plan.place is not None  # noqa: S101  (env.py has said so)
        await verify(self._run, self._ready, plan.place, plan.recorded)

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
        run, connection = self._run, self._ready.connection
        found: list[Planned] = []

        def hear(message: Message) -> None:
            if isinstance(message, Planned):
                found.append(message)

        with run.record.timed(Stage.STAMP):
            book = await self._book(place)
            known = {} if book is None else await ledger.applied(connection, book.history)
            task = Stamp(
                project=self._found.project,
                access=self._access,
                options=run.options,
                environ=environ_of(run),
                revisions=tuple(dict.fromkeys(revisions)),
                purge=purge,
                ledger=book,
                action=action,
                known=known,
            )
            try:
                recorded = tuple(await self._process.do(task, hear))
            except TaskFailedError as error:
                raise failure(error) from error
            if book is not None:
                await complete(connection, run.run_id, expected=1, log=run.log, version_table=book.history)
        return UpToDate(recorded=recorded, place=found[-1].place if found else place)

    async def _book(self, place: Place) -> Ledger | None:
        """What the ledger's rows say, where they may be written."""
        run = self._run
        name = ledger.key(place.table, place.configured)
        writes = self._ledger
        if writes is None:
            writes = await prepare(
                self._ready.connection,
                mode=run.settings.ledger,
                log=run.log,
                version_table=place.oid or name,
                role=place.user,
            )
        if not writes:
            return None
        there = self._ledger is True
        return Ledger(history=name, run_id=run.run_id, image=run.settings.image, backup=run.record.backup, there=there)
