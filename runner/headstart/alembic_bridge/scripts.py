"""A user's Alembic project, loaded: its configuration, its revision files, and what env.py finds recorded."""

from __future__ import annotations

import argparse
import hashlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from alembic.config import Config
from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from headstart import remedies
from headstart.alembic_bridge.environment import run_environment
from headstart.errors import BrokenHistoryError, ConfigurationError, HeadstartError
from headstart.graph import Revision

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from structlog.typing import FilteringBoundLogger

    from headstart.alembic_bridge.workbench import Workbench
    from headstart.history import Project


class EnvironmentWritesError(ConfigurationError):
    """env.py writes to the database before Alembic is asked anything."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What env.py's own context finds: the revisions recorded, and in which table."""

    revisions: tuple[str, ...]
    version_table: str
    version_schema: str | None


class Scripts:
    """A user's Alembic project, loaded: its configuration and its revision files.

    Args:
        project: where its files are.
        url: for `sqlalchemy.url`; holds no password, since connections come from the workbench.
        options: what the command line would hand to env.py: `x`, `tag` and the like.

    Raises:
        BrokenHistoryError: a file cannot be loaded, or the files do not form a history.
        ConfigurationError: the configuration is not one of Alembic's.
    """

    def __init__(self, project: Project, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.config = configure(project, url, options)
        try:
            self.directory = ScriptDirectory.from_config(self.config)
            # What get_heads(consider_depends_on=True) gives from Alembic 1.18.5 on.
            self.heads: tuple[str, ...] = tuple(sorted(self.directory.revision_map._real_heads))  # noqa: SLF001
        except (CommandError, RevisionError, KeyError) as error:
            raise BrokenHistoryError(f"Alembic cannot read the history: {error}") from error
        except (Exception, SystemExit) as error:  # whatever a revision file does when it is imported
            raise _unloadable(error, project.script_location) from error

    def knows(self, revision: str) -> bool:
        """Whether a recorded revision is in this history, under its full id."""
        try:
            found = self.directory.get_revision(revision)
        except CommandError:
            return False
        return found.revision == revision

    def lineage(self, revisions: tuple[str, ...]) -> list[Revision]:
        """Revisions and all that has to be applied before them, that first."""
        found = self.directory.revision_map.iterate_revisions(revisions, "base", inclusive=True)
        return [
            Revision(
                id=each.revision,
                down=tuple(each._all_down_revisions),  # noqa: SLF001  (down_revision and depends_on, resolved)
                path=each.path,
                sha256=hashlib.sha256(Path(each.path).read_bytes()).hexdigest(),
            )
            for each in found
            if isinstance(each, Script)
        ][::-1]

    def upgrade(self, target: str, recorded: tuple[str, ...]) -> list[RevisionStep]:
        """The steps up to `target`, which may be relative, as `alembic upgrade` would take them."""
        return self._steps(self.directory._upgrade_revs, target, recorded)  # noqa: SLF001  (what alembic.command calls)

    def downgrade(self, target: str, recorded: tuple[str, ...]) -> list[RevisionStep]:
        """The steps down to `target`, as `alembic downgrade` would take them."""
        return self._steps(self.directory._downgrade_revs, target, recorded)  # noqa: SLF001  (likewise)

    def step(self, revision: str, *, up: bool) -> RevisionStep:
        """The step that applies this one revision, or reverts it."""
        script = self.directory.get_revision(revision)
        make = MigrationStep.upgrade_from_script if up else MigrationStep.downgrade_from_script
        return make(self.directory.revision_map, script)

    @staticmethod
    def _steps(
        resolve: Callable[..., list[RevisionStep]], target: str, recorded: tuple[str, ...]
    ) -> list[RevisionStep]:
        try:
            return list(resolve(target, recorded))
        except (CommandError, RevisionError) as error:
            text = str(error).replace("alembic ", "headstart ")
            raise ConfigurationError(
                f"the target {target!r} cannot be reached from {', '.join(recorded) or 'base'}: {text}",
                hint="`headstart history` and `headstart heads` show the revisions there are",
            ) from error


def configure(project: Project, url: str, options: Mapping[str, Any] | None = None) -> Config:
    """Alembic's Config for a project, with our URL in the place where env.py looks for one.

    Args:
        project: where its files are.
        url: without a password; `%` is doubled, since the value goes through ini interpolation.
        options: what Alembic's command line would leave in `cmd_opts`.
    """
    config = Config(
        file_=project.ini,
        toml_file=project.toml,
        ini_section=project.section,
        stdout=sys.stdout,
        cmd_opts=argparse.Namespace(**{"x": None, **(options or {})}),
    )
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    if project.staged:
        if config.get_main_option("path_separator") is None:
            config.set_main_option("version_path_separator", "newline")  # or it is split at blanks
        config.set_main_option("version_locations", project.version_locations[0].replace("%", "%%"))
    return config


async def recorded(scripts: Scripts, workbench: Workbench, log: FilteringBoundLogger) -> Recorded:
    """Let env.py's own context read what is recorded, changing nothing.

    Raises:
        ConfigurationError: env.py fails, or never configures a context.
    """
    found: list[Recorded] = []

    def look(heads: tuple[str, ...], context: MigrationContext) -> list[RevisionStep]:
        schema = context.version_table_schema
        found.append(
            Recorded(revisions=tuple(sorted(heads)), version_table=context.version_table, version_schema=schema)
        )
        return []

    try:
        await run_environment(scripts.config, scripts.directory, look, workbench, log=log, dont_mutate=True)
    except Exception as error:
        raise env_failed(error, scripts.directory.dir) from error
    if len(found) != 1:
        cause = "never ran" if not found else f"ran {len(found)} times"
        raise ConfigurationError(
            f"{scripts.directory.dir}/env.py {cause} context.run_migrations()",
            hint="one env.py for one database is supported: give each database a configuration of its own",
        )
    return found[0]


def env_failed(error: BaseException, directory: str) -> HeadstartError:
    """What an exception out of env.py, before any revision ran, means for the user."""
    if isinstance(error, HeadstartError):
        return error
    text = str(error).splitlines()[0] if str(error) else ""
    original = getattr(error, "orig", None)
    if "25006" in {getattr(original, "sqlstate", None), getattr(original, "pgcode", None)}:
        return EnvironmentWritesError(f"env.py writes to the database: {text}")
    if isinstance(error, CommandError | RevisionError):
        return BrokenHistoryError(f"Alembic cannot go on: {text}")
    hint = "correct env.py; nothing was changed"
    if isinstance(error, ImportError):
        hint = "install what it imports beside Headstart, or correct `prepend_sys_path`"
    return ConfigurationError(f"env.py failed: {type(error).__name__}: {text} ({_where(error, directory)})", hint=hint)


def _unloadable(error: BaseException, directory: str) -> BrokenHistoryError:
    text = str(error).splitlines()[0] if str(error) else ""
    return BrokenHistoryError(
        f"a revision file cannot be loaded: {type(error).__name__}: {text} ({_where(error, directory)})",
        hint=remedies.of_failure(error, None) or "correct the file, or install what it imports beside Headstart",
    )


def _where(error: BaseException, directory: str) -> str:
    """The last line of the user's own project that the error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(directory)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else directory
