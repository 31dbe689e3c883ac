"""A connection that takes scripts, in the hands of SQLAlchemy, as a user's env.py would have it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from support.postgres import psql
from support.waiting import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from headstart.script_connection import ScriptConnection


@asynccontextmanager
async def engine_of(ours: ScriptConnection, *, autocommit: bool = False) -> AsyncIterator[AsyncConnection]:
    """A connection of SQLAlchemy's on ours, in a transaction or in autocommit; ours stays open afterwards."""

    async def give() -> ScriptConnection:
        return ours

    engine = create_async_engine("postgresql+asyncpg://", async_creator=give, poolclass=StaticPool)
    if autocommit:
        async with engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")
    else:
        async with engine.begin() as connection:
            yield connection


async def rows(ours: ScriptConnection, query: str) -> list[tuple[Any, ...]]:
    """Rows by asyncpg itself."""
    return [tuple(row) for row in await ours.fetch(query)]


async def under_way(url: str, beginning: str) -> None:
    """Wait until a server is at a statement: it passes over a cancellation that overtakes what is to be cancelled."""
    at_it = "select pid from pg_stat_activity where datname = current_database() and state = 'active'"
    at_it += " and starts_with(query, $1)"
    await soon(lambda: psql(url, at_it, beginning), f"the server at {beginning}")
