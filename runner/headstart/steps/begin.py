"""Begin what needs a worker: start it first, since it imports Alembic meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from headstart.steps.connect import working

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.steps.work import Work
    from headstart.worker.supervise import Worker


@contextlib.asynccontextmanager
async def at_work(run: Run, ready: Ready, found: History, shared: Worker | None = None) -> AsyncIterator[Work]:
    """What has to be done under the lock, with a worker for it."""
    async with working(run, shared) as worker:
        from headstart.steps.work import Work  # while the worker imports Alembic

        async with Work.opened(run, ready, found, worker) as work:
            yield work
