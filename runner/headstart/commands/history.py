"""The revision that the database records, and what the ledger has of each step to it."""

from __future__ import annotations

from headstart import ledger
from headstart.errors import ConfigurationError
from headstart.history import History
from headstart.postgres.readiness import Ready
from headstart.steps.connect import connected, find
from headstart.steps.run import Run
from headstart.steps.standing import ledger_name, recorded


async def current(run: Run) -> tuple[str, ...]:
    """What the database records. No lock, no write."""
    history = find(run)
    async with connected(run) as ready:
        return await recorded(run, ready, history)


async def applied(run: Run) -> list[ledger.Row]:
    """What was done to the database, oldest first."""
    history = find(run)
    async with connected(run) as ready:
        name = await _readable_ledger(run, ready, history)
        return await ledger.rows(ready.connection, name, timeout=60)  # there may be many


async def _readable_ledger(run: Run, ready: Ready, history: History) -> str:
    """The name of this history in the ledger, with a warning if the ledger cannot be read."""
    name = await ledger_name(run, ready, history)
    reason = await ledger.unreadable(ready.connection, version_table=name)
    if reason:
        run.log.warning("ledger_not_read", cause=reason)
    return name


async def source(run: Run, revision: str) -> bytes:
    """A revision's file as it was when it was applied.

    Raises:
        ConfigurationError: the ledger does not have it, or cannot read it (10).
    """
    from headstart.ledger.source import as_applied

    history = find(run)
    async with connected(run) as ready:
        name = await _readable_ledger(run, ready, history)
        found = await as_applied(ready.connection, name, [revision])
    if revision not in found:
        raise ConfigurationError(
            f"the ledger does not have the source of revision {revision!r}",
            hint="`headstart history --ledger` lists what was applied; ids are not abbreviated here",
        )
    source = found[revision]
    if source is None:
        raise ConfigurationError(
            f"the source of revision {revision!r} in the ledger cannot be read: it is not compressed with zlib, or is"
            " larger than 16 MiB",
            hint="see what has written the column source of headstart.ledger",
        )
    return source
