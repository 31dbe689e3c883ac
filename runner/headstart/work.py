"""The pending path: what happens under the lock once there is something to do. `up` imports it late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from headstart import ledger, postgres, safety
from headstart.alembic_bridge.migrate import migrate
from headstart.alembic_bridge.scripts import Recorded, Scripts, recorded
from headstart.alembic_bridge.steps import revision_of
from headstart.alembic_bridge.workbench import Workbench
from headstart.collector import frozen
from headstart.errors import (
    BrokenHistoryError,
    DatabaseUnknownError,
    HeadstartError,
    VerificationFailedError,
)
from headstart.history.squashed import refuse_midway
from headstart.ledger.state import prepare
from headstart.ledger.writer import Writer, complete
from headstart.lock import WORK
from headstart.log import thorough
from headstart.observe import Activity, watch
from headstart.plan import decide
from headstart.readiness import wait_until_ready
from headstart.run import AppliedRevision, Run, spell

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep

    from headstart.history import History
    from headstart.readiness import Ready
    from headstart.script_connection import ScriptConnection


class Work:
    """One run's work on one database, under the lock. Made by `load`."""

    schema: str | None = None
    """The only schema that is this run's, where it works for one tenant among others."""

    def __init__(self, run: Run, ready: Ready, scripts: Scripts, workbench: Workbench, found: Recorded) -> None:
        self._run = run
        self._ready = ready
        self._scripts = scripts
        self._workbench = workbench
        self._found = found
        self._expected = found.revisions

    @classmethod
    async def load(cls, run: Run, ready: Ready, history: History, *, locked: bool = True, strict: bool = True) -> Work:
        """Load the project into Alembic, let env.py say what is recorded and where, and refuse what does not fit.

        Args:
            run: this run.
            ready: the working connection.
            history: the files.
            locked: whether that connection holds the migration lock; without it nothing may be changed.
            strict: refuse a history that does not fit what is recorded; `stamp` is there to mend that.

        Raises:
            BrokenHistoryError: the files are no history, or have several heads (70).
            DatabaseUnknownError: the recorded revision is not in it (72).
            ConfigurationError: env.py fails, or reaches another database (10).
        """
        run.log = thorough(run.log)
        scripts = Scripts(history.project, ready.dsn.sqlalchemy_url(), run.options)

        async def connect() -> ScriptConnection:
            return await postgres.connect(ready.dsn, timeout=10, application_name=run.application_name)

        workbench = Workbench(
            ready.connection,
            ready.dsn,
            connect,
            work_key=WORK if locked else None,
            lock_timeout=run.settings.table_lock_timeout,
            statement_timeout=run.settings.statement_timeout,
            log=run.log,
        )
        found = await recorded(scripts, workbench, run.log)
        run.found(found.revisions)
        work = cls(run, ready, scripts, workbench, found)
        if strict:
            await work._refuse_unfit_history(history)
        return work

    async def _refuse_unfit_history(self, history: History) -> None:
        """Say in our words what Alembic would refuse too, where the fast reading of the files can."""
        graph = history.graph
        target = self._run.settings.target
        if graph is not None:
            known = graph.revisions.keys() >= set(self._found.revisions)
            if not known:
                refuse_midway(self._found.revisions, graph)
            entries = {} if known else await ledger.entries(self._ready.connection, self.name)
            decide(self._found.revisions, graph, target, ledger=entries)
            return
        if target == "head" and len(self._scripts.heads) > 1:
            raise BrokenHistoryError(
                f"the history has {len(self._scripts.heads)} heads: {', '.join(self._scripts.heads)}",
                hint='merge them (headstart merge heads -m "merge"), or set HEADSTART_TARGET=heads',
            )
        unknown = [revision for revision in self._found.revisions if not self._scripts.knows(revision)]
        if unknown:
            raise DatabaseUnknownError(
                f"the database is at {', '.join(unknown)}, which is not in this history"
                f" (its head is {', '.join(self._scripts.heads)})",
                hint="start the image that knows that revision",
            )

    @property
    def name(self) -> str:
        """What the ledger calls this project."""
        return ledger.key(self._found.version_table, self._found.version_schema)

    async def _writer(self) -> Writer | None:
        """What writes the ledger, where the role may."""
        run = self._run
        mode = run.settings.ledger
        if not await prepare(self._ready.connection, mode=mode, log=run.log, version_table=self.name):
            return None
        return Writer(self.name, run_id=run.run_id, image=run.settings.image, backup=run.backup)

    async def steps_up(self, target: str) -> list[RevisionStep]:
        """What is pending, by Alembic's own word; empty when another runner has done it meanwhile."""
        return self._noted(self._scripts.upgrade(target, self._found.revisions))

    async def steps_down(self, target: str) -> list[RevisionStep]:
        """What has to be reverted to get down to `target`."""
        return self._noted(self._scripts.downgrade(target, self._found.revisions))

    def _noted(self, steps: list[RevisionStep]) -> list[RevisionStep]:
        self._run.pending = tuple(revision_of(step) for step in steps)
        self._run.log.info("plan", revision=spell(self._found.revisions), pending=list(self._run.pending))
        return steps

    async def guard(self) -> None:
        """Refuse, before anything is touched, what would fail half-way for want of a privilege.

        Raises:
            RefusedError: the role may not write the version table, or not create it (21).
        """
        await postgres.require_write_privilege(
            self._ready.connection, self._ready.server, self._found.version_table, self._found.version_schema
        )

    async def back_up(self, steps: Sequence[RevisionStep]) -> None:
        """Take the backup that goes with these steps, as HEADSTART_BACKUP says.

        Raises:
            BackupFailedError: it is not whole (40).
            UnsuitableServerError: there is no pg_dump for the server's version (22).
            LockNotObtainedError: the lock was lost meanwhile (30).
        """
        run, settings = self._run, self._run.settings
        if settings.backup == "off":
            run.log.info("backup_skipped", reason="HEADSTART_BACKUP=off")
            return
        if settings.backup == "auto" and not await postgres.holds_user_tables(
            self._ready.connection, self._found.version_table
        ):
            run.log.info("backup_skipped", reason="the database holds no tables yet")
            return
        whole = settings.target in {"head", "heads"}
        intended = self._scripts.heads if whole else tuple(steps[-1].to_revisions)
        await safety.back_up(run, self._ready, before=self._found.revisions, intended=intended)

    async def run(self, steps: Sequence[RevisionStep]) -> None:
        """Run the steps, each in its own transaction, while a second connection watches.

        Raises:
            MigrationFailedError: see `alembic_bridge.migrate` (60, 61, 62).
        """
        run = self._run
        activity = Activity()
        writer = await self._writer()

        def record(applied: AppliedRevision, arrived: tuple[str, ...]) -> None:
            run.applied.append(applied)
            run.after = self._expected = arrived
            run.pending = run.pending[1:]  # steps are committed in their order

        with run.timed("upgrade" if steps[0].is_upgrade else "downgrade"):
            try:
                async with self._watched(activity):
                    with frozen():
                        await migrate(
                            self._scripts,
                            self._workbench,
                            steps,
                            activity=activity,
                            retry=run.settings.table_lock_retry,
                            record=record,
                            ledger=writer,
                            log=run.log,
                            tag=run.options.get("tag"),
                            schema=self.schema,
                        )
            except HeadstartError as error:
                run.failed = run.pending[0] if run.pending else None
                await self._look_where_it_stands(error)
                raise
            except asyncio.CancelledError:  # which may have come too late for a commit
                with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    async with asyncio.timeout(0.5):
                        run.after = await self._read(self._ready.connection)
                raise
        if writer is not None:
            await complete(
                self._ready.connection, run.run_id, expected=len(steps), log=run.log, version_table=self.name
            )

    @contextlib.asynccontextmanager
    async def _watched(self, activity: Activity) -> AsyncIterator[None]:
        patience = self._run.settings.table_lock_timeout
        pace = max(min(1.0, patience / 4), 0.05) if patience else 1.0

        async def connect() -> ScriptConnection:
            name = f"headstart watcher {self._run.run_id}"
            return await postgres.connect(self._ready.dsn, timeout=5, application_name=name)

        watching = asyncio.create_task(watch(activity, connect, pace=pace, log=self._run.log))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _look_where_it_stands(self, error: HeadstartError) -> None:
        """After a failure read what is recorded, over a new connection if ours is gone: the report must not guess."""
        run = self._run
        try:
            if not self._ready.connection.is_closed():
                run.after = await self._read(self._ready.connection)
                return
            again = await wait_until_ready(
                self._ready.dsn, timeout=5, application_name=run.application_name, log=run.log
            )
            try:
                run.after = await self._read(again.connection)
            finally:
                await postgres.close(again.connection)
        except (HeadstartError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as unknown:
            run.log.warning("revision_unknown", cause=str(unknown))
            error.context["revision_after_assumed"] = True

    async def _read(self, connection: ScriptConnection) -> tuple[str, ...]:
        return await postgres.recorded_revisions(connection, self._found.version_table, self._found.version_schema)

    async def verify(self) -> None:
        """Read the recorded revision once more, by a query of our own, and compare it with where we meant to go.

        Raises:
            VerificationFailedError: the database is somewhere else (80).
        """
        run = self._run
        with run.timed("verify"):
            run.after = await self._read(self._ready.connection)
            if set(run.after) != set(self._expected):
                raise VerificationFailedError(
                    f"the database is at {spell(run.after)} instead of {spell(self._expected)}",
                    hint="see what else writes the version table, or whether env.py skips migrations",
                )
            run.log.info("verified", revision=spell(run.after))

    async def stamp(self, revisions: Sequence[str], **options: Any) -> None:  # noqa: ANN401  (EnvironmentContext's)
        """Write the version table without running anything, as `alembic stamp` does.

        Who stamps says that the database is as these files have it: they count as applied as they are now.
        """
        await self._record("stamped", revisions, **options)

    async def adopt(self, revisions: Sequence[str]) -> None:
        """Record full ids in a database that records nothing, and in the ledger that it was found to hold them."""
        await self._record("adopted", revisions)

    async def _record(self, action: str, revisions: Sequence[str], **options: Any) -> None:  # noqa: ANN401  (as above)
        """Write the version table and, in the same transaction, the ledger's rows for what it then stands for."""
        from headstart.alembic_bridge.verbs import stamp

        run, connection = self._run, self._ready.connection
        expected = 0
        with run.timed("stamp"):
            writer = await self._writer()
            known = await ledger.applied(connection, self.name)

            def rows(heads: tuple[str, ...]) -> str:
                nonlocal expected
                if writer is None:
                    return ""
                held = self._scripts.lineage(heads)
                meant = [each for each in held if known.get(each.id) != each.sha256 or each.id in heads]
                expected = max(len(meant), 1)
                return writer.record_all(action, meant) if meant else writer.record(action, None)

            parting = rows if writer is not None else None
            self._expected = await stamp(
                self._scripts, self._workbench, revisions, log=run.log, parting=parting, **options
            )
            if writer is not None:
                if not expected:  # the version table stood there already
                    await connection.execute(rows(self._expected))
                await complete(connection, run.run_id, expected=expected, log=run.log, version_table=self.name)
