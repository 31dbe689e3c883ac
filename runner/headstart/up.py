"""The main job, and its way back. `up` reads from top to bottom as the story of the product."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from headstart import history, ledger, postgres, version_table
from headstart.lock import migration_lock
from headstart.plan import Plan, decide
from headstart.readiness import wait_until_ready
from headstart.run import Run, spell

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.readiness import Ready
    from headstart.work import Work


async def up(run: Run) -> None:
    """Bring the database to the target: wait, compare, lock, compare again, guard, back up, upgrade, verify, record.

    Nothing pending takes no lock, writes nothing and imports no Alembic.
    """
    found = find(run)
    async with connected(run) as ready:  # wait
        plan = await compare(run, ready, found) or await ask_alembic(run, ready, found)
        if plan is not None and plan.nothing_pending:
            return
        async with locked(run, ready):
            plan = await compare(run, ready, found)  # again: another runner may have been quicker
            if plan is not None and plan.nothing_pending:
                return
            if run.settings.schema_file is not None and await load_schema_file(run, ready, found, plan):
                return
            work = await load(run, ready, found)
            steps = await work.steps_up(run.settings.target)
            if steps:
                await work.guard()
                await work.back_up(steps)
                await work.run(steps)
            await work.verify()


async def downgrade(run: Run) -> None:
    """Take the database down to the target, with the same lock, backup and care."""
    found = find(run)
    async with connected(run) as ready, locked(run, ready):
        work = await load(run, ready, found)
        steps = await work.steps_down(run.settings.target)
        if steps:
            await work.guard()
            await work.back_up(steps)
            await work.run(steps)
        await work.verify()


def find(run: Run) -> History:
    """Locate the Alembic project by Alembic's own rules, and read its revision files.

    Raises:
        ConfigurationError: there is no such project (10).
        BrokenHistoryError: the files are no history (70).
    """
    settings = run.settings
    return history.read(settings.config, cwd=run.cwd, explicit=settings.config_explicit, section=run.section)


@contextlib.asynccontextmanager
async def connected(run: Run) -> AsyncIterator[Ready]:
    """Wait until the server is ready; the connection that proved it is the one that does the work."""
    with run.timed("wait"):
        ready = await wait_until_ready(
            run.settings.dsn, timeout=run.settings.wait_timeout, application_name=run.application_name, log=run.log
        )
    try:
        yield ready
    finally:
        await postgres.close(ready.connection)


async def compare(run: Run, ready: Ready, found: History) -> Plan | None:
    """Hold what is recorded against the revision files; None where only Alembic can tell.

    Raises:
        BrokenHistoryError: the target is `head`, and there are several (70).
        DatabaseAheadError: the recorded revision is newer than all of it (71).
        DatabaseUnknownError: the recorded revision is not in it (72).
        RevisionEditedError: an applied revision's file has changed since (73).
    """
    with run.timed("compare"):
        project, graph = found
        if not project.conclusive or graph is None:
            run.log.info("alembic_decides", reason=project.why or "the revision files are written in an unusual way")
            return None
        recorded = await version_table.recorded_revisions(
            ready.connection, project.version_table, project.version_schema
        )
        run.found(recorded)
        name = ledger.key(project.version_table, project.version_schema)
        known = graph.revisions.keys() >= set(recorded)
        if not known:
            from headstart.history.squashed import refuse_midway

            refuse_midway(recorded, graph)
        plan = decide(
            recorded,
            graph,
            run.settings.target,
            ledger={} if known else await ledger.entries(ready.connection, name),
            allow_ahead=run.settings.ahead == "allow",
        )
        await ledger.refuse_edited(ready.connection, name, recorded, graph)
        if plan is None:
            run.log.info("alembic_decides", reason=f"the target {run.settings.target!r} is Alembic's to resolve")
        elif not known:
            run.log.warning("database_ahead", revision=spell(recorded), hint="left as it is: HEADSTART_AHEAD=allow")
        elif plan.nothing_pending:
            run.log.info("nothing_pending", revision=spell(recorded), target=run.settings.target, beyond=plan.beyond)
        return plan


async def ask_alembic(run: Run, ready: Ready, found: History, *, kind: type[Work] | None = None) -> Plan | None:
    """The same comparison by Alembic's own word, in a session that cannot write; None if env.py insists on writing.

    Args:
        run: this run.
        ready: the working connection.
        found: the files.
        kind: of Work, where a tenant's differs.

    Raises:
        BrokenHistoryError: as `compare` (70).
        DatabaseUnknownError: as `compare` (72).
        ConfigurationError: env.py cannot be run (10).
    """
    from headstart.alembic_bridge.scripts import EnvironmentWritesError
    from headstart.work import Work

    with run.timed("compare"):
        await ready.connection.execute("set default_transaction_read_only = on")
        try:
            work = await (kind or Work).load(run, ready, found, locked=False)
            await work.steps_up(run.settings.target)
        except EnvironmentWritesError:
            return None
        finally:
            if not ready.connection.is_closed():
                await ready.connection.execute("set default_transaction_read_only = off")
    return Plan(before=run.after or (), target=run.settings.target, after=(), pending=run.pending)


@contextlib.asynccontextmanager
async def locked(run: Run, ready: Ready) -> AsyncIterator[None]:
    """Hold the migration lock on the working connection, which is fit to hold one."""
    async with contextlib.AsyncExitStack() as stack:
        with run.timed("lock"):
            await postgres.refuse_transaction_pooler(
                ready.connection, ready.server, ready.dsn, application_name=run.application_name
            )
            await postgres.prepare_session(
                ready.connection,
                lock_timeout=run.settings.table_lock_timeout,
                statement_timeout=run.settings.statement_timeout,
                log=run.log,
            )
            await stack.enter_async_context(
                migration_lock(ready.connection, timeout=run.settings.lock_timeout, log=run.log)
            )
        yield


async def load(run: Run, ready: Ready, found: History, *, strict: bool = True) -> Work:
    """Load the project into Alembic, and let env.py itself say what is recorded and where."""
    from headstart.collector import paused

    with run.timed("load"), paused():
        from headstart.work import Work  # Alembic and SQLAlchemy come with it

        return await Work.load(run, ready, found, strict=strict)


async def load_schema_file(run: Run, ready: Ready, found: History, plan: Plan | None) -> bool:
    """Bring an empty database to the target in one go, if the schema file is provably the target's."""
    from headstart.schema_file import load_instead

    return await load_instead(run, ready, found, plan)
