"""Take a backup: dump, verify, publish by one rename, and only then prune older ones."""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headstart.backup import database as databases
from headstart.backup import dump as dumps
from headstart.backup import folder as folders
from headstart.backup import verify as checks
from headstart.backup.clients import best_compression, find_client
from headstart.backup.durable import fsync_folder
from headstart.backup.folder import list_backups, mebibytes, sweep
from headstart.backup.manifest import Manifest, Proof, timestamp
from headstart.backup.progress import progress
from headstart.backup.retention import prune
from headstart.errors import BackupFailedError
from headstart.log.printable import counted, first_and_last
from headstart.settings.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    import asyncpg
    from structlog.typing import FilteringBoundLogger

    from headstart.backup.clients import Client
    from headstart.backup.folder import Listing, Staging
    from headstart.backup.manifest import Backup, FileSum
    from headstart.postgres.readiness import Ready

#: A first dump is expected to need this share of the database's size: indexes are left out and the rest is compressed.
FIRST_SHARE = 0.5
#: A later one may be this much larger, relative to the database, than the last one was.
GROWTH = 1.25
#: Room that stays free beside the dump, in bytes.
RESERVE = 16 * 1024 * 1024
TRIES = 3
"""How often pg_dump is run where a table is dropped under it."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Which database to back up, and how.

    Args:
        ready: a connection to the database, idle, outside a transaction. The caller holds the migration lock on it. It
            is used before and after the dump and is left alone while pg_dump runs.
        directory: HEADSTART_BACKUP_DIR; made if it is missing.
        before: the recorded revisions, () for none.
        intended: the revisions to be reached; the same as `before` if nothing is migrated.
        jobs: parallel dump jobs at most.
        keep: how many backups of the database stay.
        run_id: of this run.
        environ: our environment; PATH is searched for pg_dump, and very little is handed on.
        log: receives progress.
        redact: takes secrets out of what pg_dump prints.
        interval: seconds between two lines of progress.
        watch: asked for further fields for each line of progress: `blockers`, and `hint` what to do about them.
    """

    ready: Ready
    directory: Path
    before: tuple[str, ...]
    intended: tuple[str, ...]
    jobs: int
    keep: int
    run_id: str
    environ: Mapping[str, str]
    log: FilteringBoundLogger
    redact: Callable[[str], str]
    interval: float = 5.0
    watch: Callable[[], Awaitable[Mapping[str, object]]] | None = None


class _Dumped(NamedTuple):
    """A dump that has been verified: its jobs, tables and files, and when each step ended."""

    jobs: int
    tables: dict[int, int]
    files: dict[str, FileSum]
    dumped: float
    verified: str


async def take(request: Request) -> Backup:
    """Take a backup of the database, verify it, publish it, and only then prune older ones.

    Raises:
        UnsuitableServerError: no pg_dump for the server's version.
        BackupFailedError: no room, no privilege, a folder that cannot be used, or an incomplete dump. Nothing of it is
            left, and no older backup was touched.
    """
    begun, started, log = time.monotonic(), datetime.now(UTC), request.log
    directory, server = request.directory, request.ready.server
    client = await find_client(server.version_num, path=request.environ.get("PATH", ""))
    compression = await best_compression(client)
    home = directory / folders.safe_name(server.database)
    facts, older = await _prepare(request, home)
    staging = folders.Staging(home, facts.system_identifier, request.run_id)
    staging.create()
    try:
        _check_room(directory, facts, older)
        jobs = max(1, min(request.jobs, len(facts.tables)))
        made = await _dump_patiently(request, client, staging, facts, jobs=jobs, compression=compression)
        await _check_tables(request.ready.connection, facts, made.tables, staging)
        manifest = Manifest(
            database=server.database,
            server_version=server.version,
            client_version=client.version,
            revision_before=request.before,
            revision_intended=request.intended,
            started=timestamp(started),
            seconds=round(time.monotonic() - begun, 3),
            bytes=sum(one.bytes for one in made.files.values()),
            database_bytes=facts.bytes,
            tables=len(made.tables),
            compression=compression,
            jobs=made.jobs,
            files=made.files,
            proofs=(Proof(kind="checksummed", at=made.verified), Proof(kind="listed", at=made.verified)),
            headstart_version=__version__,
            run_id=request.run_id,
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
        files=len(manifest.files),
        tables=manifest.tables,
        dump_seconds=round(made.dumped - begun, 3),
        total_seconds=round(time.monotonic() - begun, 3),
    )
    prune(directory, server.database, request.keep, log=log, just_taken=backup)
    return backup


async def require_possible(connection: asyncpg.Connection, directory: Path, database: str, run_id: str) -> str:
    """Look at all that `take` looks at before it dumps, and change nothing. Returns what was found, in words.

    Raises:
        BackupFailedError: the role may not read a table, or there is not room enough.
    """
    facts = await databases.read_facts(connection)
    older = list_backups(directory, database)
    with folders.tried_out(directory / folders.safe_name(database), run_id):
        _check_room(directory, facts, older)
    return f"the role may read all of {mebibytes(facts.bytes)} in {counted(len(facts.tables), 'table')}"


async def _prepare(request: Request, home: Path) -> tuple[databases.Facts, Listing]:
    """Clean up what dead runs have left, and read the database and the backups that there are."""
    conn, log = request.ready.connection, request.log
    for row in await databases.end_orphans(conn, request.ready.server.database, dumps.APPLICATION):
        log.warning("orphaned_dump_ended", **row)
    await databases.warn_of_other_dumps(conn, log=log)
    facts = await databases.read_facts(conn)
    for left in sweep(home, facts.system_identifier):
        log.info("partial_backup_removed", path=str(left))
    older = list_backups(request.directory, request.ready.server.database)
    for broken in older.broken:
        log.warning("backup_broken", **broken.fields)
    return facts, older


async def _dump_patiently(
    request: Request, client: Client, staging: Staging, facts: databases.Facts, *, jobs: int, compression: str
) -> _Dumped:
    """Run pg_dump; again with one job where connections are short, and again where a table was dropped under it."""
    tries = TRIES
    while True:
        try:
            return await _dump(request, client, staging, facts, jobs=jobs, compression=compression)
        except BackupFailedError as error:
            said, tries = str(error.context.get("said", "")), tries - 1
            if jobs > 1 and re.search(dumps.NO_CONNECTION[0], said):
                jobs = 1
            elif tries <= 0 or not re.search(dumps.VANISHED[0], said):
                raise
            request.log.warning("backup_retried", cause=error.message, jobs=jobs)
            staging.empty()


async def _dump(
    request: Request, client: Client, staging: Staging, facts: databases.Facts, *, jobs: int, compression: str
) -> _Dumped:
    """Run pg_dump, read the table of contents, and hash every file."""
    log, stage = request.log, "dump"
    sizes: list[int] = []
    blocked = ""
    log.info(
        "backup_started",
        database=request.ready.server.database,
        database_bytes=facts.bytes,
        tables=len(facts.tables),
        client_version=client.version,
        compression=compression,
        jobs=jobs,
    )

    def fields() -> dict[str, object]:
        nonlocal sizes
        with contextlib.suppress(OSError):  # the folder may go while we look
            sizes = [path.stat().st_size for path in staging.dump.iterdir()]
        return {"stage": stage, "written_bytes": sum(sizes), "files": len(sizes), "tables": len(facts.tables)}

    async def watch() -> Mapping[str, object]:
        nonlocal blocked
        found = {} if request.watch is None else await request.watch()
        blocked = str(found.get("hint", ""))
        return found

    environ = request.environ
    env = dumps.environment(request.ready.dsn.libpq_env(), environ, run_id=request.run_id)
    async with progress("backup_progress", fields, log=log, watch=watch, interval=request.interval):
        command = dumps.argv(client, staging.dump, jobs=jobs, compression=compression)
        await dumps.dump(
            client,
            command,
            env=env,
            directory=request.directory,
            log=log,
            redact=request.redact,
            blocked=lambda: blocked,
        )
        dumped, stage = time.monotonic(), "prove"
        tables = await checks.contents(client, staging.dump, env=dumps.bare(environ))
        try:
            files = await checks.checksum(staging.path, folders.files(staging.path), jobs=jobs, sync=True)
            fsync_folder(staging.dump)
        except OSError as error:
            raise folders.unusable(request.directory, error) from error
        return _Dumped(jobs, tables, files, dumped, timestamp(datetime.now(UTC)))


def _check_room(directory: Path, facts: databases.Facts, older: Listing) -> None:
    mine = (one.manifest for one in older.backups if one.manifest.system_identifier == facts.system_identifier)
    last, share = next(mine, None), FIRST_SHARE
    if last is not None and last.database_bytes > 0:
        share = last.bytes / last.database_bytes * GROWTH
    needed, free = int(facts.bytes * share) + RESERVE, folders.free_bytes(directory)
    if needed > free:
        raise BackupFailedError(
            f"no room for a backup: about {mebibytes(needed)} are needed, "
            f"{mebibytes(free)} are free in HEADSTART_BACKUP_DIR={directory}",
            hint="make room there, or set HEADSTART_BACKUP_DIR to a larger folder",
            needed_bytes=needed,
            free_bytes=free,
            database_bytes=facts.bytes,
        )


async def _check_tables(
    conn: asyncpg.Connection, facts: databases.Facts, listed: Mapping[int, int], staging: Staging
) -> None:
    lost = checks.without_file(staging.dump, listed)
    if unlisted := [oid for oid in facts.tables if oid not in listed]:
        # The application may have dropped a table since we looked: only a table that still exists is a loss.
        lost += (await databases.tables(conn)).keys() & unlisted
    if lost:
        tables = sorted(facts.tables.get(oid, str(oid)) for oid in lost)
        raise BackupFailedError(
            f"the dump lacks the data of {counted(len(tables), 'table')}: {first_and_last(tables)}",
            hint="see what pg_dump said about them, then run again",
            tables=tables,
        )
