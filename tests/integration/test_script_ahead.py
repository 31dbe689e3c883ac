"""DDL that is sent ahead: the server works while Python prepares the next statement, and no failure is lost."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import asyncpg
import pytest

from headstart.errors import MigrationFailedError
from headstart.script_connection import ScriptConnection
from headstart.sqlscript import ScriptError
from support.lending import under_way
from support.postgres import psql
from support.waiting import PAUSE, soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.transaction import Transaction


@pytest.fixture
async def ahead(any_database: str) -> AsyncIterator[ScriptConnection]:
    """A connection whose DDL goes ahead."""
    connection = await asyncpg.connect(any_database, connection_class=ScriptConnection, statement_cache_size=0)
    connection.ahead = True
    yield connection
    await connection.close()


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
            await under_way(any_database, "alter table t")
            await ahead.tidy()
            assert not ahead.is_in_transaction()
    finally:
        await other.close()


async def test_it_has_left_before_the_loop_turns(ahead: ScriptConnection, any_database: str) -> None:
    """The server works while Python computes, and does not wait for Python to come to a wait."""
    async with ahead.transaction():
        await _run(ahead, "create table a as select 1 from pg_sleep(0.5)")
        active = "select state from pg_stat_activity where query like 'create table a as%' and pid <> pg_backend_pid()"
        assert psql(any_database, active) == [("active",)]  # blocks this thread, and with it the loop


async def test_who_waits_for_it_can_be_cancelled(ahead: ScriptConnection, any_database: str) -> None:
    """A cancellation reaches the server, and the connection is of use afterwards."""
    transaction = ahead.transaction()
    await transaction.start()
    await _run(ahead, "create table a as select 1 from pg_sleep(60)")
    waiting = asyncio.create_task(ahead.arrived())
    await under_way(any_database, "create table a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        await ahead.tidy()
        assert await ahead.fetchval("select to_regclass('a') is null")


async def test_a_failure_that_nobody_waits_for(
    ahead: ScriptConnection, any_database: str, recwarn: pytest.WarningsRecorder
) -> None:
    """What has failed by the time that it is given up is forgotten with the rest of its transaction."""
    await ahead.transaction().start()
    await _run(ahead, "alter table missing add column x int")
    failed = "select pid from pg_stat_activity where datname = current_database() and state like '%(aborted)'"
    await soon(lambda: psql(any_database, failed), "its failure")
    await asyncio.sleep(PAUSE)  # its answer is read
    await ahead.tidy()
    assert not ahead.is_in_transaction()
    assert await ahead.fetchval("select 1") == 1
    assert not recwarn.list


# -- the version table's UPDATE ----------------------------------------------------------------------------------------


async def test_a_move_arrives_with_the_commit(ahead: ScriptConnection) -> None:
    """Nobody waits for it before."""
    await ahead.execute("create table version (num text); insert into version values ('a')")
    async with ahead.transaction():
        await ahead.move("update version set num = 'b' where num = 'a'")
    assert await ahead.fetchval("select num from version") == "b"


@pytest.mark.parametrize(("rows", "tag"), [("('x')", "UPDATE 0"), ("('a'), ('a')", "UPDATE 2")])
async def test_a_move_that_misses_is_not_committed(ahead: ScriptConnection, rows: str, tag: str) -> None:
    """It has to hit one row: else the commit fails, and nothing of the transaction stays."""
    await ahead.execute(f"create table version (num text); insert into version values {rows}")
    transaction = ahead.transaction()
    await transaction.start()
    await _run(ahead, "create table kept (id int)")
    await ahead.move("update version set num = 'b' where num = 'a'")
    with pytest.raises(MigrationFailedError, match=re.escape(tag)):
        await transaction.commit()
    await ahead.tidy()
    assert await ahead.fetchval("select to_regclass('kept') is null")
    assert await ahead.fetchval("select count(*) from version where num = 'b'") == 0


# -- a BEGIN that waits for its first statement ------------------------------------------------------------------------


async def _begin(connection: ScriptConnection) -> Transaction:
    """Begin a transaction as SQLAlchemy does when its first statement comes."""
    connection.follows = True
    transaction = connection.transaction()
    await transaction.start()
    return transaction


async def test_a_begin_goes_with_its_first_statement(ahead: ScriptConnection, any_database: str) -> None:
    """The server hears of the transaction together with the statement, and both count."""
    other = await asyncpg.connect(any_database)
    transaction = await _begin(ahead)
    assert ahead.is_in_transaction()
    state = "select state from pg_stat_activity where pid = $1"
    assert await other.fetchval(state, ahead.get_server_pid()) == "idle"
    await _run(ahead, "create table a as select 1 from pg_sleep(0.2)")
    assert ahead.is_in_transaction()  # though the server has not said so yet
    await ahead.arrived()
    assert await other.fetchval(state, ahead.get_server_pid()) == "idle in transaction"
    await transaction.commit()
    assert await other.fetchval("select to_regclass('a') is not null")
    await other.close()


@pytest.mark.parametrize(
    ("query", "position"),
    [("create tabel a ()", 8), ("create table a (id nonsense)", 20), ("alter table missing add x int", None)],
)
async def test_a_first_statement_that_fails_dooms_the_transaction(
    ahead: ScriptConnection, query: str, position: int | None
) -> None:
    """Even if the server understood no word: nothing after it is committed, and the position is the statement's own."""
    transaction = await _begin(ahead)
    await _run(ahead, query)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await _run(ahead, "create table kept (id int)")
    failure = ahead.last_error
    assert failure is not None
    assert failure.error is caught.value
    assert failure.statement == query
    assert failure.position == position
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await ahead.execute("create table kept (id int)")
    await transaction.rollback()
    assert await ahead.fetchval("select to_regclass('kept') is null")


@pytest.mark.parametrize(
    "query",
    ["select 1", "insert into a values (1) returning id", "insert into a values (2); insert into a values (3)"],
    ids=["rows", "returning", "script"],
)
async def test_a_begin_is_never_left_out(ahead: ScriptConnection, query: str) -> None:
    """Whatever the first statement is, it runs inside the transaction and goes with it."""
    await ahead.execute("create table a (id int)")
    transaction = await _begin(ahead)
    await _run(ahead, query)
    await ahead.execute("insert into a values (4)")
    await transaction.rollback()
    assert await ahead.fetchval("select count(*) from a") == 0


async def test_what_cannot_be_run_leaves_no_begin_behind(ahead: ScriptConnection) -> None:
    """A script that is refused before anything is sent is rolled back like any other failure."""
    transaction = await _begin(ahead)
    with pytest.raises(ScriptError):
        await _run(ahead, "insert into a values (1); copy a from stdin;\nselect 'unfinished")
    await transaction.rollback()
    assert not ahead.is_in_transaction()


async def test_many_rows_at_once_are_in_the_transaction(ahead: ScriptConnection) -> None:
    """`executemany` as the first of a transaction goes with it, too."""
    await ahead.execute("create table a (id int)")
    transaction = await _begin(ahead)
    await ahead.executemany("insert into a values ($1)", [(1,), (2,)])
    await transaction.rollback()
    assert await ahead.fetchval("select count(*) from a") == 0
