"""A user's Alembic project as Alembic reads it: its configuration and its revision files."""

from __future__ import annotations

import argparse
import configparser
import hashlib
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from alembic.config import Config
from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import URL

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.graph import Revision, build_graph
from headstart.history.plan import decide
from headstart.ledger.writer import source_of
from headstart.worker.dialect import DRIVER, prefer
from headstart.worker.failure import of_loading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alembic.runtime.migration import RevisionStep

    from headstart.history.project import Project
    from headstart.settings.dsn import Dsn
    from headstart.worker.port import Port
    from headstart.worker.tasks import Describe

_PLACEHOLDER = "driver://user:pass@localhost/dbname"  # what `alembic init` writes


def configure(project: Project, dsn: Dsn | None, options: Mapping[str, Any], *, stdout: TextIO | None = None) -> Config:
    """Alembic's Config, with DATABASE_URL in each place where env.py looks for its address.

    Args:
        project: where its files are.
        dsn: the database; None where none is reached.
        options: what Alembic's command line would leave in `cmd_opts`.
        stdout: where Alembic's commands print to.
    """
    config = Config(
        file_=project.ini,
        toml_file=project.toml,
        ini_section=project.section,
        cmd_opts=argparse.Namespace(**{"x": None, **options}),
        stdout=stdout or sys.stdout,
    )
    section = config.file_config.options(project.section) if config.file_config.has_section(project.section) else []
    placeholders = [name for name in section if config.file_config.get(project.section, name, raw=True) == _PLACEHOLDER]
    own = config.file_config.get(project.section, "sqlalchemy.url", raw=True) if "sqlalchemy.url" in section else ""
    prefer(own, os.environ.get("DATABASE_URL", ""))
    url = f"postgresql+{DRIVER}://" if dsn is None else address(dsn)
    for name in {"sqlalchemy.url", *placeholders}:
        config.set_main_option(name, url.replace("%", "%%"))  # the value goes through ini interpolation
    if project.staged:
        if config.get_main_option("path_separator") is None:
            config.set_main_option("version_path_separator", "newline")  # or it is split at blanks
        config.set_main_option("version_locations", project.version_locations[0].replace("%", "%%"))
    return config


def address(dsn: Dsn) -> str:
    """The URL for `sqlalchemy.url`. Its parameters, TLS among them, are given to the driver when it connects."""
    host, port = dsn.hosts[0]
    where: dict[str, Any] = {"host": host, "port": port}
    if host.startswith("/"):
        where = {"query": {"host": host, "port": str(port)}}
    password = None if dsn.password is None else dsn.password.reveal()
    url = URL.create(f"postgresql+{DRIVER}", username=dsn.user, password=password, database=dsn.database, **where)
    return url.render_as_string(hide_password=False)


def load(config: Config) -> ScriptDirectory:
    """The project's ScriptDirectory, whose files have not been read yet: env.py may still say where they are.

    Raises:
        ConfigurationError: the configuration is not one of Alembic's (10).
    """
    try:
        return ScriptDirectory.from_config(config)
    except (CommandError, ValueError, TypeError, configparser.Error) as error:
        raise ConfigurationError(f"Alembic cannot read its configuration: {error}") from error


def read(directory: ScriptDirectory) -> tuple[str, ...]:
    """Read the revision files; give the heads, of which none is needed by another.

    Raises:
        BrokenHistoryError: a file cannot be loaded, or the files do not form a history (70).
    """
    try:
        heads = directory.revision_map.heads
        several = heads if len(heads) > 1 else ()
        needed = {
            each.revision
            for head in several
            for each in directory.revision_map.iterate_revisions(head, "base", inclusive=True)
            if isinstance(each, Script) and each.revision != head
        }
    except (Exception, SystemExit) as error:  # whatever a revision file does when it is imported
        raise of_loading(error, directory.dir) from error
    return tuple(sorted(set(heads) - needed))


def steps_to(directory: ScriptDirectory, target: str, recorded: tuple[str, ...], *, up: bool) -> list[RevisionStep]:
    """The way to a target, which may be relative, as `alembic upgrade` and `alembic downgrade` take it.

    Raises:
        BrokenHistoryError: it is `head`, and there are several (70).
        ConfigurationError: there is none (10).
    """
    if target == "head" and (several := several_heads(directory)):
        raise several
    # What alembic.command calls; there is no public name for it.
    resolve: Callable[..., list[RevisionStep]] = directory._upgrade_revs if up else directory._downgrade_revs  # noqa: SLF001
    try:
        return list(resolve(target, recorded))
    except AttributeError as error:  # Alembic asks each file for the function
        raise BrokenHistoryError(
            f"a revision file lacks its function: {error}", hint="write it, if only `pass`"
        ) from error
    except (CommandError, RevisionError) as error:
        text = str(error).replace("alembic ", "headstart ")
        raise ConfigurationError(
            f"the target {target!r} cannot be reached from {', '.join(recorded) or 'base'}: {text}",
            hint="`headstart history` and `headstart heads` show the revisions there are",
        ) from error


def several_heads(directory: ScriptDirectory) -> BrokenHistoryError | None:
    """The error of a history with several heads, where one is asked for; None if it has no more than one."""
    if len(directory.revision_map.heads) < 2:  # noqa: PLR2004  (several)
        return None
    files = directory.walk_revisions()
    graph = build_graph(
        Revision(id=each.revision, down=tuple(each._versioned_down_revisions), path=each.path)  # noqa: SLF001  (a tuple)
        for each in files
    )
    try:
        decide((), graph, "head")
    except BrokenHistoryError as error:
        return error
    return None


def step_of(directory: ScriptDirectory, revision: str, *, up: bool) -> RevisionStep:
    """The step that applies or reverts this one revision."""
    script = directory.get_revision(revision)
    make = MigrationStep.upgrade_from_script if up else MigrationStep.downgrade_from_script
    return make(directory.revision_map, script)


def described(script: Any) -> Revision:  # noqa: ANN401  (Alembic's Script)
    """A revision, with what its file holds."""
    path = str(getattr(script, "path", ""))
    source = source_of(path)
    return Revision(
        id=script.revision,
        down=tuple(script._all_down_revisions),  # noqa: SLF001  (down_revision and depends_on, resolved)
        path=path,
        doc=script.doc or "",
        sha256="" if source is None else hashlib.sha256(source).hexdigest(),
    )


def lineage(directory: ScriptDirectory, revisions: Sequence[str]) -> list[Revision]:
    """Revisions and all that has to be applied before them, that first."""
    found = directory.revision_map.iterate_revisions(tuple(revisions), "base", inclusive=True)
    return [described(each) for each in found if isinstance(each, Script)][::-1]


def knows(directory: ScriptDirectory, revision: str) -> bool:
    """Whether a recorded revision is in this history, under its full id."""
    try:
        return directory.get_revision(revision).revision == revision
    except CommandError:
        return False


def describe(task: Describe, port: Port) -> dict[str, Any]:
    """What the revision files hold: heads, all revisions in order, and the way to a target."""
    del port
    directory = load(configure(task.project, None, task.options))
    heads = read(directory)
    steps = [] if task.target is None else steps_to(directory, task.target, (), up=True)
    return {
        "heads": heads,
        "lineage": lineage(directory, directory.revision_map.heads),
        "steps": [described(step.revision) for step in steps],
    }
