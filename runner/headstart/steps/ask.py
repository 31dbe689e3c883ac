"""What is recorded against what the history holds, by env.py itself, in the worker."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from headstart import ledger
from headstart.errors import (
    ConfigurationError,
    DatabaseUnknownError,
    EnvironmentWritesError,
    HeadstartError,
    InterruptedMigrationError,
    named,
)
from headstart.history.graph import revision_field
from headstart.postgres import version_table
from headstart.steps.compare import Comparison, Pending, Undetermined, UpToDate, decided, let_through
from headstart.steps.environ import environ_of
from headstart.steps.stage import Stage
from headstart.steps.watch import Watch
from headstart.worker.messages import Planned
from headstart.worker.process import TaskFailedError, WorkerLostError
from headstart.worker.tasks import Plan

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.messages import Message
    from headstart.worker.process import Process
    from headstart.worker.tasks import Access, Place


async def ask(
    run: Run,
    ready: Ready,
    found: History,
    process: Process,
    access: Access,
    *,
    up: bool = True,
    strict: bool = True,
    target: str | None = None,
    place: Place | None = None,
) -> Comparison:
    """Run env.py up to the point at which it would migrate, and compare what it finds with the history.

    Args:
        run: this run.
        ready: the supervisor's session.
        found: the files.
        process: of the worker.
        access: read-only as long as the lock is not held.
        up: whether the way goes up.
        strict: refuse a history that does not fit what is recorded.
        target: the run's own when left out; "" to ask for what is recorded alone.
        place: where env.py had its version table when it was asked before in this run.

    Returns:
        Undetermined where env.py insists on writing, and may not.

    Raises:
        BrokenHistoryError: as `compare` (70).
        DatabaseAheadError: as `compare` (71).
        DatabaseUnknownError: as `compare` (72).
        ConfigurationError: env.py cannot be run, or reaches another database (10).
    """
    again = partial(ask, run, ready, found, process, access, up=up, strict=strict, target=target, place=place)
    wanted = run.settings.target if target is None else target or None
    task = Plan(
        project=found.project,
        access=access,
        options=run.options,
        environ=environ_of(run),
        target=wanted if found.graph is None or strict else None,
        up=up,
    )
    try:
        planned = await _planned(run, ready, process, task)
    except TaskFailedError as error:
        if not process.fresh:  # env.py may not bear to be run twice in one process
            return await again()
        if error.failed.error == EnvironmentWritesError.__name__ and access.read_only:
            return Undetermined(reason=error.failed.message)
        if error.failed.error == DatabaseUnknownError.__name__ and found.graph is not None and strict:
            state = await again(strict=False, target="")
            if isinstance(state, UpToDate) and await _is_ahead(run, ready, found, state) and up:
                return msgspec.structs.replace(state, beyond=True)
        raise failure(error) from error
    if not process.fresh and place is not None and not planned.place.is_like(place):
        process.leave()
        return await again()
    return await _compared(run, ready, found, planned, strict=strict, wanted=wanted)


async def _is_ahead(run: Run, ready: Ready, found: History, state: UpToDate) -> bool:
    """Whether a database that records what Alembic does not know is newer than the files, and welcome (`allow`).

    Raises:
        DatabaseAheadError: it is newer, by the ledger's account (71).
        DatabaseUnknownError: nobody knows (72).
    """
    place = state.place
    assert found.graph is not None  # noqa: S101  (seen to before)
    assert place is not None  # noqa: S101  (env.py has said so)
    plan = await decided(run, ready, state.recorded, found.graph, ledger.key(place.table, place.configured))
    if plan is None or not plan.beyond:
        return False
    let_through(run, state.recorded)
    return True


async def _planned(run: Run, ready: Ready, process: Process, task: Plan) -> Planned:
    """Have env.py run, and give what it has reported from within `run_migrations()`."""
    planned: list[Planned] = []

    def hear(message: Message) -> None:
        if isinstance(message, Planned):
            planned.append(message)
            run.record.found(message.recorded)

    try:
        with run.record.timed(Stage.LOAD):
            await Watch(process, ready.connection, shortest=0, log=run.log).over(task, hear)
    except (asyncio.CancelledError, InterruptedMigrationError):
        await process.stop(ready.connection)
        raise
    except WorkerLostError as error:
        raise _not_to_its_end(error) from error
    if len(planned) != 1:
        raise _not_to_its_end(None)
    return planned[0]


async def _compared(
    run: Run, ready: Ready, found: History, planned: Planned, *, strict: bool, wanted: str | None
) -> Comparison:
    recorded, place = planned.recorded, planned.place
    if strict and found.graph is not None and found.graph.revisions:
        await decided(run, ready, recorded, found.graph, ledger.key(place.table, place.configured))
    if place.schema is not None and place.oid is not None:
        await version_table.find_version_table(ready.connection, place.table, place.schema)
    run.record.pending = tuple(step.revision for step in planned.steps) if wanted is not None else ()
    if wanted is None or not planned.steps:
        if wanted is not None:
            run.log.info("nothing_pending", revision=revision_field(recorded), target=wanted, beyond=False)
        return UpToDate(recorded=recorded, place=place)
    return Pending(
        recorded=recorded,
        steps=planned.steps,
        place=place,
        one_transaction=planned.one_transaction,
        heads=planned.heads,
    )


def failure(error: TaskFailedError) -> HeadstartError:
    """A failed task as an error of ours, where no revision was at work."""
    failed = error.failed
    return named(failed.error)(failed.message, hint=failed.hint, **failed.context)


def _not_to_its_end(error: WorkerLostError | None) -> HeadstartError:
    cause = error.message if error is not None else "it never came to context.run_migrations()"
    message = f"env.py was not run to its end: {cause}"
    if error is None or error.by_itself:
        return ConfigurationError(message, hint="see what env.py does; nothing was changed")
    hint = "see what ended it (the kernel's log, if memory ran out), then run again; nothing was changed"
    return InterruptedMigrationError(message, hint=hint)
