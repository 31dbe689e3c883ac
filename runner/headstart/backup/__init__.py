"""The backup before a migration: pg_dump, proven whole, published by one rename. Off the no-op path.

`take` is the story; the rooms around it are `clients` (which pg_dump), `dump` (how it is run), `database` (what is
asked of it), `folder` (where the dump goes), `verify` (what proves it whole), `progress`, and `manifest` (what is
written down). What is deleted afterwards is decided in `headstart.backup.retention`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from headstart.backup import database as databases
from headstart.backup import dump as dumps
from headstart.backup import folder as folders
from headstart.backup import manifest as manifests
from headstart.backup import retention
from headstart.backup import verify as proofs
from headstart.backup.clients import Client, best_compression, find_client
from headstart.backup.folder import Listing, list_backups, sweep
from headstart.backup.manifest import Backup, Broken, FileSum, Manifest, Proof
from headstart.backup.progress import Progress, Stage
from headstart.backup.retention import Decision
from headstart.backup.verify import Verdict, verify
from headstart.errors import BackupFailedError
from headstart.settings.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    import asyncpg
    from structlog.typing import FilteringBoundLogger

    from headstart.settings.dsn import Dsn

__all__ = [
    "Backup",
    "Broken",
    "Client",
    "FileSum",
    "Listing",
    "Manifest",
    "Proof",
    "Verdict",
    "best_compression",
    "find_client",
    "list_backups",
    "prune",
    "sweep",
    "take",
    "verify",
]

#: A first dump is expected to need this share of the database's size: indexes are left out and the rest is compressed.
FIRST_SHARE = 0.5
#: A later one may be this much larger, relative to the database, than the last one was.
GROWTH = 1.25
#: Room that stays free beside the dump, in bytes.
RESERVE = 16 * 1024 * 1024


class ServerLike(Protocol):
    """What has to be known of the server: `headstart.postgres.Server` has it."""

    @property
    def version_num(self) -> int: ...
    @property
    def version(self) -> str: ...
    @property
    def database(self) -> str: ...


async def take(
    *,
    directory: Path,
    dsn: Dsn,
    server: ServerLike,
    conn: asyncpg.Connection,
    before: tuple[str, ...],
    intended: tuple[str, ...],
    jobs: int,
    keep: int,
    run_id: str,
    environ: Mapping[str, str],
    log: FilteringBoundLogger,
    redact: Callable[[str], str],
    now: Callable[[], datetime],
    heartbeat: float = 5.0,
    watch: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
) -> Backup:
    """Take a backup of the database, prove it whole, publish it, and only then prune older ones.

    The caller holds the migration lock of the database on `conn`. That connection is asked before and after the dump
    and is left alone while pg_dump runs.

    Args:
        directory: HEADSTART_BACKUP_DIR; made if it is missing.
        dsn: the server that `conn` is connected to, and no other of several hosts.
        server: its version and the database's name.
        conn: a connection to the database, idle, outside a transaction.
        before: the recorded revisions, () for none.
        intended: the revisions to be reached; the same as `before` when no migration is at hand.
        jobs: parallel dump jobs at most.
        keep: how many backups of the database stay.
        run_id: of this run.
        environ: our environment; PATH is searched for pg_dump, and very little is handed on.
        log: receives progress.
        redact: takes secrets out of what pg_dump says.
        now: the clock.
        heartbeat: seconds between two lines of progress.
        watch: asked for further fields for each line of progress, such as who blocks the dump.

    Raises:
        UnsuitableServerError: no pg_dump for the server's version.
        BackupFailedError: no room, no privilege, a folder that cannot be used, or a dump that is not whole. Nothing of
            it is left, and no older backup was touched.
    """
    begun, started = time.monotonic(), now()
    client = await find_client(server.version_num, path=environ.get("PATH", ""))
    compression = await best_compression(client)
    home = directory / folders.safe_name(server.database)
    await databases.end_orphans(conn, log=log)
    for left in sweep(home):
        log.info("partial_backup_removed", path=str(left))
    await databases.warn_of_other_dumps(conn, log=log)
    facts = await databases.look(conn)
    older = list_backups(directory, server.database)
    for broken in older.broken:
        log.warning("backup_broken", path=str(broken.path), problem=broken.problem)

    staging = folders.Staging(home, run_id)
    staging.create()
    try:
        _check_room(directory, facts, older)
        jobs = max(1, min(jobs, len(facts.tables)))
        log.info(
            "backup_started",
            database=server.database,
            database_bytes=facts.bytes,
            tables=len(facts.tables),
            client_version=client.version,
            compression=compression,
            jobs=jobs,
        )
        env = dumps.environment(dsn.libpq_env(), environ, run_id=run_id)
        async with Progress(staging.dump, len(facts.tables), log=log, heartbeat=heartbeat, watch=watch) as progress:
            await dumps.dump(
                client,
                staging.dump,
                jobs=jobs,
                compression=compression,
                env=env,
                directory=directory,
                log=log,
                redact=redact,
            )
            dumped = time.monotonic()
            progress.stage = Stage.PROVE
            listed = await proofs.contents(client, staging.dump, env=dumps.bare(environ))
            sums = await _checksum(staging, jobs=jobs, directory=directory)
            proven = manifests.timestamp(now())
        await _check_tables(conn, facts, listed, staging)
        manifest = Manifest(
            database=server.database,
            server_version=server.version,
            client_version=client.version,
            revision_before=before,
            revision_intended=intended,
            started=manifests.timestamp(started),
            seconds=round(time.monotonic() - begun, 3),
            bytes=sum(one.bytes for one in sums.values()),
            database_bytes=facts.bytes,
            tables=len(listed),
            compression=compression,
            jobs=jobs,
            files=sums,
            proofs=(Proof(kind="checksummed", at=proven), Proof(kind="listed", at=proven)),
            headstart_version=__version__,
            run_id=run_id,
            sequence=1 + max((one.manifest.sequence for one in older.backups), default=0),
            system_identifier=facts.system_identifier,
        )
        backup = staging.publish(manifest, started)
    except BaseException:
        staging.discard()
        raise
    log.info(
        "backup_taken",
        path=str(backup.path),
        total_bytes=manifest.bytes,
        files=len(sums),
        tables=manifest.tables,
        dump_seconds=round(dumped - begun, 3),
        total_seconds=round(time.monotonic() - begun, 3),
    )
    prune(directory, server.database, keep, log=log, just_taken=backup)
    return backup


def prune(
    directory: Path,
    database: str,
    keep: int,
    *,
    log: FilteringBoundLogger,
    just_taken: Backup | None = None,
) -> Decision:
    """Delete what retention does not keep, for each server that has a database of this name in the folder.

    A backup that cannot be deleted is a warning: the run has what it came for.

    Raises:
        BackupFailedError: the folder cannot be read.
    """
    backups = list_backups(directory, database).backups
    kept: list[str] = []
    deleted: dict[str, str] = {}
    for identifier in sorted({one.manifest.system_identifier for one in backups}):
        mine = [one for one in backups if one.manifest.system_identifier == identifier]
        decision = retention.decide(
            map(_held, mine),
            retention.Policy(keep=keep),
            just_taken=just_taken.path.name if just_taken is not None else None,
        )
        kept += decision.keep
        for one in mine:
            reason = decision.delete.get(one.path.name)
            if reason is None:
                continue
            try:
                folders.delete(one.path)
            except OSError as error:
                log.warning("backup_not_deleted", path=str(one.path), reason=error.strerror)
            else:
                log.info("backup_deleted", path=str(one.path), reason=reason)
                deleted[one.path.name] = reason
    return Decision(keep=tuple(kept), delete=deleted)


def _held(backup: Backup) -> retention.Held:
    manifest = backup.manifest
    return retention.Held(
        name=backup.path.name,
        sequence=manifest.sequence,
        started=manifest.started,
        before=manifest.revision_before,
        intended=manifest.revision_intended,
        pinned=manifest.pinned,
        good=not manifest.damage,
    )


def _check_room(directory: Path, facts: databases.Facts, older: Listing) -> None:
    mine = (one.manifest for one in older.backups if one.manifest.system_identifier == facts.system_identifier)
    last, share = next(mine, None), FIRST_SHARE
    if last is not None and last.database_bytes > 0:
        share = last.bytes / last.database_bytes * GROWTH
    needed, free = int(facts.bytes * share) + RESERVE, folders.free_bytes(directory)
    if needed > free:
        message = (
            f"no room for a backup: about {_mib(needed)} are needed, "
            f"{_mib(free)} are free in HEADSTART_BACKUP_DIR={directory}"
        )
        raise BackupFailedError(
            message,
            hint="make room there, or set HEADSTART_BACKUP_DIR to a larger folder",
            needed_bytes=needed,
            free_bytes=free,
            database_bytes=facts.bytes,
        )


def _mib(count: int) -> str:
    return f"{count / 1024 / 1024:,.0f} MiB"


async def _checksum(staging: folders.Staging, *, jobs: int, directory: Path) -> dict[str, FileSum]:
    try:
        sums = await proofs.checksum(staging.path, folders.files(staging.path), jobs=jobs, sync=True)
        manifests.fsync_folder(staging.dump)
    except OSError as error:
        raise folders.unusable(directory, error) from error
    return sums


async def _check_tables(
    conn: asyncpg.Connection, facts: databases.Facts, listed: Mapping[int, int], staging: folders.Staging
) -> None:
    lost = proofs.without_file(staging.dump, listed)
    if unlisted := [oid for oid in facts.tables if oid not in listed]:
        # The application may have dropped a table since we looked: only what still stands is a loss.
        lost += await databases.standing(conn, unlisted)
    if lost:
        tables = sorted(facts.tables.get(oid, str(oid)) for oid in lost)
        raise BackupFailedError(
            f"the dump lacks the data of {len(tables)} table(s): {', '.join(tables[:10])}",
            hint="see what pg_dump said about them, then run again",
            tables=tables,
        )
