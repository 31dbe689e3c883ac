"""`up` for a tenant that is a schema: the same steps, in sessions whose search_path begins with that schema.

So an unmodified env.py and its revisions, which name no schema, find and make everything there, the version table too.
Four things differ from `up`: the supervisor's session is one for all tenants, the version table is looked for in that
schema and nowhere else, the lock is the tenant's own, and the backup, of the whole database, was taken before.
"""

from __future__ import annotations

import msgspec

from headstart.commands.tenants import lock
from headstart.commands.tenants.session import Session
from headstart.commands.tenants.survey import Standing
from headstart.commands.tenants.targets import Target
from headstart.errors import ConfigurationError, MigrationFailedError
from headstart.history import History
from headstart.history.graph import revision_field
from headstart.postgres.readiness import Ready
from headstart.postgres.server import quote
from headstart.postgres.version_table import recorded_revisions
from headstart.steps.compare import Comparison, Pending, Undetermined, UpToDate, compare, pending
from headstart.steps.indexes import require_valid
from headstart.steps.run import Run
from headstart.steps.stage import Stage
from headstart.steps.work import Work
from headstart.worker.messages import MOVED
from headstart.worker.supervise import Worker


class Schemas:
    """What the tenants of one database share.

    Args:
        history: the project.
        session: the supervisor's.
        worker: it forks for each run of env.py.

    Attributes:
        ledger: whether it can be written.
    """

    def __init__(self, history: History, session: Session, worker: Worker) -> None:
        self._history = history
        self._session = session
        self._worker = worker
        self._plan_first = False
        self.ledger = False

    async def up(self, run: Run, target: Target, standing: Standing | None) -> None:
        """Bring one schema to the target: lock, compare again, guard, upgrade, verify, record.

        Args:
            run: the tenant's.
            target: the tenant.
            standing: from the survey; None if that could not find it.
        """
        ready, proof = await self._session.for_tenant(run, target)
        found = self._history_of(target)
        async with (
            lock.held(run, ready.connection, target.name),
            Work.opened(run, ready, found, self._worker, proof=proof, ledger=self.ledger) as work,
        ):
            at_once = standing is not None and standing.writable and not self._plan_first
            if not at_once:
                await _require_usable(ready, target)
            state = await _compare_again(run, ready, found, standing)
            if not isinstance(state, UpToDate):
                done = None
                if isinstance(state, Pending) and at_once:
                    done = await _migrate_at_once(run, work, state)
                await work.verify(done or await self._migrate_as_planned(work))
            await require_valid(run, ready.connection, found)

    async def _migrate_as_planned(self, work: Work) -> UpToDate:
        """Ask env.py first, as `up` does."""
        plan = await work.plan()
        if isinstance(plan, UpToDate):
            return plan
        self._plan_first = self._plan_first or bool(plan.one_transaction)
        await work.guard(plan)
        return await work.migrate(plan)

    async def status(self, run: Run, target: Target) -> None:
        """Record the revision of one schema, changing nothing.

        Raises:
            ConfigurationError: env.py writes before it can be asked (10).
            VerificationFailedError: a revision has left an INVALID index there (80).
        """
        ready, proof = await self._session.for_tenant(run, target)
        found = self._history_of(target)
        await _require_usable(ready, target)
        state = await compare(run, ready, found)
        if isinstance(state, Undetermined):
            async with Work.opened(run, ready, found, self._worker, proof=proof, ledger=self.ledger) as work:
                state = await work.look()
                if isinstance(state, Undetermined):
                    state = await work.look(rolled_back=True)
        if isinstance(state, Undetermined):
            raise ConfigurationError("env.py cannot be asked without its writing to the database", unaskable=True)
        if isinstance(state, UpToDate):
            await require_valid(run, ready.connection, found)

    def _history_of(self, target: Target) -> History:
        project, graph = self._history
        return History(msgspec.structs.replace(project, version_schema=target.schema), graph)


async def _compare_again(run: Run, ready: Ready, found: History, standing: Standing | None) -> Comparison:
    """Under the lock: another runner may have been quicker. What has not changed need not be compared again."""
    if standing is not None:
        with run.record.timed(Stage.COMPARE):
            table, schema = found.project.version_table, found.project.version_schema
            recorded = await recorded_revisions(ready.connection, table, schema)
            if set(recorded) == set(standing.plan.before):
                run.record.found(recorded)
                return pending(run, found, standing.plan)
    return await compare(run, ready, found)


async def _migrate_at_once(run: Run, work: Work, plan: Pending) -> UpToDate | None:
    """Migrate without asking env.py first; None if it has found something else than the files say, and ran nothing."""
    run.log.info("plan", revision=revision_field(plan.recorded), pending=list(plan.revisions))
    try:
        return await work.migrate(plan)
    except MigrationFailedError as error:
        if not error.context.get(MOVED):
            raise
        run.record.failed = None
        run.log.info("alembic_decides", reason=error.message)
        return None


async def _require_usable(ready: Ready, target: Target) -> None:
    """Require that an object without a schema would be made in the tenant's.

    Raises:
        ConfigurationError: it would not: the schema has gone, or the role may not use it (10).
    """
    query = "select pg_catalog.has_schema_privilege(oid, 'usage') from pg_catalog.pg_namespace"
    query += " where nspname = $1::pg_catalog.name"
    if not await ready.connection.fetchval(query, target.schema):
        user = ready.server.user
        raise ConfigurationError(
            f"there is no schema {target.schema!r} that the role {user} may use",
            hint=f"grant usage, create on schema {quote(target.name)} to {quote(user)}",
        )
