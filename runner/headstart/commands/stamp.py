"""Write the version table without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.steps.begin import at_work
from headstart.steps.connect import connected, find, locked

if TYPE_CHECKING:
    from headstart.steps.run import Run


async def stamp(run: Run, revisions: Sequence[str], *, purge: bool) -> None:
    """Write the version table without running anything, under the lock."""
    found = find(run)
    async with connected(run) as ready, at_work(run, ready, found) as work, locked(run, ready):
        plan = await work.plan(strict=False)
        await work.guard(plan)
        await work.verify(await work.stamp(plan.place, revisions, purge=purge))
