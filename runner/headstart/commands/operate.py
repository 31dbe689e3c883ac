"""The other verbs that ask or act on a database: wait, status, backup, backups, stamp."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from headstart import ledger
from headstart.commands.up import at_work
from headstart.errors import (
    BackupFailedError,
    BrokenHistoryError,
    ConfigurationError,
    DatabaseAheadError,
    DatabaseUnknownError,
    HeadstartError,
    NotReadyError,
    RevisionEditedError,
)
from headstart.history.graph import spell
from headstart.postgres import lock, version_table
from headstart.postgres.readiness import wait_until_ready
from headstart.postgres.server import close
from headstart.steps.compare import Pending, Undetermined, UpToDate, by_name, compare
from headstart.steps.connect import connected, find, locked, working
from headstart.steps.run import Run

if TYPE_CHECKING:
    from headstart.backup import Backup
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.worker.supervise import Worker

PAUSE = 1.0
"""Seconds between two looks at the recorded revision while waiting for it."""


async def wait_for_server(run: Run) -> None:
    """Wait until a query is answered on the target database, by a primary that stays."""
    async with connected(run):
        pass


async def wait_for_head(run: Run) -> None:
    """Wait until the database is at this image's head: what an app's pod waits for. No lock, no write.

    Raises:
        NotReadyError: it is not there in time (20).
    """
    found = find(run)
    deadline = time.monotonic() + run.settings.wait_timeout
    spoke = float("-inf")
    async with connected(run) as ready, contextlib.AsyncExitStack() as reopened:
        connection = ready.connection
        with run.timed("wait"):
            while True:
                try:
                    plan = await standing(run, ready._replace(connection=connection), found)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    run.log.info("server_lost", error=type(error).__name__)
                    left = max(deadline - time.monotonic(), 0.1)
                    again = await wait_until_ready(
                        run.settings.dsn, timeout=left, application_name=run.application_name, log=run.log
                    )
                    connection = again.connection
                    reopened.push_async_callback(close, connection)
                    continue
                if isinstance(plan, UpToDate):
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NotReadyError(
                        f"the database is at {spell(plan.recorded)}, not at {run.settings.target}:"
                        f" {len(plan.steps)} revision(s) are pending",
                        hint="see whether the migration runs or has failed, or raise HEADSTART_WAIT_TIMEOUT",
                        pending=list(plan.revisions),
                    )
                if time.monotonic() - spoke >= 10:  # noqa: PLR2004  (seconds: long work speaks at least this often)
                    spoke = time.monotonic()
                    run.log.info(
                        "revision_waiting",
                        revision=spell(plan.recorded),
                        pending=list(plan.revisions),
                        left_seconds=left,
                    )
                await asyncio.sleep(min(PAUSE, left))
    run.log.info("at_target", revision=spell(run.after))


async def standing(run: Run, ready: Ready, history: History, *, worker: Worker | None = None) -> UpToDate | Pending:
    """Where the database stands: by the files where that is certain, else by env.py; nothing is changed.

    Args:
        run: this run.
        ready: the supervisor's session.
        history: the project.
        worker: one that several runs share; one of its own when left out.

    Raises:
        ConfigurationError: env.py writes before it can be asked, and computes where its version table is (10).
    """
    state = await compare(run, ready, history)
    if isinstance(state, Undetermined):
        state = await _looked(run, ready, history, worker=worker)
    return state


async def _looked(
    run: Run, ready: Ready, history: History, *, strict: bool = True, worker: Worker | None = None
) -> UpToDate | Pending:
    """Let env.py say what is recorded; the target does not matter where it is not strict."""
    from headstart.steps.work import Work  # the worker comes with it

    async with working(run, worker) as started, Work.opened(run, ready, history, started) as work:
        state = await work.look(strict=strict, target=None if strict else "")
    return await by_name(run, ready, history, strict=strict) if isinstance(state, Undetermined) else state


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
        found["revision"] = spell(run.after if plan is None else plan.recorded)
        found["target"] = run.settings.target
        found["pending"] = None if plan is None else list(plan.revisions) if isinstance(plan, Pending) else []
        found["at_target"] = isinstance(plan, UpToDate)
        found["problem"] = None if refused is None else refused.message
        found["lock_holders"] = [
            {"pid": each.pid, "application_name": each.application_name, "client_addr": each.client_addr}
            for each in await lock.holders(ready.connection)
        ]
        from headstart.postgres.activity import invalid_indexes

        found["invalid_indexes"] = sorted(await invalid_indexes(ready.connection))
        found["last_run"] = None
        if run.settings.ledger != "off":
            found["last_run"] = await _last_run(ready, await _name(run, ready, history, plan))
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
        "ended": last.at.isoformat(timespec="seconds"),
        "headstart": last.headstart,
        "image": last.image,
        "host": last.host,
        "role": last.role,
        "backup": last.backup,
        "revisions": [f"{row.action} {row.revision or 'base'}" for row in rows if row.run_id == last.run_id],
    }


async def _name(run: Run, ready: Ready, history: History, state: UpToDate | Pending | None = None) -> str:
    """What the ledger calls this project."""
    project = history.project
    if project.conclusive:
        return ledger.key(project.version_table, project.version_schema)
    state = state or await _looked(run, ready, history, strict=False)
    place = state.place
    assert place is not None  # noqa: S101  (env.py has said so)
    return ledger.key(place.table, place.configured)


async def applied(run: Run) -> list[ledger.Row]:
    """What was done to the database, oldest first."""
    history = find(run)
    async with connected(run) as ready:
        name = await _name(run, ready, history)
        await _say_if_unreadable(run, ready, name)
        return await ledger.rows(ready.connection, name)


async def _say_if_unreadable(run: Run, ready: Ready, name: str) -> None:
    reason = await ledger.unreadable(ready.connection, version_table=name)
    if reason:
        run.log.warning("ledger_not_read", cause=reason)


async def source(run: Run, revision: str) -> bytes:
    """A revision's file as it was when it was applied.

    Raises:
        ConfigurationError: the ledger does not have it, or not whole (10).
    """
    from headstart.ledger.source import as_applied

    history = find(run)
    async with connected(run) as ready:
        name = await _name(run, ready, history)
        await _say_if_unreadable(run, ready, name)
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


async def back_up(run: Run) -> None:
    """Take a backup now, under the migration lock, so that it never sees a half-migrated database.

    Raises:
        BackupFailedError: it is not whole (40).
    """
    from headstart.steps.backup import back_up as take

    async with connected(run) as ready, locked(run, ready):
        at = await _recorded(run, ready)
        run.found(at)
        await take(run, ready, before=at, intended=at)


async def recorded(run: Run) -> tuple[str, ...]:
    """What the database records. No lock, no write."""
    history = find(run)
    async with connected(run) as ready:
        return await _recorded_by(run, ready, history)


async def _recorded_by(run: Run, ready: Ready, history: History) -> tuple[str, ...]:
    project = history.project
    if not project.conclusive:
        await _looked(run, ready, history, strict=False)
        return run.after or ()
    return await version_table.recorded_revisions(ready.connection, project.version_table, project.version_schema)


async def _recorded(run: Run, ready: Ready) -> tuple[str, ...]:
    """What the backup's manifest is to say; a backup needs no Alembic project, and none that is in order."""
    try:
        history = find(run)
    except (ConfigurationError, BrokenHistoryError) as error:
        run.log.info("project_not_readable", cause=error.message)
        return await version_table.recorded_revisions(ready.connection, "alembic_version", None)
    return await _recorded_by(run, ready, history)


def backups(run: Run, database: str | None) -> tuple[Backup, ...]:
    """The whole backups in the folder, newest first, of one database or of all; says which are not whole."""
    from headstart.backup import list_backups

    listing = list_backups(run.settings.backup_dir, database)
    for broken in listing.broken:
        run.log.warning("backup_broken", path=str(broken.path), problem=broken.problem)
    return listing.backups


def shown(one: Backup) -> dict[str, Any]:
    """A backup as `status` and `backups list` give it."""
    manifest = one.manifest
    return {
        "path": str(one.path),
        "database": manifest.database,
        "started": manifest.started,
        "revision_before": spell(manifest.revision_before),
        "revision_intended": spell(manifest.revision_intended),
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
        "server_version": manifest.server_version,
        "proofs": [proof.kind for proof in manifest.proofs],
        "pinned": manifest.pinned,
        "damage": list(manifest.damage),
    }


async def verify_backups(run: Run, database: str | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read backups again: checksums, sizes, `pg_restore --list`.

    Args:
        run: this run.
        database: whose; None for all.
        names: folder names or paths; none means every backup.

    Raises:
        ConfigurationError: there is none of that name (10).
        BackupFailedError: one is damaged (40).
    """
    from headstart.backup import find_client, list_backups
    from headstart.backup.verify import verify

    listing = list_backups(run.settings.backup_dir, database)
    known = listing.backups
    wanted = {Path(name).name for name in names}
    broken = [one for one in listing.broken if not wanted or one.path.name in wanted]
    chosen = [each for each in known if not wanted or each.path.name in wanted]
    missing = wanted - {each.path.name for each in chosen} - {one.path.name for one in broken}
    if missing:
        raise ConfigurationError(
            f"there is no backup {', '.join(sorted(missing))} in {run.settings.backup_dir}",
            hint="`headstart backups list` shows what there is",
        )
    results: list[dict[str, Any]] = [
        {"path": str(one.path), "whole": False, "problems": [one.problem]} for one in broken
    ]
    for each in chosen:
        number = int(each.manifest.server_version.split(".")[0].split()[0]) * 10000
        client = await find_client(number, path=run.environ.get("PATH", ""))
        verdict = await verify(each, client, log=run.log, jobs=run.settings.backup_jobs)
        results.append({**shown(verdict.backup), "whole": verdict.whole, "problems": list(verdict.problems)})
    damaged = [result["path"] for result in results if not result["whole"]]
    if damaged:
        raise BackupFailedError(
            f"damaged: {', '.join(damaged)}",
            hint="take a new one (headstart backup), then remove the damaged",
            backups=results,
        )
    return results


async def stamp(run: Run, revisions: Sequence[str], *, purge: bool) -> None:
    """Write the version table without running anything, under the lock."""
    found = find(run)
    async with connected(run) as ready, at_work(run, ready, found) as work, locked(run, ready):
        plan = await work.plan(strict=False, target="")
        assert plan.place is not None  # noqa: S101  (env.py has said so)
        await work.verify(await work.stamp(plan.place, revisions, purge=purge))
