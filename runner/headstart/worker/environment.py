"""One run of env.py, as Alembic runs it.

Headstart touches Alembic on the one EnvironmentContext that env.py uses: what it gives to `configure`, the moment in
which it calls `run_migrations`, and, where nothing is run, what else it does within `begin_transaction`. Alembic
manual, 'Runtime Objects: The Environment Context'.

Whose transaction it is: what `context.begin_transaction()` begins is Alembic's, and may become one for each revision.
Whatever else is open is env.py's own, to commit or to roll back. Alembic then begins none (`begin_transaction` and
`run_migrations` of its MigrationContext), and neither does Headstart.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.config import CommandLine
from alembic.runtime.environment import EnvironmentContext

from headstart.errors import ConfigurationError, VerificationFailedError
from headstart.ledger import SCHEMA
from headstart.worker import present, project, sessions  # noqa: F401  (`present` listens)
from headstart.worker.messages import Planned
from headstart.worker.place import Guard
from headstart.worker.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

    from headstart.worker.port import Port

_CONFIGURES = "env.py configures Alembic inside a transaction"
_BEGINS = "env.py begins the transaction in which it runs the migrations by itself"
_OUTSIDE = "env.py runs the migrations outside of a block of context.begin_transaction()"
_SHARES = "env.py executes statements in the transaction in which it runs the migrations, or ends it"
_LEAVES = "env.py leaves the block of context.begin_transaction() by an exception"

_FORKED = (
    b"headstart: env.py runs the migrations in a process that it has forked, where they cannot be watched;"
    b" let it call context.run_migrations() itself, in a thread if need be\n"
)


_READ: dict[object, ScriptDirectory] = {}  # by what the revision files may look at; no more than one


def _directory(task: Any, config: Config) -> ScriptDirectory:  # noqa: ANN401  (one of the tasks)
    """The project's revisions. A process that is asked for a plan, and then runs it, imports them once."""
    changed = tuple(Path(each).stat().st_mtime_ns for each in task.project.version_locations)
    key = (task.project, repr(task.options), repr(task.environ), changed)
    if key not in _READ:
        _READ.clear()
        directory = project.load(config)
        if not task.project.conclusive:  # env.py may have a say in where the files are
            return directory
        _READ[key] = directory
    return _READ[key]


class Environment:
    """One run of env.py.

    Args:
        task: says for which project, database and options.
        port: the supervisor.
        work: whether revisions are run.
        single: leave env.py's own choice of transactions alone, whatever it is.
        verb: of Alembic's that does the same.
        target: what it is given.

    Attributes:
        each: env.py itself asks for a transaction for each revision.
        failure: what `run_migrations` has raised first, whatever env.py makes of it.
        ran: how often env.py has called it.
    """

    def __init__(
        self,
        task: Any,  # noqa: ANN401  (one of the tasks)
        port: Port,
        *,
        work: bool,
        single: bool = False,
        verb: str = "upgrade",
        target: str = "head",
    ) -> None:
        sessions.begin(task.access, port, work=work)
        self.config = project.configure(task.project, task.dsn, {**commanded(verb, target), **task.options})
        self.directory = _directory(task, self.config)
        self.statements = Statements(port, executed=getattr(task, "statements", False))
        self.each = False
        self.failure: BaseException | None = None
        self.ran = 0
        self._port = port
        self._work = work
        self._guard = Guard(writing=work)
        self._inside = False  # the block of begin_transaction()
        self._ended = False  # run_migrations() has come to its end
        self._executed = 0  # statements, by then
        self._single = single
        self._external = ""
        self._tag = task.options.get("tag")
        self._verb, self._target = verb, target

    def run(
        self,
        feed: Callable[[tuple[str, ...], MigrationContext], Any],
        *,
        applied: Callable[..., None] | None = None,
        **options: Any,  # noqa: ANN401  (EnvironmentContext's own)
    ) -> None:
        """Run env.py.

        Args:
            feed: gives Alembic the steps: (recorded revisions, context) -> steps. Alembic calls it `fn`.
            applied: Alembic's `on_version_apply`: called in each step's transaction, before its commit.
            options: for EnvironmentContext: dont_mutate, purge.
        """
        sys.argv[1:] = [self._verb, self._target]
        environment = EnvironmentContext(
            self.config, self.directory, fn=feed, tag=self._tag, destination_rev=self._target, **options
        )
        run_migrations, begin_transaction = environment.run_migrations, environment.begin_transaction

        def run(**given: Any) -> None:  # noqa: ANN401  (run_migrations' own)
            context = environment.get_context()
            self._about_to_run(context)
            if context.purge:  # what is in the table is not read, but deleted
                self._guard.look(context)
            try:
                run_migrations(**given)
            except BaseException as error:
                self.failure = self.failure or error
                raise
            self._ended, self._executed = True, self.statements.executed

        def begin() -> contextlib.AbstractContextManager[Any]:
            self._look(environment.get_context())  # before Alembic takes what is open for its own
            if not self._work:
                return self._block(begin_transaction(), environment)
            self._inside = True
            return begin_transaction()

        configured(environment, self._guard, lambda given: self._configured(given, applied))
        environment.run_migrations = run  # type: ignore[method-assign]  # as in `configured`
        environment.begin_transaction = begin  # type: ignore[method-assign]
        with self._guard, environment, exiting(lambda: self._ended):
            self.directory.run_env()
        if self.ran > 1:  # whatever env.py has made of it
            raise self._once
        if not self.ran:
            raise (VerificationFailedError if self._work else ConfigurationError)(
                f"{self.directory.dir}/env.py never ran context.run_migrations()",
                hint="see why env.py skips it, or which exception it swallows",
            )

    def _configured(self, given: dict[str, Any], applied: Callable[..., None] | None) -> dict[str, Any]:
        """What Alembic gets, instead of what env.py gives to `configure`."""
        connection: Any = given.get("connection")
        begun = hasattr(connection, "in_transaction") and connection.in_transaction()
        self._external = _CONFIGURES if begun else ""
        self.each = bool(given.get("transaction_per_migration")) or given.get("transactional_ddl") is False
        if self._work and not self._single:
            given["transaction_per_migration"] = True
        given = in_schema(given)
        if applied is not None:
            theirs = given.get("on_version_apply") or ()
            given["on_version_apply"] = [
                *(theirs if isinstance(theirs, list | tuple | set) else (theirs,)),
                applied,
            ]
        return past_ledger(given)

    def _about_to_run(self, context: MigrationContext) -> None:
        if self._port.forked:  # nobody would hear of what is run there
            os.write(2, _FORKED)
            os._exit(1)
        self.ran += 1
        if self.ran > 1:
            raise self._once
        self._look(context)
        connection = context.connection
        if not (self._inside or self.each or connection is None or sessions.commits_each(connection)):
            self._external = self._external or _OUTSIDE  # nobody commits it but env.py

    @property
    def _once(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.directory.dir}/env.py runs context.run_migrations() more than once",
            hint="one env.py for one database is supported: give each database a configuration of its own",
        )

    def _look(self, context: MigrationContext) -> None:
        """See whether the transaction that is open is env.py's own."""
        connection = context.connection
        if connection is None or self.each:  # what is open is committed with the first revision, as by Alembic
            return
        if self.statements.since_commit(connection) or sessions.in_driver_transaction(connection):
            self._external = self._external or _SHARES
        elif not self._inside and connection.in_transaction():
            self._external = self._external or _BEGINS

    @contextlib.contextmanager
    def _block(self, begun: contextlib.AbstractContextManager[Any], environment: EnvironmentContext) -> Iterator[Any]:
        """env.py's block of `begin_transaction`; where nothing is run, see whether it is more than the migrations."""
        with begun as transaction:
            self._inside = True
            try:
                yield transaction
            except BaseException:
                if self._ended:  # Alembic would roll back all that it has run in it
                    self._external = self._external or _LEAVES
                raise
            finally:
                connection = environment.get_context().connection
                ended = transaction is not None and connection is not None and not connection.in_transaction()
                if self._ended and not self.each and (ended or self.statements.executed > self._executed):
                    self._external = self._external or _SHARES
                self._inside = False

    def planned(self, heads: tuple[str, ...], context: MigrationContext, steps: list[RevisionStep]) -> Planned:
        """What is reported before anything is run."""
        place = self._guard.place
        if place is None or (self._work and place.oid is None):  # Alembic has made the table since
            place = self._guard.look(context)
        return Planned(
            recorded=tuple(sorted(heads)),
            place=place,
            steps=tuple(project.described(step.revision) for step in steps),
            heads=project.read(self.directory),
            one_transaction=self.one_transaction,
        )

    def watch_step(self, step: RevisionStep, context: MigrationContext) -> None:
        """Have the version table looked at once more before Alembic writes what a step has led to, where need be."""
        self._guard.watch_step(step, context)

    @property
    def one_transaction(self) -> str:
        """Why all revisions share one transaction; "" if each may have its own."""
        return self._external


@contextlib.contextmanager
def exiting(ended: Callable[[], bool]) -> Iterator[None]:
    """Let env.py end as a program does, by sys.exit(0), once it has run the migrations.

    Args:
        ended: whether it has.
    """
    try:
        yield
    except SystemExit as leaving:
        if leaving.code or not ended():
            raise


def commanded(verb: str, target: str) -> dict[str, Any]:
    """What Alembic's own command line leaves in `cmd_opts`, without what nobody has given."""
    return {**vars(CommandLine(prog="alembic").parser.parse_args([verb, "--", target])), "x": None}


def configured(
    environment: EnvironmentContext, guard: Guard, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Have something changed in what env.py configures; its connection, and the version table, are looked at before.

    Args:
        environment: before it is entered.
        guard: looks.
        change: gets the arguments of `context.configure` by their names, and gives those that Alembic gets.
    """
    configure = environment.configure
    parameters = inspect.signature(configure)

    def ours(*args: Any, **given: Any) -> None:  # noqa: ANN401  (configure's own)
        named = dict(parameters.bind(*args, **given).arguments)
        more = named.pop("kw", {})
        if hasattr(named.get("connection"), "in_transaction"):  # Alembic itself refuses an engine
            sessions.require_ours(named["connection"])
        configure(**change({**named, **more}))
        guard.watch(environment.get_context())

    # An attribute of the instance: Alembic's proxy looks it up when env.py calls it.
    environment.configure = ours  # type: ignore[method-assign]


def in_schema(given: dict[str, Any]) -> dict[str, Any]:
    """What env.py configures, with the version table of a tenant's schema in that schema and nowhere else.

    Without a schema it would be looked for along the search path, where another's may be found.

    Raises:
        ConfigurationError: env.py keeps it in another schema (10).
    """
    schema, named = sessions.schema(), given.get("version_table_schema")
    if schema is None:
        return given
    if named not in {None, schema}:
        raise ConfigurationError(
            f"env.py keeps the version table in schema {named!r}, not in the tenant's",
            hint="leave version_table_schema out, or let env.py compute it from the argument -x tenant=...",
        )
    return {**given, "version_table_schema": schema}


def past_ledger(given: dict[str, Any]) -> dict[str, Any]:
    """What env.py configures, with our own schema left out of what autogenerate compares (`include_schemas`)."""
    theirs = given.get("include_name")

    def include_name(name: str | None, kind: str, parents: dict[str, Any]) -> bool:
        return (kind, name) != ("schema", SCHEMA) and (theirs is None or bool(theirs(name, kind, parents)))

    return {**given, "include_name": include_name}
