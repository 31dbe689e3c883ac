"""The work on all tenants: those that need nothing get their outcome at once, and `up` is run for the others.

The list is checked as a whole before anything is begun. Then a backup of the database is taken, if the tenants are its
schemas (a database that is a tenant has its own, as with `up`). The canaries go one by one, then the rest, several at a
time. One process, the supervisor, works on all of them; env.py is run in forks of one worker, none of which serves
two tenants.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from headstart.commands.tenants import targets as lists
from headstart.commands.tenants.schema import Schemas
from headstart.commands.tenants.session import Session
from headstart.commands.tenants.survey import Standing, survey
from headstart.commands.tenants.targets import Target
from headstart.commands.up import up
from headstart.errors import HeadstartError, InterruptedMigrationError
from headstart.errors.exits import Exit
from headstart.history import History
from headstart.ledger.state import prepare
from headstart.ledger.table import create
from headstart.postgres.readiness import Ready
from headstart.steps.attempt import attempt, out_of_time
from headstart.steps.backup import back_up, wanted
from headstart.steps.compare import UpToDate
from headstart.steps.connect import connected, locked
from headstart.steps.connect import find as find_history
from headstart.steps.indexes import require_valid
from headstart.steps.outcome import Outcome, finish, outcome_of
from headstart.steps.run import Run
from headstart.steps.stage import Stage
from headstart.steps.standing import standing
from headstart.worker.supervise import Worker

Action = Literal["up", "status"]

_DRIVERS = ("asyncpg", "psycopg", "psycopg2.extras")


class Tenant(Struct):
    """A tenant and its place in the list; `outcome` is None until there is one."""

    target: Target
    number: int
    outcome: Outcome | None = None

    @property
    def failed(self) -> bool:
        """Whether it was begun and did not succeed."""
        return self.outcome is not None and not self.outcome.ok


async def find(run: Run) -> list[Target]:
    """The tenants in our share of the list, the canaries first.

    Raises:
        ConfigurationError: there is something wrong with the list (10).
    """
    async with _listed(run) as (_, _, _, mine):
        return mine


async def work(run: Run, action: Action, tenants: list[Tenant]) -> None:
    """Bring our share of the tenants to the target, or look at the revision of each.

    A tenant that fails is an outcome, not an exception.

    Args:
        run: this run.
        action: which of the two.
        tenants: filled at once; each gets its outcome when it has one, also when the run is interrupted.

    Raises:
        ConfigurationError: there is something wrong with the list (10).
        BrokenHistoryError: the revision files are no history (70).
        HeadstartError: what keeps all of them from being begun: the server, the lock, the backup.
    """
    history = find_history(run)
    async with (
        _listed(run) as (ready, total, canaries, mine),
        Worker(cwd=run.cwd, environ=run.environ, drivers=_DRIVERS) as worker,
        contextlib.AsyncExitStack() as stack,
    ):
        tenants[:] = [Tenant(target, number) for number, target in enumerate(mine, 1)]
        run.log.info("tenants_found", tenants=total, share=len(mine))
        task = _Work(run, action, history, worker)
        if ready is not None and run.settings.tenants_kind == "schema":
            await task.begin(ready, Session(run, ready, stack), tenants)
        with run.record.timed(Stage.UPGRADE if action == "up" else Stage.COMPARE):
            await task.all(tenants[:canaries], tenants[canaries:])


@contextlib.asynccontextmanager
async def _listed(run: Run) -> AsyncIterator[tuple[Ready | None, int, int, list[Target]]]:
    """The connection if there is one, how many tenants are listed, how many are canaries, and our share."""
    entries = lists.read_file(run)
    async with contextlib.AsyncExitStack() as stack:
        ready = None
        if lists.needs_connection(run, entries):
            ready = await stack.enter_async_context(connected(run))
        found = await lists.find(run, entries, ready.connection if ready else None)
        run.redact.learn(secret for target in found for secret in target.dsn.secrets())  # of URLs of their own
        first, rest = lists.split_canary(found, run.settings.tenants_canary)
        # The canaries are in every share: the second run finds them done, or fails with them too.
        mine = [*first, *lists.share_of(rest, run.settings.tenants_share, run.environ)]
        yield ready, len(found), len(first), mine


class _Work:
    """One run's work on its share.

    Attributes:
        schemas: what the tenants have in common that are schemas of one database.
    """

    def __init__(self, run: Run, action: Action, history: History, worker: Worker) -> None:
        self._run = run
        self._action = action
        self._history = history
        self._worker = worker
        self._standings: dict[str, Standing] = {}
        self.schemas: Schemas | None = None

    async def begin(self, ready: Ready, session: Session, tenants: Sequence[Tenant]) -> None:
        """Give an outcome to each schema that needs nothing, and prepare what the others have in common."""
        self.schemas = Schemas(self._history, session, self._worker)
        await self._survey(ready, tenants)
        if self._action != "up":
            return
        await self._ask_each([tenant for tenant in tenants if tenant.target.name not in self._standings])
        if any(tenant.outcome is None for tenant in tenants):
            self._worker.start()  # it imports Alembic meanwhile
            await self._prepare(ready, session, tenants)

    async def _survey(self, ready: Ready, tenants: Sequence[Tenant]) -> None:
        """Give an outcome to each schema that needs nothing more, by a few queries for all of them."""
        run = self._run
        with run.record.timed(Stage.COMPARE):
            targets = [tenant.target for tenant in tenants]
            self._standings = await survey(ready.connection, targets, self._history, run.settings.target)
        for tenant in tenants:
            found = self._standings.get(tenant.target.name)
            if tenant.outcome is not None or found is None:
                continue
            plan = found.plan
            if plan.nothing_pending or self._action == "status":
                tenant.outcome = replace(
                    outcome_of(run, None),
                    run_id=self._run_id(tenant),
                    revision_before=plan.before,
                    revision_after=plan.before,
                    pending=plan.pending,
                    exit=Exit.DONE,
                    backup=None,
                    seconds={},
                )

    async def _ask_each(self, tenants: Sequence[Tenant]) -> None:
        """Give an outcome to each schema that needs nothing, where only env.py can tell."""

        async def one(tenant: Tenant) -> None:
            own = self._run_of(tenant)
            error = await self._attempted(own, self._job(tenant, "status"))
            to_do = own.record.pending if error is None else error.context.get("unaskable")
            if not to_do:
                tenant.outcome = finish(own, error, quiet=True, event="tenant_finished")
            _stop_if_cancelled()

        with self._run.record.timed(Stage.COMPARE):
            await self._in_parallel(tenants, one)

    async def _prepare(self, ready: Ready, session: Session, tenants: Sequence[Tenant]) -> None:
        """What schemas of one database have in common: a backup before the first of them, and the ledger's table."""
        run, table = self._run, self._history.project.version_table
        if await wanted(run, ready, table):
            async with locked(run, ready):
                await self._survey(ready, tenants)  # again: another runner may have been quicker
                if all(tenant.outcome is not None for tenant in tenants):
                    return
                pending = [found.plan for found in self._standings.values() if found.plan.pending]
                await back_up(
                    run,
                    ready,
                    before=tuple(sorted({revision for plan in pending for revision in plan.before})),
                    intended=tuple(sorted({revision for plan in pending for revision in plan.after})),
                )
                await session.lock()  # nobody takes another one before this run has ended
        await session.lock()
        assert self.schemas is not None  # noqa: S101  (`begin`)
        if await prepare(ready.connection, mode=run.settings.ledger, log=run.log, version_table=table):
            self.schemas.ledger = True
            await create(ready.connection)  # the first of each would be in each other's way

    async def all(self, canaries: Sequence[Tenant], others: Sequence[Tenant]) -> None:
        """Work on the canaries, then on the others unless a canary failed."""
        for tenant in canaries:
            await self._one(tenant)
            if tenant.failed:
                return
        stop = self._action == "up" and self._run.settings.tenants_on_failure == "stop"

        async def one(tenant: Tenant) -> None:
            if not (stop and any(each.failed for each in others)):
                await self._one(tenant)

        await self._in_parallel(others, one)

    async def _in_parallel(self, tenants: Sequence[Tenant], one: Callable[[Tenant], Awaitable[None]]) -> None:
        waiting = iter(tenants)

        async def next_ones() -> None:
            for tenant in waiting:
                await one(tenant)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._run.settings.tenants_parallel, len(tenants))):
                group.create_task(next_ones())

    async def _one(self, tenant: Tenant) -> None:
        if tenant.outcome is not None:
            return
        own = self._run_of(tenant)
        error = await self._attempted(own, self._job(tenant, self._action))
        quiet = "lock" not in own.record.seconds
        tenant.outcome = finish(own, error, quiet=quiet, event="tenant_finished")
        _stop_if_cancelled()

    async def _attempted(self, own: Run, job: Callable[[Run], Awaitable[None]]) -> HeadstartError | None:
        """The error that ended one tenant's run, if any: it must not end the others'."""
        try:
            return await attempt(own, job)
        except asyncio.CancelledError:  # by no signal
            if own.settings.deadline is not None:
                return out_of_time(own)
            return InterruptedMigrationError("the run was cancelled", hint="run again")
        except Exception as error:  # as at the edge: a bug becomes exit 99, with its report
            own.log.error("bug", error=type(error).__name__, exc_info=error)  # noqa: TRY400  (as there)
            return HeadstartError(f"{type(error).__name__}: {error}", hint="please report this with the traceback")

    def _job(self, tenant: Tenant, action: Action) -> Callable[[Run], Awaitable[None]]:
        target, schemas = tenant.target, self.schemas
        if schemas is not None and action == "up":
            return partial(schemas.up, target=target, standing=self._standings.get(target.name))
        if schemas is not None:
            return partial(schemas.status, target=target)
        return partial(up, found=self._history, worker=self._worker) if action == "up" else self._status

    async def _status(self, own: Run) -> None:
        """Record the revision of a database, changing nothing."""
        async with connected(own) as ready:
            if isinstance(await standing(own, ready, self._history, worker=self._worker), UpToDate):
                await require_valid(own, ready.connection, self._history)

    def _run_of(self, tenant: Tenant) -> Run:
        run, name = self._run, tenant.target.name
        given = run.options.get("x") or []
        added = [] if any(each.startswith("tenant=") for each in given) else [f"tenant={name}"]
        variables = lists.variables_of(tenant.target, run.environ)
        environ = {**run.environ, **variables}
        own = Run(
            replace(
                run.settings,
                dsn=tenant.target.dsn,
                backup_jobs=max(run.settings.backup_jobs // run.settings.tenants_parallel, 1),
            ),
            run.log.bind(tenant=name),
            self._run_id(tenant),
            environ={key: value for key, value in environ.items() if value is not None},
            cwd=run.cwd,
            redact=run.redact,
            interrupted=run.interrupted,
            options={**run.options, "x": [*given, *added]},
            variables=variables,
            schema=tenant.target.schema,
        )
        own.record.backup = run.record.backup
        return own

    def _run_id(self, tenant: Tenant) -> str:
        return f"{self._run.run_id}_{tenant.number}"


def _stop_if_cancelled() -> None:
    """Raise what cancels this task, now that the tenant has its outcome."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
