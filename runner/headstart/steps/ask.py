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
)
from headstart.history.graph import revision_field
from headstart.postgres import version_table
from headstart.steps.compare import Comparison, Pending, Undetermined, UpToDate, decided, let_through
from headstart.steps.stage import Stage
from headstart.steps.watch import Watch
from headstart.worker.messages import Planned, TaskFailedError
from headstart.worker.process import WorkerLostError
from headstart.worker.tasks import Plan

if TYPE_CHECKING:
    from headstart.history.graph import Graph
    from headstart.postgres.version_table import Place
    from headstart.steps.context import Context


_AGAIN = "see what ended it (the server's log), then run again; nothing was changed"


async def ask(context: Context, *, up: bool = True, strict: bool = True, place: Place | None = None) -> Comparison:
    """Run env.py up to the point at which it would migrate, and compare what it finds with the history.

    Args:
        context: whose access is read-only as long as the lock is not held.
        up: whether the way goes up.
        strict: ask for the way to the run's target, and refuse a history that does not fit what is recorded; otherwise
            ask for what is recorded alone.
        place: where env.py had its version table when it was asked before in this run.

    Returns:
        Undetermined where env.py insists on writing, and may not.

    Raises:
        BrokenHistoryError: as `compare` (70).
        DatabaseAheadError: as `compare` (71).
        DatabaseUnknownError: as `compare` (72).
        ConfigurationError: env.py cannot be run, or reaches another database (10).
        InterruptedMigrationError: its connection, or the session that holds the lock, was lost meanwhile (63).
    """
    process = context.process
    again = partial(ask, context, up=up, strict=strict, place=place)
    task = Plan(**context.given, target=context.run.settings.target if strict else None, up=up)
    try:
        planned = await _planned(context, task)
    except EnvironmentWritesError as error:
        return Undetermined(reason=error.message)
    except TaskFailedError as error:
        if not process.fresh:  # env.py may not bear to be run twice in one process
            return await again()
        if error.failed.error == EnvironmentWritesError.__name__ and context.access.read_only:
            return Undetermined(reason=error.failed.message)
        if error.failed.lost:
            message = f"env.py was not run to its end: {error.failed.message}"
            raise InterruptedMigrationError(message, hint=_AGAIN, **error.failed.context) from error
        raise error.meaning from error
    if not process.fresh and place is not None and not planned.place.is_like(place):
        process.leave()
        return await again()
    return await _compared(context, planned, strict=strict, up=up)


async def _planned(context: Context, task: Plan) -> Planned:
    """Have env.py run, and give what it has found within `run_migrations()`."""
    run, connection = context.run, context.ready.connection
    try:
        with run.record.timed(Stage.LOAD):
            watch = Watch(context.process, connection, shortest=0, run=run, withheld=context.access.rolled_back)
            found = await watch.over(context.process.do(task))
    except (asyncio.CancelledError, EnvironmentWritesError, InterruptedMigrationError):
        await context.process.stop(connection)
        raise
    except WorkerLostError as error:
        raise not_to_its_end(error) from error
    if found is None:
        raise not_to_its_end(None)
    planned = msgspec.convert(found, Planned)
    run.record.found(planned.recorded)
    return planned


async def _compared(context: Context, planned: Planned, *, strict: bool, up: bool) -> Comparison:
    run, ready, graph = context.run, context.ready, context.found.graph
    recorded, place = planned.recorded, planned.place
    _require_files(graph, planned)
    plan = None
    if strict and graph is not None and (graph.revisions or planned.unknown):
        plan = await decided(run, ready, recorded, graph, ledger.key(place.table, place.configured))
    if planned.unknown:
        if plan is None or not (plan.beyond and up):
            raise DatabaseUnknownError(
                f"the database is at {', '.join(planned.unknown)}, which is not in this history (its head is"
                f" {', '.join(planned.heads)})",
                hint="start the image that knows it; `headstart history --ledger` lists who applied what",
            )
        let_through(run, recorded)
        return UpToDate(recorded=recorded, place=place, beyond=True)
    if place.schema is not None and place.oid is not None:
        await version_table.find_version_table(ready.connection, place.table, place.schema)
    run.record.pending = tuple(step.id for step in planned.steps)
    if not planned.steps:
        if up and plan is not None and not plan.nothing_pending:
            raise ConfigurationError(
                f"by Alembic's account nothing is pending, and by the revision files {', '.join(plan.pending)} is",
                hint="see whether env.py changes where the revision files are, or which",
            )
        if strict:
            run.log.info("nothing_pending", revision=revision_field(recorded), target=run.settings.target, beyond=False)
        return UpToDate(recorded=recorded, place=place)
    return Pending(
        recorded=recorded,
        steps=planned.steps,
        place=place,
        up=up,
        one_transaction=planned.one_transaction,
        heads=planned.heads,
    )


def _require_files(graph: Graph | None, planned: Planned) -> None:
    """Refuse an env.py that takes the revision files away: to Alembic, nothing is pending then.

    Raises:
        ConfigurationError: there are some, and Alembic finds none (10).
    """
    if graph is not None and graph.revisions and not planned.heads:
        raise ConfigurationError(
            f"once env.py has run, Alembic finds no revision files; before, there were {len(graph.revisions)}",
            hint="if env.py changes the working directory, let script_location begin with %(here)s",
        )


def not_to_its_end(error: WorkerLostError | None) -> HeadstartError:
    """The error of a run of env.py in which no revision was at work, and which did not come to its end."""
    cause = error.message if error is not None else "it never came to context.run_migrations()"
    message = f"env.py was not run to its end: {cause}"
    if error is None or error.by_itself:
        return ConfigurationError(message, hint="see what env.py does; nothing was changed")
    hint = "see what ended it (the kernel's log, if memory ran out), then run again; nothing was changed"
    return InterruptedMigrationError(message, hint=hint)
