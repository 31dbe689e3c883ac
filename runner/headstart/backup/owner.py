"""Whose a folder among the backups is: what another user has put there is neither restored nor written to unasked.

Whoever owns the backup folder itself is trusted, and so is root. In a folder where anybody may make one, as on a shared
/tmp or a volume with mode 0777, the owner of a database's folder could exchange all that is in it.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def stranger_in(home: Path) -> int | None:
    """The uid of another user who has made a database's folder where anybody may make one; None if nobody has.

    Raises:
        OSError: it, or the folder above it, cannot be looked at.
    """
    above, owner = home.parent.stat(), home.lstat().st_uid
    if not above.st_mode & stat.S_IWOTH or owner in {os.geteuid(), 0, above.st_uid}:
        return None
    return None if owner == _owner_of_ours(home.parent) else owner


def stranger_of(backup: Path) -> int | None:
    """The uid of another user who has put a backup into a database's folder; None if nobody has.

    Raises:
        OSError: as above.
    """
    owner = backup.lstat().st_uid
    return None if owner in {os.geteuid(), 0, backup.parent.stat().st_uid} else owner


def _owner_of_ours(folder: Path) -> int | None:
    """The uid that a file of ours gets in a folder; None if we may make none there.

    The file itself is asked, by its descriptor: nobody can put another one in its place.
    """
    import tempfile  # where somebody else's folder was found

    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".owner-") as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:  # read-only, or full: then we have no more reason to trust anybody
        return None


def whose(uid: int) -> str:
    """What is wrong with it, in words."""
    return f"it belongs to another user (uid {uid}), who may have put anything there"


def remedy(path: str | Path, uid: int) -> str:
    """What to type where that user has taken the backup."""
    command = f"headstart restore {shlex.quote(str(path))} --trust-owner {uid}"
    return f"if that user has taken it for you: `{command}`, or `chown` it"
