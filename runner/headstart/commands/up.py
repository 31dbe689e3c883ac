"""The main job, and its way back. `up` reads from top to bottom as what the product does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from headstart.steps.compare import Pending, Undetermined, UpToDate, compare
from headstart.steps.connect import connected, find, locked, working
from headstart.steps.indexes import report_invalid, require_valid

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker


async def up(run: Run, *, found: History | None = None, worker: Worker | None = None) -> None:
    """Bring the database to the target: wait, compare, lock, compare again, guard, back up, upgrade, verify, record.

    Nothing pending takes no lock, writes nothing and imports no Alembic.

    Args:
        run: this run.
        found: the project, if it has been read.
        worker: one that several runs share; one of its own when left out.
    """
    found = found or find(run)
    async with connected(run) as ready:  # wait
        await _to_target(run, ready, found, worker)
        await require_valid(run, ready.connection, found)


async def _to_target(run: Run, ready: Ready, found: History, worker: Worker | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        state = await compare(run, ready, found)
        if isinstance(state, UpToDate):
            return
        worker = await stack.enter_async_context(working(run, worker))  # it imports Alembic, and we import
        from headstart.steps.work import Work  # off the no-op path

        work = await stack.enter_async_context(Work.opened(run, ready, found, worker))
        if isinstance(state, Undetermined) and isinstance(await work.look(), UpToDate):
            return
        async with locked(run, ready):
            state = await compare(run, ready, found)  # again: another runner may have been quicker
            if isinstance(state, UpToDate):
                return
            if run.settings.schema_file is not None:
                from headstart.steps.schema_load import load_instead  # off the no-op path

                if await load_instead(run, ready, found, state):
                    return
            plan = await work.plan()  # by env.py itself
            if isinstance(plan, Pending):
                await work.guard(plan)
                await work.back_up(plan)
                plan = await work.migrate(plan)
            await work.verify(plan)


async def downgrade(run: Run) -> None:
    """Take the database down to the target, with the same lock and backup."""
    from headstart.steps.work import Work  # as above

    found = find(run)
    async with connected(run) as ready, Work.opened(run, ready, found) as work, locked(run, ready):
        plan = await work.plan(up=False)
        if isinstance(plan, Pending):
            await work.guard(plan)
            await work.back_up(plan)
            plan = await work.migrate(plan)
        await work.verify(plan)
        await report_invalid(run, ready.connection)
