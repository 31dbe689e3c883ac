"""Write the version table without running anything."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.steps.connect import connected, find, locked
from headstart.steps.run import Run
from headstart.steps.work import Work


async def stamp(run: Run, revisions: Sequence[str], *, purge: bool) -> None:
    """Write the version table without running anything, under the lock."""
    found = find(run)
    async with connected(run) as ready, Work.opened(run, ready, found) as work, locked(run, ready):
        plan = await work.plan(strict=False)
        await work.guard(plan)
        await work.verify(await work.stamp(plan.place, revisions, purge=purge))
