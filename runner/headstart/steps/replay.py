"""The project's revisions on a scratch database, up and down, by the same worker as `up`.

No lock, no backup, no ledger, and a log of warnings alone. Wherever env.py thinks that it connects to, it is led to the
scratch database: its engines by the worker, and what reads the environment by the variables of the worker's process.

env.py is run once and fed the revisions, or run for each call if it wants one transaction for all.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from headstart.errors import HeadstartError, MigrationFailedError
from headstart.log.logger import quiet
from headstart.postgres.readiness import wait_until_ready
from headstart.postgres.server import close
from headstart.postgres.sessions import gone
from headstart.sql.script import ScriptError, is_single, split
from headstart.steps.ask import not_to_its_end
from headstart.steps.committed import Committed
from headstart.steps.connect import access, find, set_timeouts
from headstart.steps.context import environ_for
from headstart.steps.describe import describe
from headstart.steps.explain import LostRaceError, explain, interrupted, too_late
from headstart.steps.verify import read, require_at
from headstart.worker.messages import Executed, Planned, RevisionApplied, RevisionStarted, TaskFailedError
from headstart.worker.process import Process, WorkerLostError
from headstart.worker.tasks import Compare, Format, Migrate, More, Stamp

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.history import Project
    from headstart.history.graph import Revision
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.version_table import Place
    from headstart.settings.dsn import Dsn
    from headstart.steps.describe import Description
    from headstart.steps.run import Run
    from headstart.worker.messages import Failed, Idle, Message
    from headstart.worker.supervise import Worker


class Replay:
    """Revisions that are run at will on one scratch database. Made by `replay`.

    Args:
        connection: to the scratch database.
        worker: runs env.py.
        given: what each task is given: project, access, options, environ.
        describe: says what the history holds, and which revisions lead to a target.
        log: for warnings.

    Attributes:
        connection: to the scratch database; free while nothing is being run.
        process: of the worker, for the revisions.
        place: the version table, as env.py has it.
        recorded: what the version table holds now.
        statements: every statement that was executed, one by one, but those on the version table.
    """

    def __init__(
        self,
        connection: ScriptConnection,
        worker: Worker,
        given: Mapping[str, Any],
        describe: Callable[[str], Awaitable[Description]],
        log: FilteringBoundLogger,
    ) -> None:
        self._worker = worker
        self._given = given
        self._describe = describe
        self._log = log
        self._single = False  # all that one run of env.py does shares one transaction
        self._waiting = False  # env.py is at run_migrations(), and takes the next revision
        self._at_work: str | None = None
        self._committed = Committed()
        self.connection = connection
        self.process = Process(worker, log)
        self.place: Place
        self.recorded: tuple[str, ...] = ()
        self.statements: list[Executed] = []

    @property
    def revisions(self) -> tuple[str, ...]:
        """The ids of the whole history, in the order in which it is applied to an empty database."""
        return tuple(each.id for each in self._described.steps)

    @property
    def files(self) -> Mapping[str, str]:
        """The absolute paths of the revisions' files, by id."""
        return {each.id: each.path for each in self._described.steps}

    @property
    def applied(self) -> list[Revision]:
        """The revisions that are applied now, in order."""
        return self._described.below(self.recorded)

    async def begin(self) -> None:
        """Run env.py up to where it waits for the first revision.

        Raises:
            BrokenHistoryError: the files are no history (70).
            ConfigurationError: it fails, or reaches another database (10).
        """
        self._described = await self._describe("heads")
        try:
            await self._open()
        except MigrationFailedError:
            if not self._single:  # if so, nothing was run, and each call is a run of its own
                raise

    async def end(self) -> None:
        """Let env.py and its sessions end: the database can be copied afterwards, and env.py be run in another process.

        Raises:
            ConfigurationError: it fails there (10).
        """
        if self._waiting:
            self._waiting = False
            await self._answer(self.process, self.process.more(More()))
            await gone(self.connection, list(self.process.backends))

    async def up(self, target: str = "head") -> None:
        """Upgrade as `alembic upgrade` does.

        Args:
            target: in Alembic's words; a relative one is counted from the empty database.

        Raises:
            MigrationFailedError: a revision failed (60); those before it are applied, unless env.py has one transaction
                for all.
            BrokenHistoryError: there are several heads (70).
            ConfigurationError: there is no way to `target` (10).
        """
        applied = {each.id for each in self.applied}
        way = (await self._describe(target)).steps
        await self._run([each.id for each in way if each.id not in applied])

    async def apply(self, revision: str) -> None:
        """Apply this one revision, whose parents are applied, wherever it is in a branched history."""
        await self._run([revision])

    async def revert(self, revision: str) -> None:
        """Revert this one revision, which no applied one follows."""
        await self._run([revision], up=False)

    async def stamp(self, revisions: Sequence[str]) -> None:
        """Let the version table hold these revisions, running nothing."""
        if self._single:
            stamped = await self._ask(Stamp(**self._given, revisions=tuple(revisions)))
            self.recorded = msgspec.convert(stamped, Planned).recorded
        else:
            await self._feed(More(stamp=tuple(revisions)))

    async def compare(self) -> list[dict[str, str]] | None:
        """What `alembic revision --autogenerate` would write now; None where env.py gives no `target_metadata`.

        Returns:
            Of each change its `operation`, `what` it is about, and a line for people (`message`).
        """
        found: list[dict[str, str]] | None = await self._ask(Compare(**self._given))
        return found

    async def format(self, path: Path) -> None:
        """Let the project's post-write hooks at a file, those too that env.py registers.

        Raises:
            ConfigurationError: a hook is not set up rightly, or its program is not there (10).
        """
        await self._ask(Format(**self._given, path=str(path)))

    async def _ask(self, task: Stamp | Compare | Format) -> Any:  # noqa: ANN401  (plain data)
        """Have a process of its own do something. The other one ends before: env.py may hold a lock of its own."""
        await self.end()
        async with Process(self._worker, self._log) as process:
            return await self._answer(process, process.do(task))

    async def _run(self, revisions: Sequence[str], *, up: bool = True) -> None:
        if self._single:
            await self._at_once(revisions, up=up)
        else:
            for revision in revisions:
                await self._feed(More(revision=revision, up=up))

    async def _open(self) -> None:
        """Run env.py, if it does not wait already."""
        if not self._waiting:
            task = Migrate(**self._given, statements=True, interactive=True)
            await self._settle(self.process.do(task, self._hear))

    async def _feed(self, more: More) -> None:
        await self._open()
        self._waiting = False
        await self._settle(self.process.more(more, self._hear))

    async def _settle(self, answering: Awaitable[Idle]) -> None:
        self.recorded = (await self._answer(self.process, answering)).recorded
        self._waiting = True

    async def _at_once(self, revisions: Sequence[str], *, up: bool) -> None:
        """Run env.py for these revisions alone: it commits them together, or should."""
        more: dict[str, Any] = {"steps": tuple(revisions), "up": up, "one_transaction": True, "statements": True}
        task = Migrate(**self._given, **more)
        async with Process(self._worker, self._log) as process:
            expected = await self._answer(process, process.do(task, self._hear))
        self.recorded = await read(self.connection, self.place)
        require_at(self.recorded, expected)

    async def _answer(self, process: Process, answering: Awaitable[Any]) -> Any:  # noqa: ANN401  (what a task gives)
        """What the worker answers; a failure in the words of `up`."""
        self._at_work, self._committed = None, Committed()
        try:
            return await answering
        except TaskFailedError as error:
            if error.failed.revision is None:
                raise error.meaning from error
            raise await self._explained(error.failed, process) from error
        except WorkerLostError as error:
            if self._at_work is None:
                raise not_to_its_end(error) from error
            raise MigrationFailedError(
                f"revision {self._at_work} failed: {error.message}", revision=self._at_work
            ) from error

    async def _explained(self, failed: Failed, process: Process) -> HeadstartError:
        if failed.lost:
            return interrupted(failed)
        await gone(self.connection, list(process.backends))  # what it had locked is free then
        path = self.files[failed.revision or ""]
        found = explain(failed, await self._committed.leftovers(self.connection, path))
        return too_late(found, []) if isinstance(found, LostRaceError) else found

    def _hear(self, message: Message) -> None:
        self._committed.hear(message)
        match message:
            case Planned():
                self.place, self.recorded = message.place, message.recorded
                self._single = bool(message.one_transaction)
            case RevisionStarted():
                self._at_work = message.revision
            case RevisionApplied():
                self._at_work = None
            case Executed():
                self._executed(message)
            case _:
                pass

    def _executed(self, script: Executed) -> None:
        if script.line is None and self.place.table in script.text:
            return  # Alembic's own
        texts = [script.text]
        if not is_single(script.text):
            with contextlib.suppress(ScriptError):
                texts = [each.text for each in split(script.text)]
        self.statements += [msgspec.structs.replace(script, text=each) for each in texts]


@contextlib.asynccontextmanager
async def replay(run: Run, dsn: Dsn, worker: Worker, *, project: Project | None = None) -> AsyncIterator[Replay]:
    """Load the project for a scratch database. The run's own database is neither needed nor touched.

    Args:
        run: whose settings, working directory and options say which project.
        dsn: the scratch database, from `scratch`.
        worker: whose processes run env.py, with `DATABASE_URL` and libpq's variables leading to the scratch database.
        project: the run's own when left out.

    Raises:
        BrokenHistoryError: the files are no history (70).
        ConfigurationError: there is no project, or its env.py fails (10).
    """
    settings = run.settings
    worker.start()
    project = project or find(run).project
    log = quiet(run.log)
    ready = await wait_until_ready(dsn, timeout=settings.wait_timeout, application_name=run.application_name, log=log)
    try:
        await set_timeouts(run, ready.connection)
        proof = await access(run, ready, work_key=None)
        environ = environ_for(ready.dsn, run.environ)
        given = {
            "project": project,
            "access": msgspec.structs.replace(proof, everywhere=True, read_only=False),
            "options": run.options,
            "environ": environ,
        }
        made = Replay(ready.connection, worker, given, partial(describe, run, worker, project, environ=environ), log)
        async with made.process:
            try:
                await made.begin()
                yield made
                await made.end()
            finally:
                await made.process.stop(ready.connection)
    finally:
        await close(ready.connection)
