"""A backup under the migration lock, before anything pending is run or for the verb `backup`; and those there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart import backup
from headstart.backup.dump import application_of
from headstart.history.graph import revision_field
from headstart.postgres.blockers import remedy
from headstart.postgres.lock import stop_if_lost
from headstart.postgres.server import holds_user_tables
from headstart.steps.blockers import Blockers
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run


async def wanted(run: Run, ready: Ready, version_table: str) -> bool:
    """Whether HEADSTART_BACKUP asks for a backup before a migration; the log says why if it does not."""
    reason = None
    if run.settings.backup == "off":
        reason = "HEADSTART_BACKUP=off"
    elif run.settings.backup == "auto" and not await holds_user_tables(ready.connection, version_table):
        reason = "the database holds no tables yet"
    if reason is not None:
        run.log.info("backup_skipped", reason=reason)
    return reason is None


async def back_up(run: Run, ready: Ready, *, before: tuple[str, ...], intended: tuple[str, ...]) -> None:
    """Take a backup while the lock's connection lives, and note where it is.

    Args:
        run: this run.
        ready: the connection that holds the lock, idle.
        before: the recorded revisions.
        intended: where they are to go; the same where no migration is at hand.

    Raises:
        BackupFailedError: it is not whole (40).
        UnsuitableServerError: there is no pg_dump for the server's version (22).
        InterruptedMigrationError: the session that holds the lock was lost meanwhile (63).
    """
    with run.record.timed(Stage.BACKUP):
        in_the_way = Blockers(run, ready.connection)
        async with stop_if_lost(ready.connection) as heartbeat:

            async def watch() -> dict[str, object]:
                await heartbeat()
                found = await in_the_way.look(application_name=application_of(run.run_id))
                return {"blockers": [str(each) for each in found], "hint": remedy(found)} if found else {}

            request = backup.Request(
                ready=ready,
                directory=run.settings.backup_dir,
                before=before,
                intended=intended,
                jobs=run.settings.backup_jobs,
                keep=run.settings.backup_keep,
                run_id=run.run_id,
                environ=run.environ,
                log=run.log,
                redact=run.redact,
                watch=watch,
            )
            taken = await backup.take(request)
    run.record.backup = str(taken.path)


def backups(run: Run, database: str | None) -> tuple[backup.Backup, ...]:
    """The whole backups in the folder, newest first, of one database or of all; says what is passed over, and why."""
    listing = backup.list_backups(run.settings.backup_dir, database)
    for broken in listing.broken:
        run.log.warning("backup_broken", **broken.fields)
    for link in listing.links:
        run.log.info("backup_link_ignored", path=str(link))
    return listing.backups


def shown(one: backup.Backup) -> dict[str, Any]:
    """A backup as `status` and `backups list` give it."""
    manifest = one.manifest
    return {
        "path": str(one.path),
        "database": manifest.database,
        "started": manifest.started,
        "revision_before": revision_field(manifest.revision_before),
        "revision_intended": revision_field(manifest.revision_intended),
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
        "server_version": manifest.server_version,
        "proofs": [proof.kind for proof in manifest.proofs],
        "pinned": manifest.pinned,
        "damage": list(manifest.damage),
    }
