"""What a project's env.py does, for one that calls `headstart.environment.configure`.

As Alembic's cookbook has it (Alembic manual, 'Using Asyncio with Alembic', 'Sharing a Connection across one or more
programmatic migration commands'): online on an async engine or on the connection that a program hands in, offline
without any, all schemas of the metadata, a transaction for each revision.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from headstart.errors import ConfigurationError
from headstart.ledger import SCHEMA
from headstart.script_connection import ScriptConnection

Connect = Callable[..., Awaitable[ScriptConnection]]

# It compares CHECK constraints, which Alembic otherwise leaves out. Older versions do not have it.
_CHECKS: Final = "alembic.ext.checkconstraint_byname"

# Partitions belong to their table, and what an extension made to the extension: no metadata names them.
_NOT_OURS: Final = sa.text(
    "select n.nspname, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    " where c.relispartition or exists (select from pg_catalog.pg_depend d"
    " where d.classid = c.tableoid and d.objid = c.oid and d.deptype = 'e')"
)


def run(metadata: sa.MetaData, options: Mapping[str, Any], connect: Connect) -> None:
    """Run what Alembic was asked for.

    Args:
        metadata: what autogenerate compares the database with.
        options: of Alembic's `context.configure`; they go before ours.
        connect: makes the connection, where none is given and Headstart itself does not lend its own.
    """
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _offline(metadata, options)
    elif given is not None:
        _online(given, metadata, options)
    else:
        try:
            asyncio.run(_connected(metadata, options, connect))
        except ConfigurationError as error:
            raise CommandError(error.message) from error  # one line instead of a traceback


def _offline(metadata: sa.MetaData, options: Mapping[str, Any]) -> None:
    ours = {
        "dialect_name": "postgresql",
        "dialect_opts": {"paramstyle": "named"},  # with %s, each percent sign of the SQL would be doubled
        "target_metadata": metadata,
        "transaction_per_migration": True,
        "literal_binds": True,
    }
    _migrate({**ours, **options})


async def _connected(metadata: sa.MetaData, options: Mapping[str, Any], connect: Connect) -> None:
    # A statement that is kept over an ALTER TABLE has the wrong columns: nothing is kept.
    arguments = {"async_creator_fn": connect, "prepared_statement_cache_size": 0}
    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, connect_args=arguments)
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
    include = _Include(connection, metadata, options.get("include_name"))
    _migrate({**ours, **options, "include_name": include})


def _migrate(options: Mapping[str, Any]) -> None:
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


class _Include:
    """Alembic's `include_name`: which schemas and tables of the database are compared at all.

    Args:
        connection: to the database.
        metadata: only the schemas that it has tables in are compared.
        theirs: an `include_name` of the project's own, which may leave out more.
    """

    def __init__(self, connection: sa.Connection, metadata: sa.MetaData, theirs: Callable[..., bool] | None) -> None:
        self._connection = connection
        self._schemas = {table.schema for table in metadata.tables.values()} - {SCHEMA}
        self._theirs = theirs
        self._not_ours: set[tuple[str, str]] | None = None

    def __call__(self, name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "schema" and name not in self._schemas:
            return False
        if kind == "table" and self._belongs_elsewhere(str(name), parents.get("schema_name")):
            return False
        return self._theirs is None or bool(self._theirs(name, kind, parents))

    def _belongs_elsewhere(self, name: str, schema: str | None) -> bool:
        if self._not_ours is None:
            self._not_ours = {(row[0], row[1]) for row in self._connection.execute(_NOT_OURS)}
        return (schema or self._connection.dialect.default_schema_name or "public", name) in self._not_ours
