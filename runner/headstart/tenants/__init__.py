"""Many tenants, each a schema or a database: who needs nothing is found at once, and `up` is run for the others.

The list is checked as a whole before anything is begun. Then a backup of the database is taken, if the tenants are its
schemas (a database that is a tenant has its own, as with `up`); the canaries go one by one, and then the rest, so many
at a time, in processes of their own (`crew`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
from msgspec.structs import replace

from headstart import log as logs
from headstart import postgres, safety
from headstart.errors import HeadstartError
from headstart.exits import Exit
from headstart.ledger.state import prepare
from headstart.ledger.table import create
from headstart.run import Outcome, Run, spell
from headstart.secret import Redactor
from headstart.tenants import targets as lists
from headstart.tenants.crew import Crew, Worker
from headstart.tenants.job import Job
from headstart.tenants.lock import share
from headstart.tenants.survey import survey
from headstart.up import compare, connected, locked
from headstart.up import find as find_history

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.plan import Plan
    from headstart.readiness import Ready
    from headstart.tenants.targets import Target

__all__ = ["Action", "Tenant", "find", "work"]

Action = Literal["up", "status"]


class Tenant:
    """One of them, and how it went; `outcome` is None until then."""

    def __init__(self, target: Target, number: int) -> None:
        self.target = target
        self.number = number
        self.outcome: Outcome | None = None

    @property
    def failed(self) -> bool:
        """Whether it was begun and is not where it should be."""
        return self.outcome is not None and not self.outcome.ok


async def find(run: Run) -> list[Target]:
    """Those in our share of the list, the canaries first.

    Raises:
        ConfigurationError: there is something wrong with the list (10).
    """
    async with _listed(run) as (_, _, _, mine):
        return mine


async def work(run: Run, action: Action, tenants: list[Tenant]) -> None:
    """Bring our share of the tenants to the target, or look where each stands.

    One that fails is an outcome, not an exception.

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
    async with _listed(run) as (ready, total, canaries, mine), Crew(run) as crew:
        tenants[:] = [Tenant(target, number) for number, target in enumerate(mine, 1)]
        run.log.info("tenants_found", tenants=total, share=len(mine))
        task = _Work(run, action, history, crew)
        if ready is not None and run.settings.tenants_kind == "schema":
            plans = await task.look_at_all(ready, tenants)
            if action == "up":
                await task.look_closer([tenant for tenant in tenants if tenant.target.name not in plans])
                if any(tenant.outcome is None for tenant in tenants):
                    await task.prepare(ready, tenants)
        with run.timed("upgrade" if action == "up" else "compare"):
            await task.all(tenants[:canaries], tenants[canaries:])


@contextlib.asynccontextmanager
async def _listed(run: Run) -> AsyncIterator[tuple[Ready | None, int, int, list[Target]]]:
    """The connection if there is one, how many tenants are listed, how many are canaries, and our share."""
    entries = lists.listed(run)
    async with contextlib.AsyncExitStack() as stack:
        ready = None
        if lists.needs_connection(run, entries):
            ready = await stack.enter_async_context(connected(run))
        found = await lists.find(run, entries, ready.connection if ready else None)
        _hide_secrets(run, found)
        first, rest = lists.split_canary(found, run.settings.tenants_canary)
        # The canaries are in every share: whoever comes second finds them done, or fails of them too.
        mine = [*first, *lists.share_of(rest, run.settings.tenants_share, run.environ)]
        yield ready, len(found), len(first), mine


def _hide_secrets(run: Run, targets: Sequence[Target]) -> None:
    """From here on no line shows a password of a tenant's URL either."""
    known = run.settings.secrets()
    new = {secret for target in targets for secret in target.dsn.secrets()} - set(known)
    if new:
        run.redact = Redactor([*known, *new])
        stderr = logs.stderr()
        colors = stderr.isatty() and "NO_COLOR" not in run.environ
        json = logs.wants_json(run.settings.log, stderr)
        run.log = logs.build(stderr, json=json, run_id=run.run_id, redact=run.redact, colors=colors)


class _Work:
    """One run's work on its share."""

    def __init__(self, run: Run, action: Action, history: History, crew: Crew) -> None:
        self._run = run
        self._action = action
        self._history = history
        self._crew = crew

    async def look_at_all(self, ready: Ready, tenants: Sequence[Tenant]) -> dict[str, Plan]:
        """Give an outcome to each schema that needs nothing more, by a few queries for all of them."""
        run = self._run
        with run.timed("compare"):
            targets = [tenant.target for tenant in tenants]
            plans = await survey(ready.connection, targets, self._history, run.settings.target)
        for tenant in tenants:
            if tenant.outcome is None and (plan := plans.get(tenant.target.name)) is not None:
                self._judge(tenant, plan, run)
        return plans

    async def look_closer(self, tenants: Sequence[Tenant]) -> None:
        """Give an outcome to each schema of which only a process of its own can say that nothing is to be done."""

        async def one(tenant: Tenant, worker: Worker) -> None:
            found: list[Outcome] = []
            with contextlib.suppress(HeadstartError):  # its next process may fare better
                await worker.do(self._job(tenant, "status"), lambda _: None, found.append)
            for outcome in found:
                if outcome.context.get("unaskable") or (outcome.ok and outcome.pending):
                    continue
                tenant.outcome = outcome
                if not outcome.ok:
                    _finished(logs.thorough(self._run.log).bind(tenant=tenant.target.name), outcome)

        with self._run.timed("compare"):
            await self._in_parallel(tenants, one)

    def _judge(self, tenant: Tenant, plan: Plan, run: Run) -> None:
        if plan.nothing_pending or self._action == "status":
            tenant.outcome = replace(
                run.outcome(None),
                run_id=self._run_id(tenant),
                revision_before=plan.before,
                revision_after=plan.before,
                pending=plan.pending,
                exit=Exit.DONE,
                backup=None,
                seconds={} if tenant.target.schema else {"total": run.outcome(None).seconds["total"]},
            )

    async def prepare(self, ready: Ready, tenants: Sequence[Tenant]) -> None:
        """What schemas of one database have in common: a backup before the first of them, and the ledger's table."""
        run, settings = self._run, self._run.settings
        if settings.backup == "off":
            run.log.info("backup_skipped", reason="HEADSTART_BACKUP=off")
        elif settings.backup == "auto" and not await postgres.holds_user_tables(
            ready.connection, self._history.project.version_table
        ):
            run.log.info("backup_skipped", reason="the database holds no tables yet")
        else:
            async with locked(run, ready):
                plans = await self.look_at_all(ready, tenants)  # again: another runner may have been quicker
                pending = [plan for plan in plans.values() if plan.pending]
                if all(tenant.outcome is not None for tenant in tenants):
                    return
                await safety.back_up(
                    run,
                    ready,
                    before=tuple(sorted({revision for plan in pending for revision in plan.before})),
                    intended=tuple(sorted({revision for plan in pending for revision in plan.after})),
                )
                await share(ready.connection)  # nobody takes another one before this run has ended
        if await prepare(ready.connection, mode=settings.ledger, log=run.log):
            await create(ready.connection)  # the first of each would be in each other's way

    async def all(self, canaries: Sequence[Tenant], others: Sequence[Tenant]) -> None:
        """The canaries, then the others: none of these if one of those failed."""
        async with Worker(self._crew) as worker:
            for tenant in canaries:
                await self._one(tenant, worker)
                if tenant.failed:
                    return
        stop = self._action == "up" and self._run.settings.tenants_on_failure == "stop"

        async def one(tenant: Tenant, worker: Worker) -> None:
            if not (stop and any(each.failed for each in others)):
                await self._one(tenant, worker)

        await self._in_parallel(others, one)

    async def _in_parallel(self, tenants: Sequence[Tenant], one: Callable[[Tenant, Worker], Awaitable[None]]) -> None:
        waiting = iter(tenants)

        async def hand() -> None:
            async with Worker(self._crew) as worker:
                for tenant in waiting:
                    await one(tenant, worker)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._run.settings.tenants_parallel):
                group.create_task(hand())

    async def _one(self, tenant: Tenant, worker: Worker) -> None:
        if tenant.outcome is not None:
            return
        run, log = self._run, logs.thorough(self._run.log).bind(tenant=tenant.target.name)
        job = self._job(tenant, self._action)
        own = Run(
            job.settings,
            log,
            job.run_id,
            environ=run.environ,
            cwd=run.cwd,
            redact=run.redact,
            interrupted=run.interrupted,
            options=job.options,
        )

        def relay(line: dict[str, Any]) -> None:
            event, level = line.pop("event"), line.pop("level")
            if event != "run_finished":
                line = {name: value for name, value in line.items() if name not in {"timestamp", "run_id"}}
                getattr(log, level, log.info)(event, **line)

        def ended(outcome: Outcome) -> None:
            tenant.outcome = outcome
            _finished(log, outcome)

        try:
            if job.schema is None and (plan := await self._look(own)) is not None:
                self._judge(tenant, plan, own)
            if tenant.outcome is None:
                await worker.do(job, relay, ended)
        except HeadstartError as error:
            ended(own.outcome(error))

    async def _look(self, own: Run) -> Plan | None:
        """A database is compared here, without Alembic; None where only a process of its own can tell."""
        try:
            async with connected(own) as ready:
                return await compare(own, ready, self._history)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None  # it will say what that was

    def _job(self, tenant: Tenant, action: Action) -> Job:
        run, name = self._run, tenant.target.name
        given = run.options.get("x") or []
        told = [] if any(each.startswith("tenant=") for each in given) else [f"tenant={name}"]
        return Job(
            action=action,
            tenant=name,
            schema=tenant.target.schema,
            settings=replace(
                run.settings,
                dsn=tenant.target.dsn,
                deadline=None,
                backup_jobs=max(run.settings.backup_jobs // run.settings.tenants_parallel, 1),
            ),
            run_id=self._run_id(tenant),
            cwd=run.cwd,
            path=sys.path,
            options={**run.options, "x": [*given, *told]},
            backup=run.backup,
        )

    def _run_id(self, tenant: Tenant) -> str:
        return f"{self._run.run_id}_{tenant.number}"


def _finished(log: Any, outcome: Outcome) -> None:  # noqa: ANN401  (a structlog logger)
    """A tenant's last line: `run_finished`, by another name."""
    fields = {
        "outcome": outcome.exit.outcome,
        "exit_code": int(outcome.exit),
        "revision_before": spell(outcome.revision_before),
        "revision_after": spell(outcome.revision_after),
        "applied": [each.revision for each in outcome.applied],
        "backup": outcome.backup,
    }
    if not outcome.ok:
        fields |= {"error": outcome.error, "hint": outcome.hint, "failed": outcome.failed, **outcome.context}
    fields |= {f"{stage}_seconds": value for stage, value in outcome.seconds.items()}
    (log.info if outcome.ok else log.error)("tenant_finished", **fields)
