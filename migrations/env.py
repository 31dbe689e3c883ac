"""Alembic's environment for the reference project: async, online and offline, the address from DATABASE_URL.

The address is looked up when a connection is made, not before: offline SQL needs none, and a program that hands its own
connection to Alembic needs none either.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

import asyncpg
from alembic import context
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from migrations.schema import metadata

if TYPE_CHECKING:
    import sqlalchemy as sa

# `alembic check` and autogenerate look at CHECK constraints too, which they leave out by default.
PLUGINS = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]


class Script:
    """Several statements, in the shape of a prepared statement, run by the simple query protocol.

    SQLAlchemy prepares everything, and a prepared statement is one statement (PostgreSQL manual, 'PREPARE').
    """

    def __init__(self, connection: ScriptConnection, text: str) -> None:
        self.connection, self.text, self.status = connection, text, ""

    def get_attributes(self) -> tuple[()]:
        """Return no columns: a script has no result."""
        return ()

    def get_statusmsg(self) -> str:
        """Return the command tag of the last statement."""
        return self.status

    async def fetch(self) -> list[object]:
        """Run the script, inside the transaction if there is one."""
        self.status = await self.connection.execute(self.text)
        return []


class ScriptConnection(asyncpg.Connection):
    """A connection that lets one `op.execute` hold several statements, with or without a function body."""

    async def prepare(self, query: str, **options: Any) -> Any:  # noqa: ANN401  (asyncpg's own signature)
        """Prepare one statement; keep a text with a semicolon inside, and without parameters, as a script."""
        if ";" in query.strip().rstrip(";") and "$1" not in query:
            return Script(self, query)
        return await super().prepare(query, **options)


async def connect() -> ScriptConnection:
    """Connect to DATABASE_URL, in libpq's or SQLAlchemy's spelling, whatever driver it names."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        message = "DATABASE_URL is not set: export it, as in postgresql://user:password@host:5432/database"
        raise CommandError(message)
    dsn = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    return await asyncpg.connect(dsn, connection_class=ScriptConnection)


def run(connection: sa.Connection) -> None:
    """Run the revisions on a connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        autogenerate_plugins=PLUGINS,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Open one connection and run the revisions on it."""
    engine = create_async_engine(
        "postgresql+asyncpg://", poolclass=NullPool, connect_args={"async_creator_fn": connect}
    )
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def run_offline() -> None:
    """Write the revisions' SQL to stdout."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        transaction_per_migration=True,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
