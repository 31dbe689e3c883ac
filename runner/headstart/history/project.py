"""Where an Alembic project is: its configuration, its script folder, its version folders.

The rules are those of `alembic.config.Config` and `alembic.script.ScriptDirectory.from_config` (Alembic 1.16 and later;
Alembic manual, "Tutorial", sections "Editing the .ini File" and "Using pyproject.toml for configuration"): the ini file
goes before pyproject.toml, option by option, and relative paths start from the working directory.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headstart.errors import ConfigurationError
from headstart.history.environment import Environment, read_environment

if TYPE_CHECKING:
    from configparser import ConfigParser

_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
# All ways in which TOML can write a key of [tool.alembic]; without any of them the file need not be parsed.
_TOML_TOOL = re.compile(rb"tool[\"']?\s*(?:\.\s*[\"']?alembic|\]|=)")
_TOML = "pyproject.toml"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """An Alembic project on disk. All paths are absolute.

    Args:
        ini: the configuration in ini format, None if there is none.
        toml: the pyproject.toml with a [tool.alembic] table, None if there is none.
        section: name of the ini file's main section.
        here: the folder that `%(here)s` stands for.
        script_location: the folder with env.py; "" if only Alembic can tell.
        version_locations: the folders with revision files; those that do not exist are left out, as Alembic does.
        version_table: the table that records the revision.
        version_schema: its schema, None for the search path's first.
        conclusive: False where only Alembic knows version table or revision files.
        why: what made it inconclusive, as a sentence for the log.
        sys_path: folders that go in front of `sys.path`, in this order.
        recursive: whether version folders are read with their subfolders.
        sourceless: whether compiled files without a source count as revisions.
        revision_environment: env.py is run whenever a revision file is written.
        staged: the version folder, which is one, is not the configuration's: Alembic has to be told.
    """

    ini: str | None
    toml: str | None
    section: str
    here: str
    script_location: str
    version_locations: tuple[str, ...]
    version_table: str = "alembic_version"
    version_schema: str | None = None
    conclusive: bool = True
    why: str = ""
    sys_path: tuple[str, ...] = ()
    recursive: bool = False
    sourceless: bool = False
    revision_environment: bool = False
    staged: bool = False


def locate(config: str, *, cwd: str, explicit: bool = False, section: str = "alembic") -> Project:
    """Find the Alembic project.

    Args:
        config: path of alembic.ini or pyproject.toml, as ALEMBIC_CONFIG gives it; relative to `cwd`.
        cwd: the working directory, absolute: relative script and version folders start here.
        explicit: `config` was asked for, so it has to be there.
        section: the ini file's main section (`alembic --name`).

    Raises:
        ConfigurationError: no configuration, script folder, env.py or version folder; a configuration that cannot be
            read or parsed; a project for several databases at once.
    """
    options = _Options(config, cwd=cwd, explicit=explicit, section=section)
    _refuse_several_databases(options)
    location = options.text("script_location")
    if location is None:
        raise ConfigurationError(
            f"no script_location in {options.searched}",
            hint="set script_location to the folder that holds env.py, or name the right file with ALEMBIC_CONFIG",
        )
    sys_path = tuple(_absolute(path, cwd) for path in options.paths("prepend_sys_path", r", *|(?: +)|\:"))
    script, doubt = _folder(location, "script_location", options, cwd, sys_path)
    versions: tuple[str, ...] = ()
    for path in options.paths("version_locations", r", *|(?: +)", "version_path_separator"):
        folder, unclear = _folder(path, "version_locations", options, cwd, sys_path)
        versions += (folder,)
        doubt = doubt or unclear
    sourceless = options.flag("sourceless")
    if sourceless:
        doubt = doubt or f"sourceless = true in {options.named}"
    environment = Environment()
    if script:
        environment = read_environment(_environment(script, location, options))
        doubt = doubt or environment.doubt
        versions = _existing(versions or (f"{script}/versions",), options)
    return Project(
        ini=options.ini,
        toml=options.toml,
        section=section,
        here=options.here,
        script_location=script,
        version_locations=versions,
        version_table=environment.version_table,
        version_schema=environment.version_schema,
        conclusive=not doubt,
        why=doubt,
        sys_path=sys_path,
        recursive=options.flag("recursive_version_locations"),
        sourceless=sourceless,
        revision_environment=options.switch("revision_environment"),
    )


class _Options:
    """The project's options: the ini file's section first, then [tool.alembic] of pyproject.toml."""

    def __init__(self, config: str, *, cwd: str, explicit: bool, section: str) -> None:
        by_toml = Path(config).name == _TOML
        ini = _absolute("alembic.ini" if by_toml else config, cwd)
        toml = _absolute(config if by_toml else _TOML, cwd)
        self.section = section
        self._parser = _read_ini(ini)
        table = _read_toml(toml, needed=self._parser is None)
        self.ini = ini if self._parser is not None else None
        self.toml = toml if table else None
        self._table: Mapping[str, object] = table or {}
        self._toml_here = Path(toml).parent.as_posix()
        asked, found = (toml, table is not None) if by_toml else (ini, self._parser is not None)
        if (explicit and not found) or (self.ini is None and self.toml is None):
            raise _no_configuration(asked, explicit=explicit, found=found, by_toml=by_toml, toml=toml)
        places = [f"[{section}] of {self.ini}"] if self.ini else []
        places += [f"[tool.alembic] of {toml}"] if self.toml else []
        self.searched = " or ".join(places)
        self.named = self.ini or toml
        self.here = Path(self.named).parent.as_posix()

    def ini_text(self, name: str) -> str | None:
        """An option of the ini file alone."""
        if self._parser is None or not self._parser.has_option(self.section, name):
            return None
        from configparser import Error

        try:
            return self._parser.get(self.section, name)
        except Error as error:
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


def _no_configuration(asked: str, *, explicit: bool, found: bool, by_toml: bool, toml: str) -> ConfigurationError:
    if explicit and not found:
        return ConfigurationError(
            f"ALEMBIC_CONFIG: there is no file {asked}", hint="set ALEMBIC_CONFIG to your alembic.ini or pyproject.toml"
        )
    hint = "run from the project's folder, or set ALEMBIC_CONFIG to your alembic.ini or pyproject.toml"
    if by_toml:
        return ConfigurationError(f"{asked} has no [tool.alembic] table", hint=hint)
    return ConfigurationError(f"there is no {asked}, and no [tool.alembic] in {toml}", hint=hint)


def _read_ini(path: str) -> ConfigParser | None:
    import configparser

    parser = configparser.ConfigParser({"here": Path(path).parent.as_posix()})
    try:
        with Path(path).open(encoding="locale") as file:  # the encoding that Alembic reads it with
            parser.read_file(file)
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


def _read_toml(path: str, *, needed: bool) -> Mapping[str, object] | None:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if not needed:
            return None
        raise _unreadable(path, error) from None
    if _TOML_TOOL.search(data) is None or b"alembic" not in data:
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
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return ConfigurationError(f"{path} cannot be read: {reason}", hint="correct the file's permissions or encoding")


def _refuse_several_databases(options: _Options) -> None:
    names = [name for name in re.split(r",\s*", (options.ini_text("databases") or "").strip()) if name]
    if len(names) > 1:
        raise ConfigurationError(
            f"databases = {', '.join(names)} in {options.ini}: one run of headstart migrates one database",
            hint="run headstart once per database, each with a copy of the file that names one of them "
            "(`databases = " + names[0] + "`), chosen by ALEMBIC_CONFIG",
            databases=names,
        )


def _absolute(path: str, cwd: str) -> str:
    """As `Path.absolute` where `cwd` is the working directory: neither links nor ".." are resolved."""
    return str(Path(cwd, path))


def _folder(path: str, name: str, options: _Options, cwd: str, sys_path: Iterable[str]) -> tuple[str, str]:
    """The absolute folder, or "" and why only Alembic can tell. "package:folder" is inside an installed package."""
    if Path(path).is_absolute() or ":" not in path:
        return _absolute(path, cwd), ""
    package, *inside = path.split(":")
    found = _package(package, [*sys_path, *sys.path])
    if found is None:
        raise ConfigurationError(
            f"{name} = {path} in {options.named}: there is no package {package}",
            hint="install the package, or add its folder to prepend_sys_path",
        )
    if len(found) != 1:
        return "", f"{name} = {path}: {package} is no ordinary package"
    return str(Path(cwd, found[0], *inside)), ""


def _package(name: str, search: Iterable[str]) -> list[str] | None:
    """The folders of a package, without importing it or its parents; None if there is none, [] if it has no folder."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    places: list[str] = list(search)
    whole = ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        try:
            # An import hook (an editable install) knows packages that no folder of sys.path holds.
            spec = PathFinder.find_spec(whole, places) or (find_spec(whole) if whole == part else None)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
    return places


def _environment(script: str, location: str, options: _Options) -> str:
    if not Path(script).is_dir():
        raise ConfigurationError(
            f"script_location = {location} in {options.named}: there is no folder {script}",
            hint="a relative script_location starts from the working directory: write %(here)s/... in the file, "
            "or run from its folder",
        )
    path = Path(script, "env.py")
    if not path.is_file():
        raise ConfigurationError(
            f"there is no env.py in {script}", hint="is script_location right? `alembic init` makes an env.py"
        )
    return str(path)


def _existing(folders: Iterable[str], options: _Options) -> tuple[str, ...]:
    found = tuple(folder for folder in folders if Path(folder).exists())
    if not found:
        raise ConfigurationError(
            f"there is no folder of revision files: {', '.join(folders)} (from {options.named})",
            hint="make the folder if this history is still empty; otherwise correct version_locations, "
            "or what was copied into the image",
        )
    return found
