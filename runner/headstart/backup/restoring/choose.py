"""Which backup the user means: `latest`, the name of a folder, or a path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headstart.backup import folder as folders
from headstart.backup import manifest as manifests
from headstart.backup.manifest import Backup, Broken, ManifestError
from headstart.backup.owner import remedy, stranger_in, stranger_of, whose
from headstart.errors import ConfigurationError, RestoreFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headstart.backup.folder import Listing

LATEST = "latest"
#: How many names a message lists.
_NAMED = 5


def candidates(
    directory: Path, database: str, wanted: str, *, cwd: Path, trusted_owner: int | None = None
) -> tuple[Backup, ...]:
    """The backups that `wanted` may mean, the likeliest first: several for `latest`, otherwise one.

    Args:
        directory: HEADSTART_BACKUP_DIR.
        database: whose backups names and `latest` stand for; a path may lead to any.
        wanted: as the command line has it.
        cwd: where a relative path starts.
        trusted_owner: the uid of a user whose backups are restored by their path, wherever they are.

    Raises:
        ConfigurationError: there is no such backup (10); the message says what there is.
        RestoreFailedError: there is, but it is damaged, or another user's (41).
        BackupFailedError: the folder cannot be read.
    """
    listing = folders.list_backups(directory, database)
    if wanted == LATEST:
        if good := tuple(one for one in listing.backups if one.good):
            return good
        raise ConfigurationError(
            f"there is no intact backup of database {database!r} in {directory}", hint=_available(listing)
        )
    for one in listing.backups:
        if one.name == wanted:
            return (one,)
    for broken in listing.broken:
        if broken.path.name == wanted:
            raise _refused(broken)
    if (path := cwd / wanted).is_dir() and (os.sep in wanted or (path / manifests.NAME).exists()):
        return (_at(path.resolve(), trusted_owner),)
    if os.sep in wanted:
        raise ConfigurationError(f"there is no backup at {wanted}: no such folder", hint=_available(listing))
    raise ConfigurationError(
        f"there is no backup {wanted!r} of database {database!r} in {directory}", hint=_available(listing)
    )


def _at(path: Path, trusted_owner: int | None) -> Backup:
    """The backup in a folder that the user has named."""
    for owner in (stranger_of(path), stranger_in(path.parent)):
        if owner is not None and owner != trusted_owner:
            raise _refused(Broken(path=path, problem=whose(owner), hint=remedy(path, owner)))
    try:
        return Backup(path=path, manifest=manifests.read(path))
    except ManifestError as error:
        raise damaged(path, [str(error)]) from error


def _refused(broken: Broken) -> RestoreFailedError:
    if broken.hint is None:
        return damaged(broken.path, [broken.problem])
    return RestoreFailedError(
        f"the backup {broken.path} is not restored: {broken.problem}", hint=broken.hint, path=str(broken.path)
    )


def newest(found: Sequence[Backup], system_identifier: str) -> Backup:
    """The first of the candidates that was taken on this server, or else the first.

    A folder may be shared by servers that have a database of the same name. After the loss of a whole server, none of
    the backups is from the one that took its place.
    """
    return next((one for one in found if one.manifest.system_identifier == system_identifier), found[0])


def damaged(path: Path, problems: Sequence[str]) -> RestoreFailedError:
    """The error for a backup that is not what was written."""
    return RestoreFailedError(
        f"the backup {path} is damaged: {'; '.join(problems[:_NAMED])}"
        + (f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""),
        hint="restore another one (`headstart backups list`), or put the copy of this one back and restore again",
        path=str(path),
        problems=list(problems),
    )


def _available(listing: Listing) -> str:
    names = [one.name for one in listing.backups[:_NAMED]]
    names += [
        f"{one.path.name} (damaged)" if one.hint is None else f"{one.path}: {one.problem}; {one.hint}"
        for one in listing.broken[: _NAMED - len(names)]
    ]
    if not names:
        return "there is none at all: set HEADSTART_BACKUP_DIR to the folder that holds them, or give a path"
    more = len(listing.backups) + len(listing.broken) - len(names)
    return f"there is {', '.join(names)}" + (f" and {more} more (`headstart backups list`)" if more > 0 else "")
