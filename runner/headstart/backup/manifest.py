"""The description of a backup: `manifest.json`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from headstart.backup.durable import open_ordinary, write_file
from headstart.errors import BackupFailedError

#: The name of the file, inside the backup's folder.
NAME = "manifest.json"
#: The version of the format that this code writes, and the newest that it reads.
FORMAT = 1


class FileSum(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was written: its SHA-256 in hexadecimal, and its size."""

    sha256: str
    bytes: int


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, and when (RFC 3339, UTC)."""

    kind: Literal["checksummed", "listed", "restored"]
    at: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup's description. It is written last, so a folder that has one is complete.

    `files` maps paths relative to the backup's folder. `tables` is the number of tables whose data is in it.
    `sequence` orders the backups of a database without trust in the clock. `system_identifier` tells servers apart
    whose databases have the same name ("" where it may not be read). `damage` is what a later verification found.
    """

    format: int = FORMAT
    database: str
    server_version: str
    client_version: str
    revision_before: tuple[str, ...]
    revision_intended: tuple[str, ...]
    started: str
    seconds: float
    bytes: int
    database_bytes: int
    tables: int
    compression: str
    jobs: int
    files: dict[str, FileSum]
    proofs: tuple[Proof, ...]
    headstart_version: str
    run_id: str
    sequence: int = 1
    system_identifier: str = ""
    pinned: bool = False
    damage: tuple[str, ...] = ()


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A complete backup: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def good(self) -> bool:
        """Whether no verification has found damage in it."""
        return not self.manifest.damage

    @property
    def order(self) -> tuple[int, str, str]:
        """The key that sorts backups, oldest first."""
        return (self.manifest.sequence, self.manifest.started, self.name)


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A folder in the place of a backup, and why it is none; with what to type where it may be one all the same."""

    path: Path
    problem: str
    hint: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The same for the log."""
        return {"path": str(self.path), "problem": self.problem} | ({"hint": self.hint} if self.hint else {})


class ManifestError(ValueError):
    """The manifest cannot be read, or holds something impossible."""


def timestamp(moment: datetime) -> str:
    """A moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(manifest: Manifest) -> bytes:
    """The file's content, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(content: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: with the reason in one line.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(str(error)) from error
    if manifest.format > FORMAT:
        raise ManifestError(f"format {manifest.format}: written by a newer headstart ({manifest.headstart_version})")
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise ManifestError(f"file {name!r} lies outside the backup")
    return manifest


def read(folder: Path) -> Manifest:
    """Read the manifest of a backup's folder.

    Raises:
        ManifestError: it is missing, unreadable or wrong.
    """
    try:
        with open_ordinary(folder / NAME) as file:
            return decode(file.read())
    except FileNotFoundError as error:
        raise ManifestError(f"no {NAME}") from error
    except OSError as error:
        raise ManifestError(f"{NAME}: {error.strerror}") from error
    except ManifestError as error:
        raise ManifestError(f"{NAME}: {error}") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Write or replace the manifest, so that a reader, or a power cut, meets the old one or the new one.

    Raises:
        BackupFailedError: the folder does not take it.
    """
    try:
        write_file(folder / NAME, encode(manifest), mode=0o600)
    except OSError as error:
        raise BackupFailedError(f"cannot write {folder / NAME}: {error.strerror}") from error
