"""What `revision --autogenerate` compares, and why it found nothing. Alembic's manual, 'Auto Generating Migrations'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, inspect

from headstart.errors import ConfigurationError, VerificationFailedError
from headstart.history.graph import revision_field
from headstart.ledger import SCHEMA
from headstart.log.printable import first_and_last
from headstart.worker.messages import Logged

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Table

    from headstart.worker.port import Port

_NEVER_COMPARED = (
    "Alembic never compares views, materialised views, partitions, functions, triggers, enum types, exclusion"
    " constraints and policies, nor CHECK constraints without its plugin: write their changes by hand"
)


def explained(environment: EnvironmentContext, given: Mapping[str, Any], port: Port) -> dict[str, Any]:
    """Have autogenerate compare every schema that the models have tables in, and say why it finds nothing.

    Nothing found writes no file: an empty revision is a mistake that is easily committed.

    Args:
        environment: Alembic's, with its `fn`.
        given: what env.py gives to `context.configure`.
        port: gets `autogenerate_found_nothing` with the causes that apply to this project.

    Returns:
        What is given to `context.configure` instead.

    Raises:
        ConfigurationError: env.py gives no `target_metadata` (10).
        VerificationFailedError: later: the database is not at head, so the models cannot be compared with it (80).
    """
    comparison = _Comparison(environment, given, port)
    feed = environment.context_opts["fn"]

    def at_head(recorded: tuple[str, ...], context: MigrationContext) -> object:
        comparison.require_head(recorded)
        return feed(recorded, context)

    environment.context_opts["fn"] = at_head
    return comparison.options()


class _Comparison:
    """One comparison of models and database.

    Args:
        environment: Alembic's.
        given: what env.py gives to `context.configure`.
        port: as for `explained`.
    """

    def __init__(self, environment: EnvironmentContext, given: Mapping[str, Any], port: Port) -> None:
        metadata = given.get("target_metadata")
        if metadata is None:
            raise ConfigurationError(
                f"there are no models to compare with: {environment.script.dir}/env.py gives context.configure"
                " no target_metadata",
                hint="set target_metadata to your models' MetaData there (Base.metadata), and import their modules",
            )
        several = [metadata] if isinstance(metadata, MetaData) else metadata
        self._tables: list[Table] = [table for each in several for table in each.tables.values()]
        self._environment = environment
        self._given = given
        self._port = port

    def require_head(self, recorded: tuple[str, ...]) -> None:
        """Refuse a database that lacks revisions: they would be found as differences."""
        script = self._environment.script
        heads = tuple(script.get_heads())
        if set(recorded) != set(heads) and all(script.get_revision(each) for each in recorded):
            raise VerificationFailedError(
                f"the database is at {_shown(recorded)}, not at head ({_shown(heads)}): what is pending would be"
                " generated once more",
                hint="run `headstart up` first, then this again",
            )

    def options(self) -> dict[str, Any]:
        """What is given to `context.configure` instead."""
        options = {**self._given, "process_revision_directives": self._directives}
        schemas = {table.schema for table in self._tables if table.schema}
        if schemas and "include_schemas" not in options:  # else their tables would be generated again and again
            options["include_schemas"] = True
            self._log("info", "schemas_compared", schemas=sorted(schemas), reason="the models have tables in them")
            theirs = self._given.get("include_name")

            def include_name(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
                ours = kind != "schema" or name is None or name in schemas
                return ours and (theirs is None or bool(theirs(name, kind, parents)))

            options["include_name"] = include_name
        return options

    def _log(self, level: str, event: str, **fields: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
        self._port.send(Logged(level=level, event=event, fields=fields))

    def _directives(self, context: MigrationContext, revision: object, found: list[MigrationScript]) -> None:
        theirs = self._given.get("process_revision_directives")
        if theirs is not None:
            theirs(context, revision, found)
        empty = all(ops.is_empty() for script in found for ops in script.upgrade_ops_list)
        if empty:
            found.clear()
            self._explain(context)
        elif not self._tables:
            self._log(
                "warning",
                "models_missing",
                hint="target_metadata has no tables, so the new revision drops those of the database: import the"
                " modules with the models in env.py",
            )

    def _explain(self, context: MigrationContext) -> None:
        self._log(
            "warning",
            "autogenerate_found_nothing",
            revision=revision_field(context.get_current_heads()),
            models=len(self._tables),
            causes=[*self._of_env_py(context), *self._of_options(context.opts), self._of_models(), _NEVER_COMPARED],
            hint="no file was written; `headstart revision -m MESSAGE` writes an empty one to fill in",
        )

    def _of_env_py(self, context: MigrationContext) -> Iterator[str]:
        if not self._tables:
            yield "target_metadata has no tables: import the modules with the models in env.py"
        assert context.connection is not None  # noqa: S101  (autogenerate is never offline)
        database = inspect(context.connection)
        compared = {database.default_schema_name, *(table.schema for table in self._tables)}
        outside = {*database.get_schema_names()} - compared - {"information_schema", SCHEMA}
        apart = sorted(name for name in outside if database.get_table_names(name))
        if apart and not self._given.get("include_schemas"):
            yield f"not compared: schema {first_and_last(apart)}; the models have no tables there"
        filters = [name for name in ("include_name", "include_object") if self._given.get(name) is not None]
        if filters:
            yield f"what env.py leaves out is not compared: see its {' and '.join(filters)}"

    def _of_options(self, options: Mapping[str, Any]) -> Iterator[str]:
        if options.get("compare_type") is False:
            yield "changed types are not compared: env.py says compare_type=False"
        defaults = any(column.server_default is not None for table in self._tables for column in table.columns)
        if defaults and not options.get("compare_server_default"):
            yield "changed server defaults are not compared: env.py does not say compare_server_default=True"

    def _of_models(self) -> str:
        if not self._tables:
            return "the database has no tables that could be dropped"
        names = first_and_last(sorted(table.fullname for table in self._tables))
        return (
            f"the database has all that the models say of their tables ({names}): a new table that is not among these"
            " is in a module that env.py does not import; a change to one of these is not saved, or somebody made it in"
            " the database already (create_all, or by hand)"
        )


def _shown(revisions: tuple[str, ...]) -> str:
    shown = revision_field(revisions)
    return ", ".join(shown) if isinstance(shown, list) else str(shown)
