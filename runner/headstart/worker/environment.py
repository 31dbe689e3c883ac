"""One run of env.py, as Alembic runs it.

Headstart touches Alembic in two places only, both on the one EnvironmentContext that env.py uses: what it gives to
`configure`, and the moment in which it calls `run_migrations`. Alembic manual, 'Runtime Objects: The Environment
Context'.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext

from headstart.errors import ConfigurationError, VerificationFailedError
from headstart.ledger import SCHEMA
from headstart.postgres import literal, quote
from headstart.worker import project, sessions
from headstart.worker.messages import Place, Planned
from headstart.worker.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

    from headstart.worker.tasks import Port

# Run by env.py's own session, in whose search path nothing of ours may be looked up.
_PLACE = """
select found.oid::pg_catalog.int8,
       coalesce(n.nspname::pg_catalog.text, {schema}, pg_catalog.current_schema()::pg_catalog.text),
       (current_user)::pg_catalog.text
from (select pg_catalog.to_regclass({name})::pg_catalog.oid) found (oid)
left join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) found.oid
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
"""

_READ: dict[object, ScriptDirectory] = {}  # by what the revision files may look at; no more than one


def _directory(task: Any, config: Config) -> ScriptDirectory:  # noqa: ANN401  (one of the tasks)
    """The project's revisions. A process that is asked for a plan and then runs it reads and imports them once."""
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
    """

    def __init__(self, task: Any, port: Port, *, work: bool) -> None:  # noqa: ANN401  (one of the tasks)
        sessions.begin(task.access, port, work=work)
        dsn = None if task.access is None else task.access.dsn
        self.config = project.configure(task.project, dsn, task.options)
        self.directory = _directory(task, self.config)
        self.statements = Statements(port, whole=getattr(task, "statements", False))
        self.ran = 0
        self._work = work
        self._single = getattr(task, "one_transaction", False)
        self._external = ""
        self._tag = task.options.get("tag")

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
        environment = EnvironmentContext(self.config, self.directory, fn=feed, tag=self._tag, **options)
        run_migrations = environment.run_migrations

        def ours(given: dict[str, Any]) -> dict[str, Any]:
            connection: Any = given.get("connection")
            if hasattr(connection, "in_transaction"):  # Alembic itself refuses an engine
                sessions.require_ours(connection)
                self._external = "env.py configures Alembic inside a transaction" if connection.in_transaction() else ""
            if not self._single:
                given["transaction_per_migration"] = True
            given = in_schema(given)
            if applied is not None:
                theirs = given.get("on_version_apply") or ()
                given["on_version_apply"] = [
                    *(theirs if isinstance(theirs, list | tuple | set) else (theirs,)),
                    applied,
                ]
            return past_ledger(given)

        def run(**given: Any) -> None:  # noqa: ANN401  (run_migrations' own)
            self.ran += 1
            if self.ran > 1:
                raise ConfigurationError(
                    f"{self.directory.dir}/env.py runs context.run_migrations() more than once",
                    hint="one env.py for one database is supported: give each database a configuration of its own",
                )
            context = environment.get_context()
            if (
                not self._external
                and context.connection is not None
                and self.statements.since_commit(context.connection)
            ):
                self._external = "env.py executes statements in the transaction in which it runs the migrations"
            run_migrations(**given)

        configured(environment, ours)
        environment.run_migrations = run  # type: ignore[method-assign]  # as in `configured`
        with environment:
            self.directory.run_env()
        if not self.ran:
            raise (VerificationFailedError if self._work else ConfigurationError)(
                f"{self.directory.dir}/env.py never ran context.run_migrations()",
                hint="see why env.py skips it, or which exception it swallows",
            )

    def planned(self, heads: tuple[str, ...], context: MigrationContext, steps: list[RevisionStep]) -> Planned:
        """What is reported before anything is run."""
        return Planned(
            recorded=tuple(sorted(heads)),
            place=_place(context),
            steps=tuple(project.described(step) for step in steps),
            heads=project.read(self.directory),
            one_transaction=self.one_transaction,
        )

    @property
    def one_transaction(self) -> str:
        """Why all revisions share one transaction; "" if each may have its own."""
        return self._external


def configured(environment: EnvironmentContext, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Have something changed in what env.py configures.

    Args:
        environment: before it is entered.
        change: gets the arguments of `context.configure` by their names, and gives those that Alembic gets.
    """
    configure = environment.configure
    parameters = inspect.signature(configure)

    def ours(*args: Any, **given: Any) -> None:  # noqa: ANN401  (configure's own)
        named = dict(parameters.bind(*args, **given).arguments)
        more = named.pop("kw", {})
        configure(**change({**named, **more}))

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


def _place(context: MigrationContext) -> Place:
    """Where env.py's own session finds the version table."""
    table, schema = context.version_table, context.version_table_schema
    name = quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
    assert context.connection is not None  # noqa: S101  (online)
    dbapi: Any = context.connection.connection.dbapi_connection
    cursor = dbapi.cursor()
    try:
        given = "null::pg_catalog.text" if schema is None else f"{literal(schema)}::pg_catalog.text"
        cursor.execute(_PLACE.format(name=f"{literal(name)}::pg_catalog.text", schema=given))
        oid, found, user = cursor.fetchone()
    finally:
        cursor.close()
    return Place(table=table, schema=found, configured=schema, oid=oid, user=user)
