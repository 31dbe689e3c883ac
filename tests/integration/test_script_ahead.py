"""DDL that is sent ahead: the server works while Python prepares the next statement, and no failure is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from headstart.script_connection import ScriptConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def ahead(any_database: str) -> AsyncIterator[ScriptConnection]:
    """A connection whose DDL goes ahead."""
    connection = await asyncpg.connect(any_database, connection_class=ScriptConnection, statement_cache_size=0)
    connection.ahead = True
    yield connection
    await connection.shut()


async def _run(connection: ScriptConnection, query: str) -> None:
    statement = await connection.prepare(query)
    await statement.fetch()


async def test_ddl_goes_ahead_and_arrives(ahead: ScriptConnection) -> None:
    """What was sent ahead is there for the next statement, and is committed with the rest."""
    async with ahead.transaction():
        await _run(ahead, "create table a (id int)")
        await _run(ahead, "create table b (id int)")
        await _run(ahead, "insert into a values (1)")
    assert await ahead.fetchval("select count(*) from a") == 1
    assert await ahead.fetchval("select to_regclass('b') is not null")


async def test_a_failure_is_raised_by_the_next_statement_and_named(ahead: ScriptConnection) -> None:
    """The statement at fault is the one that `last_error` names, not the one that met the error."""
    transaction = ahead.transaction()
    await transaction.start()
    await _run(ahead, "create table a (id nonsense)")
    with pytest.raises(asyncpg.UndefinedObjectError) as caught:
        await _run(ahead, "create table b (id int)")
    assert ahead.last_error is not None
    assert ahead.last_error.error is caught.value
    assert ahead.last_error.statement == "create table a (id nonsense)"
    await ahead.tidy()
    assert await ahead.fetchval("select to_regclass('b') is null")


async def test_a_failure_is_raised_by_commit_at_the_latest(ahead: ScriptConnection) -> None:
    """Nothing is committed after a statement that failed ahead."""
    transaction = ahead.transaction()
    await transaction.start()
    await _run(ahead, "create table kept (id int)")
    await _run(ahead, "alter table missing add column x int")
    with pytest.raises(asyncpg.UndefinedTableError):
        await transaction.commit()
    await ahead.tidy()
    assert not ahead.is_in_transaction()
    assert await ahead.fetchval("select to_regclass('kept') is null")


async def test_behind_a_savepoint_nothing_goes_ahead(ahead: ScriptConnection) -> None:
    """A revision that means to survive a failure hears of it at once."""
    async with ahead.transaction():
        await _run(ahead, "savepoint here")
        with pytest.raises(asyncpg.UndefinedTableError):
            await _run(ahead, "alter table missing add column x int")
        await _run(ahead, "rollback to savepoint here")
        await _run(ahead, "create table kept (id int)")
    assert await ahead.fetchval("select to_regclass('kept') is not null")


async def test_outside_a_transaction_nothing_goes_ahead(ahead: ScriptConnection) -> None:
    """Where each statement is committed by itself, each is waited for."""
    with pytest.raises(asyncpg.UndefinedTableError):
        await _run(ahead, "alter table missing add column x int")


async def test_what_nobody_waits_for_is_rolled_back(ahead: ScriptConnection, any_database: str) -> None:
    """A borrower that leaves with a statement under way leaves no transaction, no lock and no warning."""
    other = await asyncpg.connect(any_database)
    try:
        await other.execute("create table t (id int)")
        async with other.transaction():
            await other.execute("lock table t")
            await ahead.transaction().start()
            await _run(ahead, "alter table t add column x int")
            await ahead.tidy()
            assert not ahead.is_in_transaction()
    finally:
        await other.close()
