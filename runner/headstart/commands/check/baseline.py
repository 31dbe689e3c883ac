"""The baseline: findings that a project has decided to live with, so that an old one can begin today."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import ConfigurationError
from headstart.settings.files import read_bytes

if TYPE_CHECKING:
    from headstart.commands.check.finding import Finding
    from headstart.history import Project
    from headstart.steps.run import Run

NAME = "headstart-baseline.json"


def place(run: Run, project: Project | None, asked: str | None) -> Path:
    """Where the baseline is: the given file, or the usual one beside alembic.ini."""
    if asked is not None:
        return Path(run.cwd, asked)
    beside = (project.ini or project.toml) if project is not None else None
    return Path(beside).parent / NAME if beside else Path(run.cwd, NAME)


def read(path: Path, *, needed: bool) -> dict[str, str]:
    """The accepted findings: their messages, by key. None if there is no file.

    Args:
        path: from `place`.
        needed: the user has named it, so it has to exist.

    Raises:
        ConfigurationError: it is missing, or is no baseline (10).
    """
    hint = "`headstart check --write-baseline` writes it"
    try:
        entries = json.loads(read_bytes(path))["accepted"]
        return {str(each["key"]): str(each.get("told", "")) for each in entries}
    except FileNotFoundError:
        if needed:
            raise ConfigurationError(f"there is no baseline {path}", hint=hint) from None
        return {}
    except OSError as error:
        raise ConfigurationError(f"the baseline {path} cannot be read: {error.strerror}", hint=hint) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is no baseline: {error!r}", hint=hint) from error


def write(path: Path, findings: Iterable[Finding], others: Mapping[str, str]) -> None:
    """Accept these findings. The file is written in full or not at all.

    Args:
        path: from `place`.
        findings: to be accepted.
        others: entries of checks that were not run, and so stay.

    Raises:
        ConfigurationError: it cannot be written (10).
    """
    from headstart.commands.schema.files import write_text

    accepted = dict(sorted({**others, **{each.key: each.message for each in findings}}.items()))
    text = json.dumps({"accepted": [{"key": key, "told": message} for key, message in accepted.items()]}, indent=2)
    write_text(path, text + "\n")
