"""Where a database stands, asked without a lock and without a write: by the files, or else by env.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart import ledger
from headstart.errors import ConfigurationError
from headstart.postgres import version_table
from headstart.steps.compare import Pending, Undetermined, UpToDate, by_name, compare

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker

_UNASKED = "env.py commits to the database before it runs migrations, so it cannot be asked without changing something"
_MENDED = (
    "run `headstart up`, if it has not been run: CREATE ... IF NOT EXISTS of what is there counts as no write; or let"
    " the first revision do what env.py does there, or give version_table_schema as a literal"
)


async def standing(run: Run, ready: Ready, history: History, *, worker: Worker | None = None) -> UpToDate | Pending:
    """Where the database stands: by the files where that is certain, else by env.py; nothing is changed.

    Args:
        run: this run.
        ready: the supervisor's session.
        history: the project.
        worker: one that several runs share; one of its own when left out.

    Raises:
        ConfigurationError: env.py insists on committing what it writes before it can be asked, and computes where its
            version table is (10).
    """
    state = await compare(run, ready, history)
    if isinstance(state, Undetermined):
        state = await looked(run, ready, history, worker=worker)
    return state


async def looked(
    run: Run, ready: Ready, history: History, *, strict: bool = True, worker: Worker | None = None
) -> UpToDate | Pending:
    """Let env.py say what is recorded; the target does not matter where it is not strict."""
    from headstart.steps.work import Work  # the worker comes with it

    async with Work.opened(run, ready, history, worker) as work:
        state = await work.look(strict=strict)
        if isinstance(state, Undetermined):
            state = await by_name(run, ready, history, strict=strict)
        if isinstance(state, Undetermined):
            state = await work.look(strict=strict, rolled_back=True)
    if isinstance(state, Undetermined):
        raise ConfigurationError(f"{_UNASKED}: {state.reason}", hint=_MENDED)
    return state


async def recorded(run: Run, ready: Ready, history: History) -> tuple[str, ...]:
    """What the database records, whatever the target is."""
    project = history.project
    if not project.conclusive:
        return (await looked(run, ready, history, strict=False)).recorded
    return await version_table.recorded_revisions(ready.connection, project.version_table, project.version_schema)


async def ledger_name(run: Run, ready: Ready, history: History, state: UpToDate | Pending | None = None) -> str:
    """What the ledger calls this project."""
    project = history.project
    if project.conclusive:
        return ledger.key(project.version_table, project.version_schema)
    state = state or await looked(run, ready, history, strict=False)
    return ledger.key(state.place.table, state.place.configured)
