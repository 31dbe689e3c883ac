"""Take a backup now, or verify those that there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.errors import BackupFailedError, BrokenHistoryError, ConfigurationError
from headstart.postgres import version_table
from headstart.postgres.readiness import Ready
from headstart.steps.backup import shown
from headstart.steps.connect import connected, find, locked
from headstart.steps.run import Run
from headstart.steps.standing import recorded


async def back_up(run: Run) -> None:
    """Take a backup now, under the migration lock, so that it never sees a half-migrated database.

    Raises:
        BackupFailedError: it could not be taken (40).
    """
    from headstart.steps.backup import back_up as take

    async with connected(run) as ready, locked(run, ready):
        at = await _recorded(run, ready)
        run.record.found(at)
        await take(run, ready, before=at, intended=at)


async def _recorded(run: Run, ready: Ready) -> tuple[str, ...]:
    """The revisions for the manifest. A backup needs no Alembic project, or one that can be read."""
    try:
        history = find(run)
    except (ConfigurationError, BrokenHistoryError) as error:
        run.log.info("project_not_readable", cause=error.message)
        return await version_table.recorded_revisions(ready.connection, "alembic_version", None)
    return await recorded(run, ready, history)


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
    from headstart.backup import list_backups
    from headstart.backup.clients import find_client, major_of
    from headstart.backup.verify import verify

    listing = list_backups(run.settings.backup_dir, database)
    known = listing.backups
    wanted = {Path(name).name for name in names}
    broken = [one for one in listing.broken if not wanted or one.path.name in wanted]
    chosen = [each for each in known if not wanted or each.name in wanted]
    missing = wanted - {each.name for each in chosen} - {one.path.name for one in broken}
    if missing:
        raise ConfigurationError(
            f"there is no backup {', '.join(sorted(missing))} in {run.settings.backup_dir}",
            hint="`headstart backups list` shows what there is",
        )
    results: list[dict[str, Any]] = [
        {"path": str(one.path), "whole": False, "problems": [one.problem]} for one in broken
    ]
    for each in chosen:
        client = await find_client(major_of(each.manifest.server_version) * 10000, path=run.environ.get("PATH", ""))
        read = await verify(each, client, log=run.log, jobs=run.settings.backup_jobs)
        results.append({**shown(read), "whole": read.good, "problems": list(read.manifest.damage)})
    another_s = {str(one.path): one for one in broken if one.hint is not None}
    damaged = [result["path"] for result in results if not result["whole"] and result["path"] not in another_s]
    causes = [f"damaged: {', '.join(damaged)}"] if damaged else []
    causes += [f"not read: {path}: {one.problem}" for path, one in another_s.items()]
    hints = ["take a new one (headstart backup), then remove the damaged"] if damaged else []
    hints += [one.hint for one in another_s.values() if one.hint is not None]
    if causes:
        raise BackupFailedError("; ".join(causes), hint="; ".join(hints), backups=results)
    return results
