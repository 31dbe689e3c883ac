"""Whether a dump is complete: SHA-256 of every file, and the table of contents as pg_restore reads it.

`pg_restore --list` alone shows little: it accepts a truncated data file. The checksums alone show nothing about what
was written. Together with the exit status of pg_dump they show that the files are what pg_dump meant to write.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from headstart.backup import folder as folders
from headstart.backup import manifest as manifests
from headstart.backup.durable import is_ordinary, open_ordinary
from headstart.backup.manifest import Backup, FileSum, Proof
from headstart.errors import BackupFailedError
from headstart.log import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.clients import Client

_PIECE = 1024 * 1024
#: The table of contents of a dump in the directory format.
TOC = "toc.dat"
#: `3456; 0 16391 TABLE DATA public accounts owner`: dump id, catalog, table's oid.
_TABLE_DATA = re.compile(rb"^(\d+); \d+ (\d+) TABLE DATA ", re.MULTILINE)


async def checksum(
    folder: Path, paths: Iterable[Path], *, jobs: int, sync: bool, on_bytes: Callable[[int], None] = lambda _: None
) -> dict[str, FileSum]:
    """Hash files, several at a time, in threads.

    Args:
        folder: what the names in the result are relative to.
        paths: the files.
        jobs: how many at a time.
        sync: also make each durable (fsync), which is due right after writing.
        on_bytes: called from the threads with the number of bytes read.

    Raises:
        OSError: a file cannot be read or made durable.
    """
    stop, wanted = threading.Event(), list(paths)
    # Threads of our own: a program that waits for us may keep all of its loop's busy.
    pool = ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="checksum")
    try:
        hashing = [pool.submit(_hash, path, sync=sync, stop=stop, on_bytes=on_bytes) for path in wanted]
        sums = await asyncio.gather(*map(asyncio.wrap_future, hashing))
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return {path.relative_to(folder).as_posix(): one for path, one in zip(wanted, sums, strict=True)}


def _hash(path: Path, *, sync: bool, stop: threading.Event, on_bytes: Callable[[int], None]) -> FileSum:
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_PIECE))
    with open_ordinary(path) as file:
        while (count := file.readinto(buffer)) and not stop.is_set():
            digest.update(buffer[:count])
            size += count
            on_bytes(count)
        if sync:
            os.fsync(file.fileno())
    return FileSum(sha256=digest.hexdigest(), bytes=size)


async def contents(client: Client, dump: Path, *, env: Mapping[str, str]) -> dict[int, int]:
    """The dump id of each table's data, by the table's oid, as `pg_restore --list` shows it.

    Raises:
        BackupFailedError: pg_restore cannot read the dump.
    """
    command = [str(client.pg_restore), "--list", str(dump)]
    if not is_ordinary(dump / TOC):  # pg_restore would wait for a pipe's writer
        raise BackupFailedError(f"pg_restore cannot list the dump: there is no ordinary file {dump / TOC}")
    try:
        finished = await process.run(command, env=env, redact=str, capture=True)
    except OSError as error:
        message = f"cannot run {client.pg_restore}: {error.strerror}"
        raise BackupFailedError(message, hint="install the PostgreSQL client programs again") from error
    if not finished.ok:
        lines = finished.stderr.strip().splitlines()
        cause = lines[0] if lines else "it printed nothing"
        message = f"pg_restore --list cannot read {dump} ({finished.how}): {cause}"
        raise BackupFailedError(message, client_version=client.version)
    return {int(oid): int(entry) for entry, oid in _TABLE_DATA.findall(finished.stdout)}


def without_file(dump: Path, entries: Mapping[int, int]) -> list[int]:
    """The oids of tables that the table of contents names, but whose data file is not there."""
    there = {path.name.partition(".")[0] for path in folders.files(dump)}
    return [oid for oid, entry in entries.items() if str(entry) not in there]


async def examine(backup: Backup, *, jobs: int, on_bytes: Callable[[int], None] = lambda _: None) -> list[str]:
    """Compare the files of a backup with its manifest: names, sizes, SHA-256.

    Args:
        backup: its manifest, and where it is.
        jobs: files read at a time.
        on_bytes: called from threads with the number of bytes read.

    Returns:
        The problems, in words.
    """
    known = backup.manifest
    problems = folders.compare(backup.path, known)
    odd = {problem.partition(" ")[0] for problem in problems}
    paths = [backup.path / name for name in known.files if name not in odd]
    try:
        sums = await checksum(backup.path, paths, jobs=jobs, sync=False, on_bytes=on_bytes)
    except OSError as error:
        problems.append(f"{error.filename} cannot be read: {error.strerror}")
        sums = {}
    problems += [
        f"{name} has changed: its SHA-256 is not the one it was written with"
        for name, found in sums.items()
        if found.sha256 != known.files[name].sha256
    ]
    return problems


async def verify(backup: Backup, client: Client, *, log: FilteringBoundLogger, jobs: int = 2) -> Backup:
    """Read all of a backup again and record in its manifest what was verified, or what is damaged.

    Args:
        backup: from `list_backups`, or from a folder whose manifest can be read.
        client: of the dump's own major version or newer.
        log: receives one line for each problem and one for the result.
        jobs: files read at a time.

    Returns:
        The backup with its manifest as it was recorded: `damage` holds the problems.

    Raises:
        BackupFailedError: the manifest cannot be written, or pg_restore cannot be run.
    """
    known = backup.manifest
    problems = await examine(backup, jobs=jobs)
    proofs: list[Proof] = [] if problems else [Proof(kind="checksummed", at=manifests.timestamp(datetime.now(UTC)))]
    listed = await _listed(backup, client)
    problems += listed
    if not listed:
        proofs.append(Proof(kind="listed", at=manifests.timestamp(datetime.now(UTC))))

    kinds = {proof.kind for proof in proofs}
    older = tuple(proof for proof in known.proofs if proof.kind not in kinds)
    updated = msgspec.structs.replace(known, proofs=(*older, *proofs), damage=tuple(problems))
    manifests.write(backup.path, updated)
    for problem in problems:
        log.error("backup_damaged", path=str(backup.path), problem=problem)
    if not problems:
        log.info("backup_verified", path=str(backup.path), files=len(known.files), total_bytes=known.bytes)
    return Backup(path=backup.path, manifest=updated)


async def _listed(backup: Backup, client: Client) -> list[str]:
    dump = backup.path / folders.DUMP
    try:
        entries = await contents(client, dump, env={"LC_ALL": "C"})
    except BackupFailedError as error:
        return [error.message]
    if len(entries) != backup.manifest.tables:
        return [f"pg_restore --list names the data of {len(entries)} tables instead of {backup.manifest.tables}"]
    return [f"the data of table {oid} is missing" for oid in without_file(dump, entries)]
