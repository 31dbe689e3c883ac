"""Writing the files: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from headstart.backup.durable import write_file
from headstart.errors import ConfigurationError


def write(path: Path, text: str) -> None:
    """Write a file, so that a reader meets the old one or the new one; one that is the same already is left alone.

    What is no file, such as /dev/stdout, is written to as it is.

    Raises:
        ConfigurationError: it cannot be written (10).
    """
    data = text.encode()
    try:
        if path.exists() and not path.is_file():  # /dev/stdout is to be written to, not to be replaced
            path.write_bytes(data)
            return
        if path.exists() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}", hint="make the folder writable, or name another file"
        ) from error
