"""Where an Alembic project is: its configuration, its script folder, its version folders.

The rules are those of `alembic.script.ScriptDirectory.from_config` (Alembic 1.16 and later). Relative paths start from
the working directory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from headstart.errors import ConfigurationError
from headstart.history.environment import Environment, read_environment
from headstart.history.options import Options, absolute


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """An Alembic project on disk. All paths are absolute.

    Args:
        ini: the configuration in ini format, None if there is none.
        toml: the pyproject.toml with a [tool.alembic] table, None if there is none.
        section: name of the ini file's main section.
        here: the folder that `%(here)s` stands for.
        script_location: the folder with env.py; "" if only Alembic knows.
        version_locations: the folders with revision files; those that do not exist are left out, as Alembic does.
        version_table: the table that records the revision.
        version_schema: its schema, None for the search path's first.
        conclusive: False where only Alembic knows version table or revision files.
        why: what made it inconclusive, as a sentence for the log.
        recursive: whether version folders are read with their subfolders.
        sourceless: whether compiled files without a source count as revisions.
        revision_environment: env.py is run whenever a revision file is written.
        sys_path: the folders of `prepend_sys_path`.
        staged: the one version folder is not that of the configuration, so Alembic gets it as an option.
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
    recursive: bool = False
    sourceless: bool = False
    revision_environment: bool = False
    sys_path: tuple[str, ...] = ()
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
    options = Options(config, cwd=cwd, explicit=explicit, section=section)
    _refuse_several_databases(options)
    location = options.text("script_location")
    if location is None:
        raise ConfigurationError(
            f"no script_location in {options.searched}",
            hint="set script_location to the folder that holds env.py, or name the right file with ALEMBIC_CONFIG",
        )
    sys_path = tuple(absolute(path, cwd) for path in options.paths("prepend_sys_path", r", *|(?: +)|\:"))
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
        recursive=options.flag("recursive_version_locations"),
        sourceless=sourceless,
        revision_environment=options.switch("revision_environment"),
        sys_path=sys_path,
    )


def _refuse_several_databases(options: Options) -> None:
    names = [name for name in re.split(r",\s*", (options.ini_text("databases") or "").strip()) if name]
    if len(names) > 1:
        raise ConfigurationError(
            f"databases = {', '.join(names)} in {options.ini}: one run of headstart migrates one database",
            hint="run headstart once per database, each with a copy of the file that names one of them "
            "(`databases = " + names[0] + "`), chosen by ALEMBIC_CONFIG",
            databases=names,
        )


def _folder(path: str, name: str, options: Options, cwd: str, sys_path: Iterable[str]) -> tuple[str, str]:
    """The absolute folder, or "" and why only Alembic knows. "package:folder" is inside an installed package."""
    if Path(path).is_absolute() or ":" not in path:
        return absolute(path, cwd), ""
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

    top, *inner = name.split(".")
    # An import hook (an editable install) knows packages that no folder of sys.path holds.
    spec = PathFinder.find_spec(top, list(search)) or (find_spec(top) if top else None)
    return None if spec is None else [str(Path(place, *inner)) for place in spec.submodule_search_locations or ()]


def _environment(script: str, location: str, options: Options) -> str:
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


def _existing(folders: Iterable[str], options: Options) -> tuple[str, ...]:
    found = tuple(folder for folder in folders if Path(folder).exists())
    if not found:
        raise ConfigurationError(
            f"there is no folder of revision files: {', '.join(folders)} (from {options.named})",
            hint="make the folder if this history is still empty; otherwise correct version_locations, "
            "or what was copied into the image",
        )
    return found
