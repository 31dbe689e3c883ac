"""A complete env.py, for a project that has no reason to write its own.

    from headstart import environment
    from migrations.schema import metadata

    environment.configure(metadata)

It works under Alembic's own command as under Headstart: `alembic upgrade head`, `alembic upgrade head --sql`,
`alembic revision --autogenerate`, `alembic check`. It does what Alembic's cookbook does (Alembic manual, 'Using Asyncio
with Alembic', 'Sharing a Connection across one or more programmatic migration commands').
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from headstart.errors import ConfigurationError
from headstart.ledger import SCHEMA
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.engine import engine_from

_USUAL: Final = ("DATABASE_URL", "DATABASE_URL_FILE")
_DIRECT: Final = ("DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")

# It compares CHECK constraints, which Alembic otherwise leaves out. Older versions do not have it.
_CHECKS: Final = "alembic.ext.checkconstraint_byname"

# Partitions belong to their table, and what an extension made to the extension: no metadata names them.
_NOT_OURS: Final = sa.text(
    "select n.nspname, c.relname from pg_catalog.pg_class c"
    " join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace"
    " where c.relispartition or exists (select from pg_catalog.pg_depend d"
    " where d.classid operator(pg_catalog.=) c.tableoid and d.objid operator(pg_catalog.=) c.oid"
    " and d.deptype operator(pg_catalog.=) 'e')"
)


def configure(metadata: sa.MetaData, **options: Any) -> None:  # noqa: ANN401  (Alembic's own)
    """Configure Alembic's context for a metadata, and run what Alembic was asked for.

    Online the address is DATABASE_URL, or DATABASE_DIRECT_URL before it, their `_FILE` and `PG*`, as Headstart itself
    takes them, in any spelling. It is looked up when a connection is made, not before: offline SQL needs none.

    A program may hand its own Connection, Engine or AsyncEngine in, as `config.attributes["connection"]`. The pool of
    an AsyncEngine is emptied at the end, since its connections belong to an event loop that ends too. One `op.execute`
    then takes several statements if the engine was made by `headstart.engine_from(..., connect_args={
    "connection_class": ScriptConnection})` (`headstart.postgres.connection`).

    Each revision has a transaction of its own. Autogenerate compares the schemas that the metadata has tables in, CHECK
    constraints included where the installed Alembic can; partitions, what extensions made, and Headstart's own ledger
    are left out.

    Args:
        metadata: every table of the project.
        options: of Alembic's `context.configure` (Alembic manual, 'Runtime Objects'), such as `version_table`; they
            override what is described above, and `include_name` may leave out more.

    Raises:
        CommandError: there is no address, or one that is none.
    """
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _offline(metadata, options)
    elif isinstance(given, sa.Engine):
        with given.connect() as connection:
            _online(connection, metadata, options)
    elif given is None or isinstance(given, AsyncEngine):
        try:
            asyncio.run(_connected(given or _engine(), metadata, options))
        except ConfigurationError as error:
            raise CommandError(error.message) from error  # one line instead of a traceback
    else:
        _online(given, metadata, options)


def _offline(metadata: sa.MetaData, options: Mapping[str, Any]) -> None:
    ours = {
        "dialect_name": "postgresql",
        "dialect_opts": {"paramstyle": "named"},  # with %s, each percent sign of the SQL would be doubled
        "target_metadata": metadata,
        "transaction_per_migration": True,
        "literal_binds": True,
    }
    _migrate({**ours, **options})


def _engine() -> AsyncEngine:
    """Headstart's own address where Headstart runs this, else one that is looked up when it connects."""
    url = context.config.get_main_option("sqlalchemy.url", "")
    if url.startswith("postgresql+headstart:"):
        return create_async_engine(url, poolclass=NullPool)
    left_out = _USUAL if any(name in os.environ for name in _DIRECT) else ()  # the direct address goes first
    environ = {name: value for name, value in os.environ.items() if name not in left_out}
    # A statement that is cached over an ALTER TABLE has the wrong columns: nothing is cached.
    arguments = {
        "connection_class": ScriptConnection,
        "prepared_statement_cache_size": 0,
        "statement_cache_size": 0,
        "server_settings": {"application_name": "alembic"},
    }
    return engine_from(environ, poolclass=NullPool, connect_args=arguments)


async def _connected(engine: AsyncEngine, metadata: sa.MetaData, options: Mapping[str, Any]) -> None:
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_online, metadata, options)
    finally:
        await engine.dispose()


def _online(connection: sa.Connection, metadata: sa.MetaData, options: Mapping[str, Any]) -> None:
    ours = {
        "connection": connection,
        "target_metadata": metadata,
        "transaction_per_migration": True,
        "include_schemas": True,
    }
    if all(importlib.util.find_spec(name) for name in (_CHECKS.rpartition(".")[0], _CHECKS)):
        ours["autogenerate_plugins"] = ["alembic.autogenerate.*", _CHECKS]
    include = _including(connection, metadata, options.get("include_name"))
    _migrate({**ours, **options, "include_name": include})


def _migrate(options: Mapping[str, Any]) -> None:
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


def _including(
    connection: sa.Connection, metadata: sa.MetaData, theirs: Callable[..., bool] | None
) -> Callable[[str | None, str, Mapping[str, Any]], bool]:
    """Alembic's `include_name`: which schemas and tables are compared at all. The project's own may leave out more."""
    schemas = {table.schema for table in metadata.tables.values()} - {SCHEMA}
    default = connection.dialect.default_schema_name or "public"

    @functools.cache
    def not_ours() -> set[tuple[str, str]]:
        return {(row[0], row[1]) for row in connection.execute(_NOT_OURS)}

    def include(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "schema" and name not in schemas:
            return False
        if kind == "table" and (parents.get("schema_name") or default, str(name)) in not_ours():
            return False
        return theirs is None or bool(theirs(name, kind, parents))

    return include
