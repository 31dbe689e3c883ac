"""Which values of an environment may be passwords: for refusals, which come where the settings cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from headstart.log.secret import Redactor
from headstart.settings import conninfo
from headstart.settings.resolve import Reading
from headstart.settings.table import SETTINGS

_SECRET: Final = ("password", "sslpassword")
_ASSIGNED: Final = re.compile(r"(?:password|secret|scram_\w+_key)\s*=\s*('(?:[^'\\]|\\.)*|[^\s&]+)", re.IGNORECASE)
_MOST_SIGNS: Final = 9  # of the @ in a text that cannot be read: each may end the password


def redactor_of(environ: Mapping[str, str], read_file: Callable[[str], str]) -> Redactor:
    """Make what takes out of a refusal every password that the environment holds, or leads to.

    Args:
        environ: the variables.
        read_file: gives a file's text or raises OSError.
    """
    known: list[str] = []
    names = [conninfo.EXAMPLE, *(name for each in SETTINGS for name in (each.name, each.flag) if name)]
    for text in [*_addresses(environ, read_file), None]:
        reading = Reading(environ, read_file, "")
        reading.gather(text)
        values = reading.values
        known += [values[key] for key in _SECRET if key in values]
        known += [] if text is None else _perhaps(text)
        names += [values[key] for key in ("user", "dbname") if key in values]
        names += values.get("host", "").split(",")
        passfile = reading.expand(values.get("passfile", f"{reading.home}/.pgpass"))
        known += conninfo.passwords_of(_text(passfile, read_file))
    return Redactor([*known, environ.get("PGPASSWORD", "")], names)


def _addresses(environ: Mapping[str, str], read_file: Callable[[str], str]) -> Iterator[str]:
    for name in (each.name for each in SETTINGS if each.file_too):
        if name in environ:
            yield environ[name]
        if f"{name}_FILE" in environ:
            yield _text(environ[f"{name}_FILE"], read_file)


def _text(path: str, read_file: Callable[[str], str]) -> str:
    try:
        return read_file(path)
    except (OSError, ValueError):  # whoever needs it reports that
        return ""


def _perhaps(text: str) -> Iterator[str]:
    """What may be the password in a text that is no address: it may have come apart anywhere."""
    if not conninfo.read(text, "").problems:
        return
    found = [each.lstrip("'") for each in _ASSIGNED.findall(text)]
    _, _, rest = (text.partition("://")[2] or text).partition(":")
    parts = rest.split("@")
    found += ["@".join(parts[:count]) for count in range(1, min(len(parts), _MOST_SIGNS + 1))]
    for each in found or [text.strip()]:
        yield each
        yield unquote(each)
