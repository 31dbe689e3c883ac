"""Where the schema file is, and how a file is written: in full or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.backup.durable import write_file
from headstart.errors import ConfigurationError
from headstart.steps.connect import find

if TYPE_CHECKING:
    from headstart.steps.run import Run

DEFAULT: Final = Path("sql_current", "schema_head.sql")
"""Where the schema file is, in the folder of env.py."""


def locate(run: Run, file: str | None) -> Path:
    """Where the schema file is: the given path, HEADSTART_SCHEMA_FILE, or `DEFAULT`."""
    asked = file or run.settings.schema_file
    if asked is not None:
        return Path(run.cwd, asked)
    location = find(run).project.script_location
    if not location:
        raise ConfigurationError(
            "only Alembic knows where the project's folder is", hint="name the schema file: --file"
        )
    return Path(location, DEFAULT)


def write_text(path: Path, text: str) -> None:
    """Write a file, so that a reader meets the old one or the new one; one that is the same already is left alone.

    What is no file, such as /dev/stdout, is written to as it is.

    Raises:
        ConfigurationError: it cannot be written (10).
    """
    data = text.encode()
    try:
        if path.exists() and not path.is_file():  # /dev/stdout must be written to, not replaced
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
