"""Files that survive a power cut: written in full under another name, made durable, then renamed. And their reading."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

_NOT_FOR_FOLDERS = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP})
NOT_ORDINARY = "not an ordinary file"


def is_ordinary(path: Path) -> bool:
    """Whether there is a file with bytes of its own: no link, pipe, socket or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def open_ordinary(path: Path) -> FileIO:
    """Open a file for reading. Never waits for a pipe's writer, and follows no link.

    Raises:
        OSError: it cannot be read, or is something else than a file.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
    return open(path, "rb", buffering=0, opener=_without_waiting)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def write_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write or replace a file, so that a reader, or a power cut, meets the old content or the new one.

    Args:
        path: of the file; one that is replaced keeps its rights.
        data: its content.
        mode: of a new one, as for `os.open`.

    Raises:
        OSError: the disk failed, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)  # of a dead run; opening what is there might follow a link
    with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
        if is_ordinary(path):
            os.fchmod(file.fileno(), stat.S_IMODE(path.lstat().st_mode))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable.

    Raises:
        OSError: the disk failed. A file system that cannot do this for folders (some network ones) is no error.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)
