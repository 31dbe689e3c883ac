from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from headstart.script_connection import ScriptConnection
from headstart.script_run import ONE_BY_ONE
from support.lending import engine_of, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MANY = ONE_BY_ONE + 50


@pytest.fixture(params=[0, 100], ids=["uncached", "cached"])
async def ours(database: str, request: pytest.FixtureRequest) -> AsyncIterator[ScriptConnection]:
    """A lent connection to the test's database, with and without asyncpg's cache of statements."""
    connection = await asyncpg.connect(database, connection_class=ScriptConnection, statement_cache_size=request.param)
    connection.lent = True
    yield connection
    await connection.close(5)


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


async def test_no_lock_timeout_outside_of_a_transaction(ours: ScriptConnection) -> None:
    """In autocommit `work_lock_timeout` does not hold while a statement runs, and holds again after it."""
    await ours.execute("SET lock_timeout = '5000ms'; CREATE TABLE seen (value text)")
    ours.work_lock_timeout = "5s"
    look = "INSERT INTO seen VALUES (current_setting('lock_timeout'))"
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql(look)
        await connection.exec_driver_sql(f"{look}; SELECT 1")
    assert await rows(ours, "DELETE FROM seen RETURNING value") == [("5s",), ("5s",)]
    async with engine_of(ours, autocommit=True) as connection:
        await connection.exec_driver_sql(look)
        await connection.exec_driver_sql(f"{look}; {look}")
        assert (
            await connection.exec_driver_sql("SELECT current_setting('lock_timeout'), $1::int", (1,))
        ).scalar() == "0"
        await connection.execute(
            text("INSERT INTO seen VALUES (current_setting('lock_timeout') || :x)"), [{"x": ""}] * 2
        )
        assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar() == "5s"
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("DROP TABLE missing")
        assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar() == "5s"
    assert await rows(ours, "DELETE FROM seen RETURNING value") == [("0",)] * 5
    assert await rows(ours, "SHOW lock_timeout") == [("5s",)]


async def test_the_users_own_lock_timeout_is_left_alone(ours: ScriptConnection) -> None:
    """Whoever sets lock_timeout in autocommit gets what was set, during his statements and after them."""
    await ours.execute("SET lock_timeout = '5s'; CREATE TABLE seen (value text)")
    ours.work_lock_timeout = "5s"
    async with engine_of(ours, autocommit=True) as connection:
        await connection.exec_driver_sql("SET lock_timeout = '1234ms'")
        await connection.exec_driver_sql("INSERT INTO seen VALUES (current_setting('lock_timeout'))")
        await connection.exec_driver_sql("SELECT set_config('lock_timeout', '4321ms', false)")
    assert await rows(ours, "SELECT value FROM seen") == [("1234ms",)]
    assert await rows(ours, "SHOW lock_timeout") == [("4321ms",)]


async def test_cancelled_outside_of_a_transaction(ours: ScriptConnection) -> None:
    """A cancelled statement in autocommit stops, and the session has its lock_timeout back."""
    await ours.execute("SET lock_timeout = '5s'")
    ours.work_lock_timeout = "5s"
    async with engine_of(ours, autocommit=True) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.exec_driver_sql("DO $$ BEGIN PERFORM pg_sleep(60); END $$")
    async with asyncio.timeout(10):
        assert await rows(ours, "SHOW lock_timeout") == [("5s",)]


async def test_a_lent_connection_outlives_its_borrowers(ours: ScriptConnection) -> None:
    """Engines that close or terminate it only give it back; a transaction they leave open is rolled back."""
    pid = ours.get_server_pid()
    for _ in range(2):
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql("SELECT 1")
        assert not ours.lent
    ours.lent = True
    await ours.transaction().start()
    await ours.execute("CREATE TABLE t ()")
    ours.terminate()
    assert (ours.lent, ours.is_closed()) == (False, False)
    await ours.tidy()
    await ours.execute("BEGIN; CREATE TABLE t ()")
    await ours.close(timeout=2)
    assert not ours.is_in_transaction()
    async with engine_of(ours) as connection:
        assert (await connection.exec_driver_sql("SELECT to_regclass('t'), pg_backend_pid()")).one() == (None, pid)


async def test_shut_and_drop_really_close(database: str) -> None:
    """Its owner can close it, and one that was never lent closes as any other."""
    for lend in (True, False):
        for end in ("shut", "drop", "close", "terminate"):
            if lend and end in {"close", "terminate"}:
                continue
            connection = await asyncpg.connect(database, connection_class=ScriptConnection)
            connection.lent = lend
            ending = getattr(connection, end)()
            if ending is not None:
                await ending
            assert connection.is_closed()
            assert not connection.lent
