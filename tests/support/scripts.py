"""Engines whose connections take scripts, as a user's env.py would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import create_async_engine

from headstart.postgres.connection import ScriptConnection
from support.postgres import psql
from support.waiting import soon

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def script_engine(url: str, **options: Any) -> AsyncEngine:
    """An engine of one session, whose connections take scripts.

    Args:
        url: the database.
        options: what asyncpg is to connect with, such as `statement_cache_size`.
    """
    return create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:", 1),
        connect_args={"connection_class": ScriptConnection, **options},
        pool_size=1,
        max_overflow=0,
    )


def autocommit(engine: AsyncEngine) -> AsyncEngine:
    """The same engine, outside of transactions."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


async def session_of(engine: AsyncEngine) -> ScriptConnection:
    """What asyncpg has of the engine's one session."""
    async with engine.connect() as connection:
        ours = (await connection.get_raw_connection()).driver_connection
    assert type(ours) is ScriptConnection  # isinstance is true of every connection of asyncpg's
    return ours


async def rows(ours: ScriptConnection, query: str) -> list[tuple[Any, ...]]:
    """Rows by asyncpg itself."""
    return [tuple(row) for row in await ours.fetch(query)]


async def under_way(url: str, beginning: str) -> None:
    """Wait until a server is at a statement: it passes over a cancellation that overtakes what is to be cancelled."""
    at_it = "select pid from pg_stat_activity where datname = current_database() and state = 'active'"
    at_it += " and starts_with(query, $1)"
    await soon(lambda: psql(url, at_it, beginning), f"the server at {beginning}")
