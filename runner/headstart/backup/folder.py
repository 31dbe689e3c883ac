"""Backups in a folder: staged under a dotted name, published by one rename, listed, deleted.

`<dir>/<database>/<UTC time>-<revision>/` is a backup. `<dir>/<database>/.partial-*` is one being taken, or what a dead
run left; `.deleting-*` one on its way out. A listing skips names with a dot: neither is ever taken for a backup.

A backup holds all data. So what is made here is for its user alone, whatever the umask; what somebody has opened to
others stays so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from headstart.backup import manifest as manifests
from headstart.backup.durable import NOT_ORDINARY, fsync_folder
from headstart.backup.manifest import Backup, Broken, Manifest, ManifestError
from headstart.backup.owner import remedy, stranger_in, stranger_of, whose
from headstart.errors import BackupFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

PARTIAL, DELETING = ".partial-", ".deleting-"
#: The folder of pg_dump's files inside a backup.
DUMP = "dump"
_LONGEST_REVISION = 80


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a folder: complete backups, newest first, what only looks like one, and links, which are none."""

    backups: tuple[Backup, ...]
    broken: tuple[Broken, ...]
    links: tuple[Path, ...] = ()


def safe_name(name: str) -> str:
    """A file name for any database or revision name, unique, and reversible by `unquote`.

    Letters, digits and `_-.~+` stay; every other byte is percent-encoded, and so is the first character where it would
    hide the folder, mean something to a program (`-`, `~`) or climb (`..`).
    """
    quoted = quote(name, safe="+")
    return f"%{ord(quoted[0]):02X}{quoted[1:]}" if quoted[:1] in {".", "-", "~"} else quoted


def backup_name(started: datetime, revisions: tuple[str, ...]) -> str:
    """`20260131T120000.123Z-1a2b3c`; `base` means no revision, and `+` joins several."""
    moment = started.astimezone(UTC)
    label = safe_name("+".join(revisions) or "base")[:_LONGEST_REVISION]
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{label}"


class Staging:
    """The folder in which a backup is made. Its name has the server's identifier: see `sweep`."""

    def __init__(self, home: Path, identifier: str, run_id: str) -> None:
        self.home = home
        self.path = home / f"{PARTIAL}{identifier}-{safe_name(run_id)}"
        self.dump = self.path / DUMP

    def create(self) -> None:
        """Make the folder, and those above it that are missing.

        Raises:
            BackupFailedError: the folder cannot be made or written to, or a neighbour was there first.
        """
        try:
            self.home.parent.mkdir(parents=True, exist_ok=True)
            self.home.mkdir(mode=0o700, exist_ok=True)
            _refuse_a_neighbours(self.home)
            self.path.mkdir(mode=0o700)
            self.dump.mkdir(mode=0o700)
        except OSError as error:
            self.discard()
            raise unusable(self.home.parent, error) from error

    def publish(self, manifest: Manifest, started: datetime) -> Backup:
        """Give the folder its final name. From here on it is a backup.

        Raises:
            BackupFailedError: the disk did not do it.
        """
        manifests.write(self.path, manifest)
        try:
            for path in files(self.path):
                path.chmod(0o600)  # pg_dump has made it by the umask, in a folder that nobody else may enter
            fsync_folder(self.path)
            while (final := self.home / backup_name(started, manifest.revision_before)).exists():
                started += timedelta(milliseconds=1)
            self.path.rename(final)
            fsync_folder(self.home)
            fsync_folder(self.home.parent)
        except OSError as error:
            raise BackupFailedError(f"cannot put the backup in place in {self.home}: {error.strerror}") from error
        return Backup(path=final, manifest=manifest)

    def empty(self) -> None:
        """Remove what pg_dump has written, for another try.

        Raises:
            BackupFailedError: the disk did not do it.
        """
        try:
            shutil.rmtree(self.dump)
            self.dump.mkdir(mode=0o700)
        except OSError as error:
            raise unusable(self.home.parent, error) from error

    def discard(self) -> None:
        """Remove all of it. Never fails: the next run removes what is left."""
        shutil.rmtree(self.path, ignore_errors=True)


def _refuse_a_neighbours(home: Path) -> None:
    """Refuse a folder that another user has made where anybody may make one: its owner could exchange what is in it."""
    owner = stranger_in(home)
    if owner is not None:
        raise BackupFailedError(
            f"{home} belongs to another user (uid {owner}), in a folder where anybody may make one",
            hint=f"see what is in it; then `chown -R {os.geteuid()} {home}`, or remove it",
            dir=str(home.parent),
        )


@contextlib.contextmanager
def tried_out(home: Path, run_id: str) -> Iterator[list[Path]]:
    """Make a staging folder for a moment. Neither it stays nor the folders above it that were missing, which it gives.

    Raises:
        BackupFailedError: it cannot be made or written to.
    """
    try:
        missing = [path for path in (home, *home.parents) if not path.exists()]
    except OSError as error:
        raise unusable(home.parent, error) from error
    staging = Staging(home, "doctor", run_id)
    try:
        staging.create()
        yield missing
    finally:
        staging.discard()
        for path in missing:
            with contextlib.suppress(OSError):  # another run has begun to use it
                path.rmdir()


def open_to_others(directory: Path, database: str) -> Path | None:
    """The folder of a database's backups, if every user of the machine may look into it."""
    home = directory / safe_name(database)
    with contextlib.suppress(OSError):
        return home if home.stat().st_mode & stat.S_IRWXO else None
    return None


def unusable(directory: Path, error: OSError) -> BackupFailedError:
    """The error for a backup folder that cannot be used."""
    where = f"HEADSTART_BACKUP_DIR={directory}"
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        message = f"{where} is not a folder, or a part of its path is not"
        return BackupFailedError(message, hint="set HEADSTART_BACKUP_DIR to a folder", dir=str(directory))
    hint = {
        errno.EACCES: f"let user {os.geteuid()} write there, or set HEADSTART_BACKUP_DIR to a folder where it may",
        errno.EROFS: "mount it writable, or set HEADSTART_BACKUP_DIR to a folder that is",
        errno.ENOSPC: "make room there, or set HEADSTART_BACKUP_DIR to a larger folder",
    }.get(error.errno or 0, "set HEADSTART_BACKUP_DIR to a folder that can be written to")
    at = f" ({error.filename})" if error.filename is not None else ""
    return BackupFailedError(f"{where} cannot be used: {error.strerror}{at}", hint=hint, dir=str(directory))


def free_bytes(directory: Path) -> int:
    """The bytes that we, without root's reserve, may still write to the folder's disk."""
    figures = os.statvfs(directory)
    return figures.f_bavail * figures.f_frsize


def mebibytes(count: int) -> str:
    """A number of bytes as messages show it."""
    return f"{count / 1024 / 1024:,.0f} MiB"


def sweep(home: Path, identifier: str) -> list[Path]:
    """Remove what dead runs left in a database's folder, and return the paths.

    The caller holds the database's migration lock, so none of this is in use. What is of another server, which has a
    database of the same name, is left to that server's runs.

    Args:
        home: the database's folder.
        identifier: of the server.

    Raises:
        BackupFailedError: the folder cannot be read.
    """
    swept = []
    try:
        entries = [entry for entry in _entries(home) if entry.is_dir() and not entry.is_symlink()]
    except OSError as error:
        raise unusable(home.parent, error) from error
    for entry in entries:
        if entry.name.startswith((f"{PARTIAL}{identifier}-", DELETING)):
            shutil.rmtree(entry, ignore_errors=True)
            swept.append(entry)
    return swept


def delete(backup: Path) -> None:
    """Delete a backup, so that a listing has all of it or nothing.

    Raises:
        OSError: it could not be taken out of the list.
    """
    doomed = backup.with_name(f"{DELETING}{backup.name}")
    backup.rename(doomed)
    fsync_folder(backup.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def list_backups(directory: Path, database: str | None = None) -> Listing:
    """Read the backups of a database, or of all, newest first. A missing folder holds none.

    Raises:
        BackupFailedError: the folder is there but cannot be read.
    """
    backups: list[Backup] = []
    broken: list[Broken] = []
    links: list[Path] = []
    try:
        homes = [entry for entry in _entries(directory) if not entry.name.startswith(".") and entry.is_dir()]
        if database is not None:
            homes = [home for home in homes if home.name == safe_name(database)]
        for folder in (folder for home in homes for folder in _entries_if(home, broken, may_lack=database is None)):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            if folder.is_symlink():  # what it leads to is counted where it is, or is somebody else's
                links.append(folder)
                continue
            found = _another_user_s(stranger_of(folder), folder, folder) or _read(folder)
            if isinstance(found, Broken):
                broken.append(found)
            else:
                backups.append(found)
    except OSError as error:
        raise unusable(directory, error) from error
    backups.sort(key=lambda one: one.order, reverse=True)
    if database is None:
        backups.sort(key=lambda one: one.manifest.database)
    return Listing(backups=tuple(backups), broken=tuple(broken), links=tuple(links))


def _another_user_s(uid: int | None, path: Path, backup: Path) -> Broken | None:
    return None if uid is None else Broken(path=path, problem=whose(uid), hint=remedy(backup, uid))


def _read(folder: Path) -> Backup | Broken:
    try:
        found = manifests.read(folder)
    except ManifestError as error:
        return Broken(path=folder, problem=str(error))
    if problems := compare(folder, found):
        return Broken(path=folder, problem="; ".join(problems))
    return Backup(path=folder, manifest=found)


def compare(folder: Path, manifest: Manifest) -> list[str]:
    """The problems that names and sizes show, without reading any file."""
    there = {str(path.relative_to(folder)): path.lstat() for path in files(folder)}
    problems = []
    for name, expected in manifest.files.items():
        found = there.pop(name, None)
        if found is None:
            problems.append(f"{name} is missing")
        elif not stat.S_ISREG(found.st_mode):
            problems.append(f"{name} is {NOT_ORDINARY}")
        elif found.st_size != expected.bytes:
            problems.append(f"{name} has {found.st_size} bytes instead of {expected.bytes}")
    return problems + [f"{name} does not belong here" for name in there]


def files(folder: Path) -> list[Path]:
    """The files of a backup, without the manifest itself, by name."""
    return sorted(path for path in _walk(folder) if path.parent != folder or manifests.NAME not in path.name)


def _walk(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _entries_if(home: Path, broken: list[Broken], *, may_lack: bool) -> list[Path]:
    """The entries of a database's folder. Among those of all databases there may be one of another user."""
    if found := _another_user_s(stranger_in(home), home, home / "BACKUP"):
        broken.append(found)
        return []
    try:
        return _entries(home)
    except PermissionError as error:
        if not may_lack:
            raise
        broken.append(Broken(path=home, problem=f"user {os.geteuid()} may not read it: {error.strerror}"))
        return []
