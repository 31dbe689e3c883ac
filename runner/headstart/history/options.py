"""The options of an Alembic project: those of alembic.ini first, then those of pyproject.toml.

The rules are those of `alembic.config.Config` (Alembic 1.16 and later; Alembic manual, "Tutorial", sections "Editing
the .ini File" and "Using pyproject.toml for configuration"): the ini file goes before pyproject.toml, option by option.
"""

from __future__ import annotations

import configparser
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from headstart.errors import ConfigurationError
from headstart.settings.files import read_bytes

_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
_TOML = "pyproject.toml"


class Options:
    """The project's options: the ini file's section first, then [tool.alembic] of pyproject.toml."""

    def __init__(self, config: str, *, cwd: str, explicit: bool, section: str) -> None:
        by_toml = Path(config).name == _TOML
        ini = absolute("alembic.ini" if by_toml else config, cwd)
        toml = absolute(config if by_toml else _TOML, cwd)
        self.section = section
        self._parser = _read_ini(ini)
        table = _read_toml(toml)
        self.ini = ini if self._parser is not None else None
        self.toml = toml if table else None
        self._table: Mapping[str, object] = table or {}
        self._toml_here = Path(toml).parent.as_posix()
        asked = toml if by_toml else ini
        hint = "run from the project's folder, or set ALEMBIC_CONFIG to your alembic.ini or pyproject.toml"
        if explicit and not Path(asked).exists():
            raise ConfigurationError(f"ALEMBIC_CONFIG: there is no file {asked}", hint=hint)
        if self.ini is None and self.toml is None:
            raise ConfigurationError(f"there is no {ini}, and no [tool.alembic] in {toml}", hint=hint)
        places = [f"[{section}] of {self.ini}"] if self.ini else []
        places += [f"[tool.alembic] of {toml}"] if self.toml else []
        self.searched = " or ".join(places)
        self.named = self.ini or toml
        self.here = Path(self.named).parent.as_posix()

    def ini_text(self, name: str) -> str | None:
        """An option of the ini file alone."""
        if self._parser is None or not self._parser.has_option(self.section, name):
            return None
        try:
            return self._parser.get(self.section, name)
        except configparser.Error as error:
            raise ConfigurationError(
                f"{name} in [{self.section}] of {self.ini} cannot be interpolated",
                hint="write %(here)s for the file's folder, and %% for a percent sign",
                error=type(error).__name__,
            ) from None

    def text(self, name: str) -> str | None:
        """An option that is one string."""
        value = self.ini_text(name)
        if value is not None or name not in self._table:
            return value
        toml = self._table[name]
        if not isinstance(toml, str):
            raise self._wrong(name, "a string")
        return self._expanded(name, toml)

    def flag(self, name: str) -> bool:
        """An option that is on or off; in an ini file anything but "true" is off."""
        value = self.ini_text(name)
        if value is not None:
            return value == "true"
        toml = self._table.get(name, False)
        if not isinstance(toml, bool):
            raise self._wrong(name, "true or false")
        return toml

    def switch(self, name: str) -> bool:
        """An option that is on for any of the words that SQLAlchemy's `asbool` takes for it."""
        value = self.ini_text(name)
        if value is None:
            value = str(self._table.get(name, ""))
        return value.strip().lower() in {"true", "yes", "on", "y", "t", "1"}

    def paths(self, name: str, legacy: str, *older: str) -> Iterable[str]:
        """An option that is a list of paths; `legacy` is how it was split before there was a path_separator."""
        value = self.ini_text(name)
        if value:
            for key in ("path_separator", *older):
                separator = self.ini_text(key)
                if separator is None:
                    continue
                if separator not in _SEPARATORS:
                    raise ConfigurationError(
                        f"{key} = {separator!r} in {self.ini} is not known",
                        hint=f"{key} is one of {', '.join(_SEPARATORS)}",
                    )
                return [part.strip() for part in value.split(_SEPARATORS[separator]) if part]
            return re.split(legacy, value)
        toml = self._table.get(name)
        if toml is None:
            return ()
        if isinstance(toml, str) and len(toml) == 1:
            # Alembic iterates the string: prepend_sys_path = "." works, and is out there.
            toml = [toml]
        if not isinstance(toml, list) or not all(isinstance(part, str) for part in toml):
            raise self._wrong(name, "a list of strings")
        return [self._expanded(name, part) for part in toml]

    def _expanded(self, name: str, value: str) -> str:
        try:
            return value % {"here": self._toml_here}
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                f"{name} in [tool.alembic] of {self.toml} cannot be interpolated",
                hint="write %(here)s for the file's folder, and %% for a percent sign",
            ) from None

    def _wrong(self, name: str, kind: str) -> ConfigurationError:
        return ConfigurationError(f"{name} in [tool.alembic] of {self.toml} has to be {kind}")


def absolute(path: str, cwd: str) -> str:
    """As `Path.absolute` where `cwd` is the working directory: neither links nor ".." are resolved."""
    return str(Path(cwd, path))


def _read_ini(path: str) -> configparser.ConfigParser | None:
    parser = configparser.ConfigParser({"here": Path(path).parent.as_posix()})
    try:
        # In the encoding that Alembic reads it with.
        parser.read_file(io.TextIOWrapper(io.BytesIO(read_bytes(path)), encoding="locale"), path)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, error) from None
    except configparser.Error as error:
        # Not the error's own text: it quotes the line, which may be sqlalchemy.url with its password.
        line = getattr(error, "lineno", None) or next((n for n, _ in getattr(error, "errors", ())), None)
        raise ConfigurationError(
            f"{path} is not a valid ini file{f', line {line}' if line else ''} ({type(error).__name__})",
            hint="sections are [name], options are name = value, each name once",
        ) from None
    return parser


def _read_toml(path: str) -> Mapping[str, object] | None:
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    if b"alembic" not in data:
        return {}
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get("alembic", {})
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    if not isinstance(table, dict):
        raise ConfigurationError(f"tool.alembic in {path} has to be a table")
    return table


def _unreadable(path: str, error: Exception) -> ConfigurationError:
    if isinstance(error, IsADirectoryError):
        return ConfigurationError(f"{path} is a folder", hint=f"name the file, as in {Path(path, 'alembic.ini')}")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return ConfigurationError(
        f"{path} cannot be read: {reason}", hint="put a text file there that headstart's user may read"
    )
