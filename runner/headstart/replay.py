"""The project's revisions on a scratch database, up and down, by the same code as `up`.

No lock, no backup, no ledger, and a log of warnings alone. Wherever env.py thinks that it connects to, it is led to the
scratch database: its engines by the workbench, and what reads the environment by the variables.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec

from headstart import history, postgres
from headstart.alembic_bridge.migrate import migrate
from headstart.alembic_bridge.sandbox import Sandbox
from headstart.alembic_bridge.scripts import Recorded, Scripts, recorded
from headstart.alembic_bridge.steps import revision_of
from headstart.alembic_bridge.verbs import stamp
from headstart.dsn import without_libpq_variables
from headstart.log import quiet
from headstart.observe import Activity
from headstart.readiness import wait_until_ready
from headstart.sqlscript import ScriptError, is_single, split

if TYPE_CHECKING:
    from alembic.runtime.migration import RevisionStep
    from structlog.typing import FilteringBoundLogger

    from headstart.dsn import Dsn
    from headstart.history import Project
    from headstart.run import AppliedRevision, Run
    from headstart.script_connection import ScriptConnection

_OTHER_URLS = ("DATABASE_URL_FILE", "DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that a revision has executed.

    Args:
        revision: its id.
        text: the statement, without a `;`; scripts are taken apart.
        path: the revision's file.
        line: of the call in that file, counted from 1; None where it is not to be seen.
        in_transaction: whether a transaction was open.
        direction: of the revision.
    """

    revision: str
    text: str
    path: str
    line: int | None
    in_transaction: bool
    direction: Literal["upgrade", "downgrade"]


class Replay:
    """Revisions that are run at will on one scratch database. Made by `replay`.

    Args:
        scripts: the project.
        workbench: with the connection to the scratch database.
        found: what env.py says of the version table.
        log: for warnings.
        tag: Alembic's `--tag`.

    Attributes:
        recorded: what the version table holds now.
        statements: every statement that was executed, but those on the version table.
    """

    def __init__(
        self, scripts: Scripts, workbench: Sandbox, found: Recorded, *, log: FilteringBoundLogger, tag: str | None
    ) -> None:
        self.scripts = scripts
        self.workbench = workbench
        self.recorded = found.revisions
        self.statements: list[Statement] = []
        self.version_table = found.version_table
        self.version_schema = found.version_schema
        self._log = log
        self._tag = tag
        self._all = [(revision_of(step), str(step.revision.path)) for step in scripts.upgrade("heads", ())]

    @property
    def connection(self) -> ScriptConnection:
        """To the scratch database; free while nothing is being run."""
        return self.workbench.connection

    @property
    def revisions(self) -> tuple[str, ...]:
        """The ids of the whole history, in the order in which it is applied to an empty database."""
        return tuple(revision for revision, _ in self._all)

    @property
    def files(self) -> Mapping[str, str]:
        """The absolute paths of the revisions' files, by id."""
        return dict(self._all)

    async def up(self, target: str = "head") -> tuple[str, ...]:
        """Upgrade as `alembic upgrade` does; give the ids of what was applied.

        Raises:
            MigrationFailedError: a revision failed (60); those before it are applied.
            ConfigurationError: there is no way to `target` (10).
        """
        return await self._run(self.scripts.upgrade(target, self.recorded))

    async def down(self, target: str) -> tuple[str, ...]:
        """Downgrade as `alembic downgrade` does; give the ids of what was reverted. Errors as for `up`."""
        return await self._run(self.scripts.downgrade(target, self.recorded))

    async def apply(self, revision: str) -> None:
        """Apply this one revision, whose parents are applied, wherever it is in a branched history."""
        await self._run([self.scripts.step(revision, up=True)])

    async def revert(self, revision: str) -> None:
        """Revert this one revision, which nothing that is applied follows."""
        await self._run([self.scripts.step(revision, up=False)])

    async def stamp(self, revisions: Sequence[str]) -> None:
        """Let the version table hold these revisions, running nothing."""
        self.recorded = await stamp(self.scripts, self.workbench, revisions, log=self._log)

    async def _run(self, steps: Sequence[RevisionStep]) -> tuple[str, ...]:
        done: list[str] = []

        def record(applied: AppliedRevision, arrived: tuple[str, ...]) -> None:
            done.append(applied.revision)
            self.recorded = arrived

        if steps:
            await migrate(
                self.scripts,
                self.workbench,
                steps,
                activity=Activity(),
                retry=0,
                record=record,
                log=self._log,
                tag=self._tag,
                executed=self._executed,
            )
        return tuple(done)

    def _executed(self, step: Any, text: str, line: int | None, in_transaction: bool) -> None:  # noqa: ANN401, FBT001
        if line is None and self.version_table in text:
            return  # Alembic's own
        for each in _taken_apart(text):
            self.statements.append(
                Statement(
                    revision=revision_of(step),
                    text=each,
                    path=str(step.revision.path),
                    line=line,
                    in_transaction=in_transaction,
                    direction="upgrade" if step.is_upgrade else "downgrade",
                )
            )


@contextlib.asynccontextmanager
async def replay(run: Run, dsn: Dsn, *, project: Project | None = None) -> AsyncIterator[Replay]:
    """Load the project for a scratch database. The run's own database is neither needed nor touched.

    While this lasts, `DATABASE_URL` and libpq's variables of this process lead to the scratch database.

    Args:
        run: whose settings, working directory and options say which project.
        dsn: the scratch database, from `scratch`.
        project: the run's own when left out.

    Raises:
        BrokenHistoryError: the files are no history (70).
        ConfigurationError: there is no project, or its env.py fails (10).
    """
    settings = run.settings
    if project is None:
        explicit = settings.config_explicit
        project = history.read(settings.config, cwd=run.cwd, explicit=explicit, section=run.section).project
    log = quiet(run.log)
    ready = await wait_until_ready(dsn, timeout=settings.wait_timeout, application_name=run.application_name, log=log)

    async def connect() -> ScriptConnection:
        return await postgres.connect(ready.dsn, timeout=10, application_name=run.application_name)

    try:
        await postgres.prepare_session(
            ready.connection,
            lock_timeout=settings.table_lock_timeout,
            statement_timeout=settings.statement_timeout,
            log=log,
        )
        workbench = Sandbox(
            ready.connection,
            ready.dsn,
            connect,
            work_key=None,
            lock_timeout=settings.table_lock_timeout,
            statement_timeout=settings.statement_timeout,
            log=log,
        )
        with _environment_of(ready.dsn):
            scripts = Scripts(project, ready.dsn.sqlalchemy_url(), run.options)
            at = await recorded(scripts, workbench, log)
            yield Replay(scripts, workbench, at, log=log, tag=run.options.get("tag"))
    finally:
        await postgres.close(ready.connection)


@contextlib.contextmanager
def _environment_of(dsn: Dsn) -> Iterator[None]:
    """Let the process's variables speak of this database: env.py reads them, and a revision may."""
    before = dict(os.environ)
    scheme, found, _ = before.get("DATABASE_URL", "").partition("://")
    user, _, place = dsn.sqlalchemy_url().partition("://")[2].partition("@")
    password = "" if dsn.password is None else f":{quote(dsn.password.reveal(), safe='')}"
    after = dsn.libpq_env(without_libpq_variables(before))
    after["DATABASE_URL"] = f"{scheme if found else 'postgresql'}://{user}{password}@{place}"
    for name in _OTHER_URLS:
        after.pop(name, None)
    _put(after)
    try:
        yield
    finally:
        _put(before)


def _put(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _taken_apart(text: str) -> list[str]:
    if is_single(text):
        return [text]
    with contextlib.suppress(ScriptError):
        return [each.text for each in split(text)]
    return [text]
