"""Small files that somebody else has put where we look: read without ever waiting for a writer that does not come.

Linux manual, fifo(7), pipe(7): opening a named pipe waits until somebody opens its other end.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable

#: Seconds that whoever writes into one of our own descriptors has.
PATIENCE = 10.0
_OWN = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_PIECE = 65_536
_KINDS = {
    stat.S_IFIFO: "it is a named pipe, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file, or what a shell hands over as /dev/fd/N; /dev/null is empty.

    Args:
        path: links are followed.

    Raises:
        OSError: it cannot be read, is a named pipe, a device or a folder, or its writer takes too long.
    """
    name = os.fspath(path)
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return file.readall()
        if name.startswith(_OWN):
            return _handed_over(descriptor, name)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:  # noqa: PTH116  (as above)
            return b""
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        raise OSError(errno.EINVAL, _KINDS.get(stat.S_IFMT(found.st_mode), "it is not a file"), name)
    finally:
        os.close(descriptor)


def read_text(path: str | os.PathLike[str]) -> str:
    """The same as text, with the line ends that text has.

    Raises:
        OSError: as for `read_bytes`.
        UnicodeError: it is not UTF-8.
    """
    return read_bytes(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def read_once(read_file: Callable[[str], str]) -> Callable[[str], str]:
    """Make a reader that reads each file once: a pipe gives its text to the first who reads, and is waited for once.

    Args:
        read_file: gives a file's text or raises OSError or ValueError, which is remembered too.
    """
    found: dict[str, str | OSError | ValueError] = {}

    def read(path: str) -> str:
        if path not in found:
            try:
                found[path] = read_file(path)
            except (OSError, ValueError) as error:
                found[path] = error
        known = found[path]
        if isinstance(known, Exception):
            raise known
        return known

    return read


def _handed_over(descriptor: int, name: str) -> bytes:
    """What comes through a descriptor that the process was started with, until its writer closes it."""
    poll, pieces, until = select.poll(), [b""], time.monotonic() + PATIENCE
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(until - time.monotonic(), 0) * 1000):
        if not (piece := os.read(descriptor, _PIECE)):
            return b"".join(pieces)
        pieces.append(piece)
    raise TimeoutError(errno.ETIMEDOUT, f"whoever writes into it has not ended after {PATIENCE:.0f} s", name)
