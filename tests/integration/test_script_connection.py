from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from headstart.postgres.connection import ScriptConnection
from headstart.postgres.script_run import ONE_BY_ONE, failure_of
from headstart.sql.script import ScriptError
from support.postgres import psql
from support.scripts import autocommit, rows, script_engine, session_of, under_way
from support.waiting import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

MANY = ONE_BY_ONE + 50


def cause_of(error: DBAPIError) -> BaseException | None:
    """What asyncpg raised, below SQLAlchemy's error and its driver's."""
    return None if error.orig is None else error.orig.__cause__


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


async def test_several_statements_run_in_the_transaction(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """A script with quotes, a function and COPY data runs in one execute, and is rolled back with its transaction."""
    script = """
        CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'a;b'); CREATE FUNCTION f()
        RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.note || ';'; RETURN NEW; END $$; CREATE
        TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
COPY t (id, note) FROM stdin;
2\tx
3\t\\N
\\.
        -- done
    """
    with pytest.raises(DBAPIError):
        async with engine.begin() as connection:
            await connection.exec_driver_sql(script + "SELECT 1/0")
    assert await rows(ours, "SELECT to_regclass('t')") == [(None,)]
    async with engine.begin() as connection:
        result = await connection.exec_driver_sql(script)
        assert not result.returns_rows
    assert await rows(ours, "SELECT * FROM t ORDER BY id") == [(1, "a;b"), (2, "x;"), (3, None)]


@pytest.mark.parametrize("nothing", ["", "-- nothing", "/* nothing */;", ";", "\\restrict x\n\\unrestrict x\n"])
async def test_an_empty_script_does_nothing(engine: AsyncEngine, nothing: str) -> None:
    """A text without a statement succeeds."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(nothing)


async def test_single_statements_behave_as_they_do_with_asyncpg(engine: AsyncEngine) -> None:
    """Row counts, parameters, rows and repeated texts are what SQLAlchemy's dialect promises."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id int, note text)")
        for _ in range(3):
            assert (await connection.exec_driver_sql("INSERT INTO t VALUES (1, ';'), (2, 'b')")).rowcount == 2
        assert (await connection.exec_driver_sql("UPDATE t SET note = 'c' WHERE id = 1;")).rowcount == 3
        for wanted in (1, 2):
            found = await connection.execute(text("SELECT note FROM t WHERE id = :id"), {"id": wanted})
            assert found.scalars().all() == [{1: "c", 2: "b"}[wanted]] * 3
        found = await connection.exec_driver_sql("DELETE FROM t WHERE id = 2 RETURNING note")
        assert found.scalars().all() == ["b"] * 3
        await connection.execute(text("INSERT INTO t VALUES (:id, :note)"), [{"id": 7, "note": "x"}] * 2)
        stream = await connection.stream(text("SELECT id FROM t WHERE id = 7"))
        assert [row.id async for row in stream] == [7, 7]


async def test_parameters_with_a_script_are_refused(engine: AsyncEngine) -> None:
    """A script takes no parameters, and says so."""
    async with engine.begin() as connection:
        with pytest.raises(DBAPIError, match="0 arguments"):
            await connection.exec_driver_sql("SELECT 1; SELECT $1", (1,))


@pytest.mark.parametrize("around", [1, MANY])
@pytest.mark.parametrize(
    ("bad", "error", "sqlstate", "position"),
    [
        ("SELECT missing", ProgrammingError, "42703", 8),
        ("SELECT 'ä', missing", ProgrammingError, "42703", 13),
        ("SELEKT 1", ProgrammingError, "42601", 1),
        ("INSERT INTO t VALUES (1)", IntegrityError, "23505", None),
        ("DO $$ BEGIN PERFORM 1/0; END $$", DBAPIError, "22012", None),
    ],
)
async def test_a_failure_names_its_statement(
    engine: AsyncEngine,
    ours: ScriptConnection,
    around: int,
    bad: str,
    error: type[Exception],
    sqlstate: str,
    position: int | None,
) -> None:
    """The error keeps its class and SQLSTATE, and the connection knows which statement it was, and where."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    script = "SELECT 'é'; -- c\n" * around + f"{bad};\n" + "SELECT 2;\n" * around
    with pytest.raises(error) as caught:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(script)
    assert isinstance(caught.value, DBAPIError)
    failure = failure_of(cause_of(caught.value))
    assert failure is not None
    assert getattr(cause_of(caught.value), "sqlstate", None) == sqlstate
    assert failure == (bad, position)
    assert not ours.is_in_transaction()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SELECT 1")


async def test_a_lock_timeout_among_many_is_not_waited_for_twice(
    engine: AsyncEngine, ours: ScriptConnection, database: str
) -> None:
    """What is of the moment (a lock, a cancellation) is reported as it is: nothing is run again."""
    other = await asyncpg.connect(database)
    await other.execute("CREATE TABLE t (id int)")
    await ours.execute("SET lock_timeout = '50ms'")
    script = "SELECT 1;" * MANY + "INSERT INTO t VALUES (1);" + "SELECT 1;" * MANY
    async with other.transaction():
        await other.execute("LOCK TABLE t")
        with pytest.raises(DBAPIError) as caught:
            async with engine.begin() as connection:
                await connection.exec_driver_sql(script)
    await other.close()
    assert isinstance(cause_of(caught.value), asyncpg.LockNotAvailableError)
    assert failure_of(cause_of(caught.value)) is None


async def test_a_cancellation_among_many_ends_them(engine: AsyncEngine, ours: ScriptConnection, database: str) -> None:
    """A script that an operator cancels is not run again."""
    await ours.execute("CREATE TABLE t (id int)")
    await ours.execute("SET statement_timeout = '200ms'")
    script = "SELECT 1;" * MANY + "INSERT INTO t VALUES (1); SELECT pg_sleep(0.3);" + "SELECT 1;" * MANY
    with pytest.raises(DBAPIError) as caught:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(script)
    assert isinstance(cause_of(caught.value), asyncpg.QueryCanceledError)
    assert failure_of(cause_of(caught.value)) is None
    assert await rows(ours, "SELECT * FROM t") == []


async def test_rows_of_a_copy_in_another_encoding(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """A session whose client_encoding is another is refused: its rows would be taken for something else."""
    await ours.execute("CREATE TABLE t (name text); SET client_encoding = 'LATIN1'")
    with pytest.raises(ScriptError, match="LATIN1"):
        async with engine.begin() as connection:
            await connection.exec_driver_sql("SELECT 1; COPY t FROM stdin;\nM\u00fcller\n\\.\n")


@pytest.mark.parametrize(
    "control", ["COMMIT", "ROLLBACK", "BEGIN", "END", "START TRANSACTION", "PREPARE TRANSACTION 'x'"]
)
async def test_transaction_control_in_a_script_is_refused(
    engine: AsyncEngine, ours: ScriptConnection, control: str
) -> None:
    """A script cannot end the transaction of its revision; nothing of it runs."""
    with pytest.raises(ScriptError, match=f"{control.split(maxsplit=1)[0]} in line 2"):
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"CREATE TABLE t ();\n{control};\nSELECT 1")
    assert await rows(ours, "SELECT to_regclass('t')") == [(None,)]


async def test_savepoints_in_a_script_are_allowed(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """A savepoint ends nothing, and works among many statements too."""
    filler = "INSERT INTO t VALUES (1);" * MANY
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            f"CREATE TABLE t (id int); SAVEPOINT a; {filler} ROLLBACK TO a; {filler} RELEASE a; SELECT 1"
        )
    assert await rows(ours, "SELECT count(*) FROM t") == [(MANY,)]


async def test_commit_by_itself_goes_to_the_server(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """The old trick, COMMIT and then a concurrent index, still works."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id int)")
        await connection.exec_driver_sql("COMMIT")
        await connection.exec_driver_sql("CREATE INDEX CONCURRENTLY i ON t (id)")
    assert await rows(ours, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == [(True,)]
    assert not ours.is_in_transaction()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("COPY t FROM stdin", "without its data"),
        ("SELECT 1;\nCOPY t FROM stdin;\n", "line 2 of the script FROM stdin comes without its data"),
        ("COPY t FROM stdin (ENCODING 'LATIN1');\n1\n\\.\n", "names an encoding"),
        ("COPY t TO stdout", "nowhere"),
        ("COPY (SELECT 1) TO stdout;", "nowhere"),
        ("SELECT 1;\n\\connect x\n", "connect in line 2"),
        ("\\i other.sql", "command of psql"),
    ],
)
async def test_what_would_hang_is_refused(engine: AsyncEngine, ours: ScriptConnection, script: str, cause: str) -> None:
    """What the connection would never come back from is refused at once, and the connection stays usable."""
    async with asyncio.timeout(10):
        for one in (engine, autocommit(engine)):
            with pytest.raises(ScriptError, match=cause):
                async with one.begin() as connection:
                    await connection.exec_driver_sql(script)
        assert await rows(ours, "SELECT 1") == [(1,)]


async def test_copy_data_of_every_kind(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """Text and CSV, nulls, column lists, odd names, no rows at all, more than one piece: all arrive."""
    long = "".join(f"{number}\té😀\\tx\n" for number in range(60_000))
    script = f"""
CREATE SCHEMA "S s"; CREATE TABLE "S s"."T""t" ("A" int, b text, c text DEFAULT 'd');
COPY "S s"."T""t" ("A", B) FROM stdin;
{long}\\.
COPY "S s"."T""t" FROM stdin;
\\.
COPY "S s"."T""t" FROM stdin WITH (FORMAT csv, HEADER, NULL 'nil', DELIMITER ';');
A;b;c
-1;"x;""y";nil
\\.
COPY "S s"."T""t" FROM stdin CSV;
-2,,
\\.
"""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(script)
    assert await rows(ours, 'SELECT count(*), min(b), min(c) FROM "S s"."T""t" WHERE "A" >= 0') == [
        (60_000, "é😀\tx", "d")
    ]
    assert await rows(ours, 'SELECT * FROM "S s"."T""t" WHERE "A" < 0 ORDER BY 1') == [
        (-2, None, None),
        (-1, 'x;"y', None),
    ]


async def test_copy_data_that_does_not_fit_is_the_copys_fault(engine: AsyncEngine, ours: ScriptConnection) -> None:
    """A bad row fails the COPY, by number, and leaves the connection in order."""
    with pytest.raises(DBAPIError) as caught:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\nx\n\\.\nSELECT 1;")
    failure = failure_of(cause_of(caught.value))
    assert failure is not None
    assert failure.statement == "COPY t FROM stdin"
    assert "line 2" in str(getattr(cause_of(caught.value), "context", ""))
    assert await rows(ours, "SELECT 1") == [(1,)]


async def test_outside_of_a_transaction_each_statement_is_on_its_own(
    engine: AsyncEngine, ours: ScriptConnection
) -> None:
    """In autocommit a script runs as psql runs it: what precedes a failure stays, transactions of its own hold."""
    async with autocommit(engine).connect() as connection:
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("CREATE TABLE a (); SELECT 1/0; CREATE TABLE b ()")
        await connection.exec_driver_sql(
            "CREATE TABLE c (id int); CREATE INDEX CONCURRENTLY i ON c (id); VACUUM c;"
            "BEGIN; CREATE TABLE d (); ROLLBACK; BEGIN; CREATE TABLE e (); COMMIT"
        )
    assert await rows(
        ours, "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    ) == [("a",), ("c",), ("e",), ("i",)]


async def test_a_transaction_that_a_script_leaves_open_is_rolled_back(
    engine: AsyncEngine, ours: ScriptConnection
) -> None:
    """A BEGIN without its end, or a failure after BEGIN, leaves no transaction behind that nobody knows of."""
    async with autocommit(engine).connect() as connection:
        with pytest.raises(ScriptError, match="does not end it"):
            await connection.exec_driver_sql("BEGIN; CREATE TABLE a ()")
        assert not ours.is_in_transaction()
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("BEGIN; CREATE TABLE a (); SELECT 1/0; COMMIT")
        assert not ours.is_in_transaction()
    assert await rows(ours, "SELECT to_regclass('a')") == [(None,)]


async def test_a_cancelled_script_stops_in_the_server(
    engine: AsyncEngine, ours: ScriptConnection, database: str
) -> None:
    """A cancelled script ends in the server too, and nothing of its transaction stays."""

    async def work() -> None:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE t (); SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    await under_way(database, "SELECT pg_sleep(60)")
    async with asyncio.timeout(10):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        busy = "select from pg_stat_activity where datname = current_database() and query like '%pg_sleep(60)'"
        await soon(lambda: not psql(database, f"{busy} and pid <> pg_backend_pid()"), "the end of the script")
    assert psql(database, "SELECT to_regclass('t')") == [(None,)]


async def test_no_lock_timeout_while_a_statement_of_a_script_builds_concurrently(
    engine: AsyncEngine, ours: ScriptConnection
) -> None:
    """Outside of a transaction it has no lock timeout; the session has its own again, even after a failure."""
    await ours.execute("SET lock_timeout = '5s'; CREATE TABLE seen (value text); CREATE TABLE t (id int)")
    note = "INSERT INTO seen VALUES (current_setting('lock_timeout'))"
    await ours.execute(
        "CREATE FUNCTION looked(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF current_setting('lock_timeout') <> '0' THEN RAISE 'it has a lock timeout'; END IF; RETURN $1; END $$;"
        " INSERT INTO t VALUES (1)"
    )
    async with autocommit(engine).connect() as connection:
        await connection.exec_driver_sql(f"{note}; CREATE INDEX CONCURRENTLY i ON t (looked(id)); {note}")
        assert await rows(ours, "TABLE seen") == [("5s",), ("5s",)]
        with pytest.raises(DBAPIError, match="division by zero"):
            await connection.exec_driver_sql(f"{note}; CREATE INDEX CONCURRENTLY j ON t ((1 / (id - 1)))")
    assert await rows(ours, "SHOW lock_timeout") == [("5s",)]


async def test_a_session_that_is_ended_while_it_is_asked(database: str) -> None:
    """Whatever the moment, it is a connection that is closed: asyncpg takes some of them for a bug of its own."""
    boss = await asyncpg.connect(database)
    for _ in range(60):
        session = await asyncpg.connect(database, connection_class=ScriptConnection)
        ending = asyncio.ensure_future(boss.execute(f"select pg_terminate_backend({session.get_server_pid()})"))
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await _ask_for_ever(session)
        await ending
        session.terminate()
    await boss.close()


async def _ask_for_ever(session: ScriptConnection) -> None:
    while True:
        await session.fetchval("select 1")
