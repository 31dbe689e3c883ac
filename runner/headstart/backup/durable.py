"""Files that survive a power cut: written in full under another name, made durable, then renamed."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NOT_FOR_FOLDERS = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP})


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file, so that a reader, or a power cut, meets the old content or the new one.

    Raises:
        OSError: the disk failed, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
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
