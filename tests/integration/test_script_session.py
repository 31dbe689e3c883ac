from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import DBAPIError

from headstart.postgres.script_run import ONE_BY_ONE
from support.scripts import autocommit, rows, script_engine, session_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from headstart.postgres.connection import ScriptConnection

MANY = ONE_BY_ONE + 50


@pytest.fixture(params=[0, 100], ids=["uncached", "cached"])
async def engine(database: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database, with and without asyncpg's cache of statements."""
    engine = script_engine(database, statement_cache_size=request.param)
    yield engine
    await engine.dispose()


@pytest.fixture
async def ours(engine: AsyncEngine) -> ScriptConnection:
    """The session behind the engine."""
    return await session_of(engine)


DUMP_HEADER = """ SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET
transaction_timeout = 0; SET client_encoding = 'SQL_ASCII'; SET standard_conforming_strings = on; SELECT
pg_catalog.set_config('search_path', '', false); SET check_function_bodies = false; SET xmloption = content; SET
client_min_messages = warning; SET row_security = off; SET default_tablespace = ''; SET default_table_access_method =
heap; CREATE TABLE public.dumped (note text DEFAULT 'é');
"""
SESSION = "SELECT name, setting FROM pg_settings WHERE name NOT IN ('transaction_isolation') ORDER BY 1"


@pytest.mark.parametrize("many", [0, MANY])
@pytest.mark.parametrize("within", [True, False], ids=["transaction", "autocommit"])
async def test_what_pg_dump_sets_is_put_back(
    engine: AsyncEngine, ours: ScriptConnection, within: bool, many: int
) -> None:
    """After a dump the session has the settings that it had before, whether the dump succeeds or fails."""
    await ours.execute("SET lock_timeout = '7s'; SET search_path = \"$user\", public, pg_temp; SET row_security = on")
    before = await rows(ours, SESSION)
    script = DUMP_HEADER + "SELECT 1;" * many
    one = engine if within else autocommit(engine)
    async with one.begin() as connection:
        await connection.exec_driver_sql(script)
        await connection.exec_driver_sql("SELECT * FROM dumped")
    assert await rows(ours, SESSION) == before
    with pytest.raises(DBAPIError):
        async with one.begin() as connection:
            await connection.exec_driver_sql(script.replace("dumped", "other") + "SELECT 1/0")
    assert await rows(ours, SESSION) == before


async def test_a_search_path_set_on_purpose_stays(engine: AsyncEngine) -> None:
    """A script that chooses a search_path keeps it, and its other settings, as with psycopg."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE SCHEMA s; SET search_path = s; SET row_security = off; CREATE TABLE t ()"
        )
        assert (await connection.exec_driver_sql("SHOW search_path")).scalar() == "s"
        assert (await connection.exec_driver_sql("SHOW row_security")).scalar() == "off"
