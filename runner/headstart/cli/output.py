"""Data for stdout. Verbs write there through this module alone, so that each of them fails alike where it is full."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from headstart.errors import ConfigurationError
from headstart.log.printable import as_json, one_line


def print_json(data: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """Write data as JSON, for `jq` and its like.

    Raises:
        ConfigurationError: stdout cannot be written (10), here and below.
    """
    write_bytes(msgspec.json.format(as_json(data), indent=2) + b"\n")


def print_lines(lines: Iterable[str]) -> None:
    """Write lines for people. Each stays one line, whatever a database or the name of a file has put into it."""
    write("".join(f"{one_line(line)}\n" for line in lines))


def print_line(line: str) -> None:
    """Write one of them."""
    print_lines([line])


def write(text: str) -> None:
    """Write text for people as it is; `?` for what stdout's encoding lacks, as Alembic does it."""
    encoding = sys.stdout.encoding or "utf-8"
    with _delivering():
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def write_sql(text: str) -> None:
    """Write statements that are to be executed, in UTF-8 whatever the locale is: a `?` would be other data.

    psql that reads a pipe or a file expects the encoding of the database, which is UTF-8 in nearly all of them.
    """
    write_bytes(text.encode())


def write_bytes(data: bytes) -> None:
    """Write bytes as they are."""
    flush()
    with _delivering():
        sys.stdout.buffer.write(data)


def flush() -> None:
    """Hand on what was written."""
    with _delivering():
        sys.stdout.flush()


@contextlib.contextmanager
def delivered() -> Iterator[None]:
    """Hand on what was written by what leaves through SystemExit (`--help`), before it leaves."""
    try:
        yield
    except SystemExit:
        flush()
        raise


@contextlib.contextmanager
def _delivering() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again when it ends
        if isinstance(error, BrokenPipeError):  # `headstart history | head -1`: the reader has what it wanted
            return
        cause = f"stdout cannot be written: {error.strerror}"
        raise ConfigurationError(cause, hint="make room where stdout leads to, or send it elsewhere") from error


def backup_line(each: dict[str, Any]) -> str:
    """A backup, as `status` and `backups` list it."""
    mebibytes = each["bytes"] / 1024 / 1024
    damage = f", DAMAGED: {'; '.join(each['damage'])}" if each["damage"] else ""
    return f"{each['path']}  {mebibytes:.1f} MiB, {each['started']}, {'+'.join(each['proofs'])}{damage}"
