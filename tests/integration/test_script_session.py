from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from headstart.script_connection import ScriptConnection
from headstart.script_run import ONE_BY_ONE
from support.scripts import engine_of, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MANY = ONE_BY_ONE + 50


@pytest.fixture(params=[0, 100], ids=["uncached", "cached"])
async def ours(database: str, request: pytest.FixtureRequest) -> AsyncIterator[ScriptConnection]:
    """A connection to the test's database, with and without asyncpg's cache of statements."""
    connection = await asyncpg.connect(database, connection_class=ScriptConnection, statement_cache_size=request.param)
    yield connection
    await connection.close(timeout=5)


DUMP_HEADER = """ SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET
transaction_timeout = 0; SET client_encoding = 'SQL_ASCII'; SET standard_conforming_strings = on; SELECT
pg_catalog.set_config('search_path', '', false); SET check_function_bodies = false; SET xmloption = content; SET
client_min_messages = warning; SET row_security = off; SET default_tablespace = ''; SET default_table_access_method =
heap; CREATE TABLE public.dumped (note text DEFAULT 'é');
"""
SESSION = "SELECT name, setting FROM pg_settings WHERE name NOT IN ('transaction_isolation') ORDER BY 1"


@pytest.mark.parametrize("many", [0, MANY])
@pytest.mark.parametrize("autocommit", [False, True])
async def test_what_pg_dump_sets_is_put_back(ours: ScriptConnection, autocommit: bool, many: int) -> None:
    """After a dump the session has the settings that it had before, whether the dump succeeds or fails."""
    await ours.execute("SET lock_timeout = '7s'; SET search_path = \"$user\", public, pg_temp; SET row_security = on")
    before = await rows(ours, SESSION)
    script = DUMP_HEADER + "SELECT 1;" * many
    async with engine_of(ours, autocommit=autocommit) as connection:
        await connection.exec_driver_sql(script)
        await connection.exec_driver_sql("SELECT * FROM dumped")
    assert await rows(ours, SESSION) == before
    with pytest.raises(DBAPIError):
        async with engine_of(ours, autocommit=autocommit) as connection:
            await connection.exec_driver_sql(script.replace("dumped", "other") + "SELECT 1/0")
    assert await rows(ours, SESSION) == before


async def test_a_search_path_set_on_purpose_stays(ours: ScriptConnection) -> None:
    """A script that chooses a search_path keeps it, and its other settings, as with psycopg."""
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql(
            "CREATE SCHEMA s; SET search_path = s; SET row_security = off; CREATE TABLE t ()"
        )
        assert (await connection.exec_driver_sql("SHOW search_path")).scalar() == "s"
        assert (await connection.exec_driver_sql("SHOW row_security")).scalar() == "off"
