"""Where the database is, what is pending, who holds the lock, the last run, the backups."""

from __future__ import annotations

from typing import Any

import asyncpg

from headstart import ledger
from headstart.errors import (
    BackupFailedError,
    DatabaseAheadError,
    DatabaseUnknownError,
    HeadstartError,
    RevisionEditedError,
)
from headstart.history.graph import revision_field
from headstart.postgres import lock
from headstart.postgres.readiness import Ready
from headstart.steps.backup import backups, shown
from headstart.steps.compare import Pending, UpToDate
from headstart.steps.connect import connected, find
from headstart.steps.indexes import invalid, left_invalid
from headstart.steps.run import Run
from headstart.steps.standing import ledger_name, standing


async def status(run: Run) -> tuple[dict[str, Any], HeadstartError | None]:
    """Where the database is, what is pending, who holds the lock, and which backups there are.

    Returns:
        All that could be found out, and why `up` would refuse this database, if it would: what is recorded does not fit
        the history (71, 72, 73). What is pending is not known then.
    """
    history = find(run)
    found: dict[str, Any] = {}
    refused: HeadstartError | None = None
    plan: UpToDate | Pending | None = None
    async with connected(run) as ready:
        try:
            plan = await standing(run, ready, history)
        except (DatabaseAheadError, DatabaseUnknownError, RevisionEditedError) as error:
            refused = error
        found["server"] = {"version": ready.server.version, "address": ready.dsn.display()}
        found["database"] = ready.server.database
        found["revision"] = revision_field(run.record.after if plan is None else plan.recorded)
        found["target"] = run.settings.target
        found["pending"] = None if plan is None else list(plan.revisions) if isinstance(plan, Pending) else []
        left = await left_invalid(run, ready.connection, history)
        if refused is None and left:
            refused = invalid(left)
        found["at_target"] = isinstance(plan, UpToDate) and not left
        found["beyond"] = isinstance(plan, UpToDate) and plan.beyond
        found["problem"] = None if refused is None else refused.message
        found["lock_holders"] = [
            {"pid": each.pid, "application_name": each.application_name, "client_addr": each.client_addr}
            for each in await lock.holders(ready.connection)
        ]
        from headstart.postgres.indexes import invalid_indexes

        found["invalid_indexes"] = [str(each) for each in sorted(await invalid_indexes(ready.connection))]
        found["last_run"] = None
        if run.settings.ledger != "off":
            try:
                found["last_run"] = await _last_run(ready, await ledger_name(run, ready, history, plan))
            except (ledger.LedgerLockedError, asyncpg.PostgresError) as error:  # a status without it is still a status
                run.log.warning("ledger_not_read", cause=str(error))
    try:
        found["backups"] = [shown(each) for each in backups(run, ready.server.database)]
    except BackupFailedError as error:  # a status without a readable backup folder is still a status
        found["backups"], found["backups_problem"] = [], error.message
    return found, refused


async def _last_run(ready: Ready, name: str) -> dict[str, Any] | None:
    """The last run that changed something, as the ledger has it."""
    rows = await ledger.rows(ready.connection, name)
    if not rows:
        return None
    last = rows[-1]
    return {
        "run_id": last.run_id,
        "ended": last.at,
        "headstart": last.headstart,
        "image": last.image,
        "host": last.host,
        "role": last.role,
        "backup": last.backup,
        "revisions": [f"{row.action} {row.revision or 'base'}" for row in rows if row.run_id == last.run_id],
    }
