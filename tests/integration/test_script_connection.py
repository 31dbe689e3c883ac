from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from headstart.embedded import installations
from headstart.script_connection import ScriptConnection
from headstart.script_run import ONE_BY_ONE
from headstart.sqlscript import ScriptError
from support.postgres import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from headstart.embedded import Installation
    from support.postgres import Postgres

MANY = ONE_BY_ONE + 50
CLIENTS = installations()


@pytest.fixture(params=[0, 100], ids=["uncached", "cached"])
async def ours(database: str, request: pytest.FixtureRequest) -> AsyncIterator[ScriptConnection]:
    """A lent connection to the test's database, with and without asyncpg's cache of statements."""
    connection = await asyncpg.connect(database, connection_class=ScriptConnection, statement_cache_size=request.param)
    connection.lent = True
    yield connection
    await connection.shut(5)


@asynccontextmanager
async def engine_of(ours: ScriptConnection, *, autocommit: bool = False) -> AsyncIterator[AsyncConnection]:
    """What a user's env.py makes of it: a connection of SQLAlchemy's, in a transaction or in autocommit."""

    async def lend() -> ScriptConnection:
        ours.lent = True
        return ours

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lend, poolclass=NullPool)
    try:
        if autocommit:
            async with engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")
        else:
            async with engine.begin() as connection:
                yield connection
    finally:
        await engine.dispose()


async def rows(ours: ScriptConnection, query: str) -> list[tuple[Any, ...]]:
    """Rows by asyncpg itself."""
    return [tuple(row) for row in await ours.fetch(query)]


async def test_several_statements_run_in_the_transaction(ours: ScriptConnection) -> None:
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
    with pytest.raises(RuntimeError):
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql(script)
            raise RuntimeError
    assert await rows(ours, "SELECT to_regclass('t')") == [(None,)]
    async with engine_of(ours) as connection:
        result = await connection.exec_driver_sql(script)
        assert not result.returns_rows
    assert await rows(ours, "SELECT * FROM t ORDER BY id") == [(1, "a;b"), (2, "x;"), (3, None)]


@pytest.mark.parametrize("nothing", ["", "-- nothing", "/* nothing */;", ";", "\\restrict x\n\\unrestrict x\n"])
async def test_an_empty_script_does_nothing(ours: ScriptConnection, nothing: str) -> None:
    """A text without a statement succeeds."""
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql(nothing)


async def test_single_statements_behave_as_they_do_with_asyncpg(ours: ScriptConnection) -> None:
    """Row counts, parameters, rows and repeated texts are what SQLAlchemy's dialect promises."""
    async with engine_of(ours) as connection:
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


async def test_parameters_with_a_script_are_refused(ours: ScriptConnection) -> None:
    """A script takes no parameters, and says so."""
    async with engine_of(ours) as connection:
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
    ours: ScriptConnection, around: int, bad: str, error: type[Exception], sqlstate: str, position: int | None
) -> None:
    """The error keeps its class and SQLSTATE, and the connection knows which statement of how many it was, and where."""
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    script = "SELECT 'é'; -- c\n" * around + f"{bad};\n" + "SELECT 2;\n" * around
    with pytest.raises(error) as caught:
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql(script)
    assert isinstance(caught.value, DBAPIError)
    failure = ours.last_error
    assert failure is not None
    assert failure.error is caught.value.orig.__cause__  # type: ignore[union-attr]
    assert failure.error.sqlstate == sqlstate  # type: ignore[attr-defined]
    assert (failure.statement, failure.index, failure.count) == (bad, around + 1, 2 * around + 1)
    assert (failure.line, failure.position, failure.exact) == (around + 1, position, True)
    assert not ours.is_in_transaction()
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql("SELECT 1")
    assert ours.last_error is None


async def test_a_failure_of_a_single_statement_is_known_too(ours: ScriptConnection) -> None:
    """`last_error` is set for statements that are prepared, and for those that are not."""
    for bad in ("SELECT 1/0", "SELECT missing", "DROP TABLE missing"):
        with pytest.raises(DBAPIError) as caught:
            async with engine_of(ours) as connection:
                await connection.exec_driver_sql(bad)
        assert ours.last_error is not None
        assert ours.last_error.statement == bad
        assert ours.last_error.error is caught.value.orig.__cause__  # type: ignore[union-attr]


async def test_what_is_of_the_moment_is_not_tried_again(ours: ScriptConnection, database: str) -> None:
    """A lock timeout among many statements is reported with the stretch in which it happened."""
    other = await asyncpg.connect(database)
    await other.execute("CREATE TABLE t (id int)")
    async with other.transaction():
        await other.execute("LOCK TABLE t")
        with pytest.raises(DBAPIError) as caught:
            async with engine_of(ours) as connection:
                script = "SELECT 1;" * MANY + "INSERT INTO t VALUES (1);" + "SELECT 1;" * MANY
                await connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
                await connection.exec_driver_sql(script)
    await other.close()
    assert isinstance(caught.value.orig.__cause__, asyncpg.LockNotAvailableError)  # type: ignore[union-attr]
    assert ours.last_error is not None
    if ours.last_error.exact:  # the server points to the table's name
        assert ours.last_error.index == MANY + 1
    else:
        assert ours.last_error.index <= MANY + 1 <= ours.last_error.last


@pytest.mark.parametrize(
    "control", ["COMMIT", "ROLLBACK", "BEGIN", "END", "START TRANSACTION", "PREPARE TRANSACTION 'x'"]
)
async def test_transaction_control_in_a_script_is_refused(ours: ScriptConnection, control: str) -> None:
    """A script cannot end the transaction of its revision; nothing of it runs."""
    with pytest.raises(ScriptError, match=f"{control.split()[0]} in line 2"):
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql(f"CREATE TABLE t ();\n{control};\nSELECT 1")
    assert await rows(ours, "SELECT to_regclass('t')") == [(None,)]


async def test_savepoints_in_a_script_are_allowed(ours: ScriptConnection) -> None:
    """A savepoint ends nothing, and works among many statements too."""
    filler = "INSERT INTO t VALUES (1);" * MANY
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql(
            f"CREATE TABLE t (id int); SAVEPOINT a; {filler} ROLLBACK TO a; {filler} RELEASE a; INSERT INTO t VALUES (2)"
        )
    assert await rows(ours, "SELECT count(*) FROM t") == [(MANY + 1,)]


async def test_commit_by_itself_goes_to_the_server(ours: ScriptConnection) -> None:
    """The old trick, COMMIT and then a concurrent index, still works."""
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql("CREATE TABLE t (id int)")
        await connection.exec_driver_sql("COMMIT")
        await connection.exec_driver_sql("CREATE INDEX CONCURRENTLY i ON t (id)")
    assert await rows(ours, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == [(True,)]
    assert not ours.is_in_transaction()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("COPY t FROM stdin", "without its data"),
        ("SELECT 1;\nCOPY t FROM stdin;\n", "line 2 of the script comes without its data"),
        ("COPY t TO stdout", "nowhere"),
        ("COPY (SELECT 1) TO stdout;", "nowhere"),
        ("SELECT 1;\n\\connect x\n", "connect in line 2"),
        ("\\i other.sql", "command of psql"),
    ],
)
async def test_what_would_hang_is_refused(ours: ScriptConnection, script: str, cause: str) -> None:
    """What the connection would never come back from is refused at once, and the connection stays usable."""
    async with asyncio.timeout(10):
        for autocommit in (False, True):
            with pytest.raises(ScriptError, match=cause):
                async with engine_of(ours, autocommit=autocommit) as connection:
                    await connection.exec_driver_sql(script)
        assert await rows(ours, "SELECT 1") == [(1,)]


async def test_copy_data_of_every_kind(ours: ScriptConnection) -> None:
    """Text and CSV, nulls, column lists, odd names, no rows at all, more than one piece: all arrive."""
    long = "".join(f"{number}\té😀\\tx\n" for number in range(60_000))
    async with engine_of(ours) as connection:
        await connection.exec_driver_sql(
            'CREATE SCHEMA "S s"; CREATE TABLE "S s"."T""t" ("A" int, b text, c text DEFAULT \'d\');\n'
            'COPY "S s"."T""t" ("A", B) FROM stdin;\n' + long + "\\.\n" 'COPY "S s"."T""t" FROM
            stdin;\n\\.\n' 'COPY "S s"."T""t" FROM stdin WITH (FORMAT csv, HEADER, NULL \'nil\', DELIMITER
            \';\');\nA;b;c\n-1;"x;""y";nil\n\\.\n' 'COPY "S s"."T""t" FROM stdin CSV;\n-2,,\n\\.\n'
        )
    assert await rows(ours, 'SELECT count(*), min(b), min(c) FROM "S s"."T""t" WHERE "A" >= 0') == [
        (60_000, "é😀\tx", "d")
    ]
    assert await rows(ours, 'SELECT * FROM "S s"."T""t" WHERE "A" < 0 ORDER BY 1') == [
        (-2, None, None),
        (-1, 'x;"y', None),
    ]


async def test_copy_data_that_does_not_fit_is_the_copys_fault(ours: ScriptConnection) -> None:
    """A bad row fails the COPY, by number, and leaves the connection in order."""
    with pytest.raises(DBAPIError):
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql("CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\nx\n\\.\nSELECT 1;")
    assert ours.last_error is not None
    assert (ours.last_error.index, ours.last_error.statement) == (2, "COPY t FROM stdin")
    assert "line 2" in ours.last_error.error.context  # type: ignore[attr-defined]
    assert await rows(ours, "SELECT 1") == [(1,)]


async def test_outside_of_a_transaction_each_statement_is_on_its_own(ours: ScriptConnection) -> None:
    """In autocommit a script runs as psql runs it: what precedes a failure stays, transactions of its own hold."""
    async with engine_of(ours, autocommit=True) as connection:
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("CREATE TABLE a (); SELECT 1/0; CREATE TABLE b ()")
        await connection.exec_driver_sql(
            "CREATE TABLE c (id int); CREATE INDEX CONCURRENTLY i ON c (id); VACUUM c;"
            "BEGIN; CREATE TABLE d (); ROLLBACK; BEGIN; CREATE TABLE e (); COMMIT"
        )
    assert await rows(
        ours, "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    ) == [("a",), ("c",), ("e",), ("i",)]
    assert ours.last_error is None


async def test_a_transaction_that_a_script_leaves_open_is_rolled_back(ours: ScriptConnection) -> None:
    """A BEGIN without its end, or a failure after BEGIN, leaves no transaction behind that nobody knows of."""
    async with engine_of(ours, autocommit=True) as connection:
        with pytest.raises(ScriptError, match="does not end it"):
            await connection.exec_driver_sql("BEGIN; CREATE TABLE a ()")
        assert not ours.is_in_transaction()
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("BEGIN; CREATE TABLE a (); SELECT 1/0; COMMIT")
        assert not ours.is_in_transaction()
    assert await rows(ours, "SELECT to_regclass('a')") == [(None,)]


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


async def test_cancelling_a_script_leaves_the_connection_usable(ours: ScriptConnection) -> None:
    """A cancelled script stops in the server, and its transaction can be rolled back."""

    async def work() -> None:
        async with engine_of(ours) as connection:
            await connection.exec_driver_sql("CREATE TABLE t (); SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    async with asyncio.timeout(10):
        while ours.progress != (2, 2):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ours.is_in_transaction()
        assert ours.progress is None
        assert await rows(ours, "SELECT to_regclass('t')") == [(None,)]


SOURCE = r"""
CREATE TYPE mood AS ENUM ('sad', 'it''s; fine', 'C:\');
CREATE DOMAIN positive AS numeric(12, 4) CHECK (VALUE > 0);
CREATE SCHEMA "Odd; name";
CREATE TABLE company (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol text NOT NULL UNIQUE CHECK (symbol <> ';'),
    mood mood DEFAULT 'sad',
    about jsonb DEFAULT '{"a": "\\;"}',
    raw bytea,
    tags text[] DEFAULT ARRAY['a;b', 'c''d'],
    spelled text GENERATED ALWAYS AS (upper(symbol)) STORED
);
COMMENT ON TABLE company IS E'Several lines;\nCOPY company FROM stdin;\n\\.\n-- it''s /* all */ $$text$$';
CREATE TABLE price (company bigint REFERENCES company, day date, close positive, PRIMARY KEY (company, day))
    PARTITION BY RANGE (day);
CREATE TABLE price_2024 PARTITION OF price FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); CREATE TABLE "Odd;
name"."Ta""ble" ("Column; x" text, "order" int DEFAULT 1); CREATE INDEX ON company (lower(symbol)) WHERE mood <>
'sad'; CREATE VIEW latest AS SELECT c.symbol, CASE WHEN p.close > 1 THEN ';' END AS "end" FROM company c LEFT JOIN
price p ON p.company = c.id; CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS number, ';' AS note FROM price;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN COPY company FROM stdin;
  IF NEW.symbol = $$a;b$$ THEN RAISE NOTICE 'x;'; END IF;
  RETURN NEW;
END; $body$;
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a * 2;
CREATE FUNCTION named(a int, OUT b text) RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN a > 1 THEN 'many;' ELSE (CASE WHEN true THEN 'END' END) END;
    SELECT symbol AS "case" FROM company WHERE id = a;
END; CREATE PROCEDURE tidy(a text) LANGUAGE sql BEGIN ATOMIC DELETE FROM price WHERE close > 5; DELETE FROM company
WHERE symbol = a; END; CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON company FOR EACH ROW WHEN (NEW.symbol = 'a;b')
EXECUTE FUNCTION touched(); CREATE RULE keep AS ON DELETE TO "Odd; name"."Ta""ble" DO INSTEAD (SELECT 1; UPDATE
company SET symbol = ';' WHERE false); ALTER TABLE company ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON company
USING (symbol <> 'a;b'); CREATE SEQUENCE loose START 42; CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int,
INITCOND = '0'); INSERT INTO company (symbol, mood, raw) SELECT 'S' || n || E';\t\n\\.\n''$$é', 'C:\', '\x5c2e0a' FROM
generate_series(1, 400) n; INSERT INTO company (symbol, mood) VALUES ('COPY x FROM stdin;', NULL); INSERT INTO price
SELECT id, '2024-02-01', id FROM company; INSERT INTO "Odd; name"."Ta""ble" VALUES (NULL, 2), (E'\\N', 3), (E'\\.',
4), ('', 5); REFRESH MATERIALIZED VIEW summary; SELECT setval('loose', 77);
"""


def dump(client: Installation, url: str, *options: str) -> str:
    """The output of pg_dump."""
    done = subprocess.run(
        [client.bindir / "pg_dump", "--no-owner", "--no-privileges", *options, url],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def comparable(schema: str) -> str:
    """A dump without what differs from one run or server to the next."""
    return "\n".join(line for line in schema.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict")))


@pytest.mark.parametrize(
    "options", [(), ("--inserts",), ("--inserts", "--rows-per-insert=50", "--quote-all-identifiers")]
)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: f"client{one.major}")
@pytest.mark.parametrize("target", CLIENTS, ids=lambda one: f"into{one.major}")
async def test_a_whole_pg_dump_file_is_replayed(
    database: str,
    server: Postgres,
    shared_servers: Callable[[Installation], Postgres],
    client: Installation,
    target: Installation,
    options: tuple[str, ...],
) -> None:
    """What pg_dump wrote, of any version and in either form, becomes the same schema and the same rows again."""
    if client.major < server.major:
        pytest.skip("pg_dump refuses a server newer than itself")
    if target.major < server.major:
        pytest.skip("a server is not promised to read the dump of a newer one")
    script(database, SOURCE)
    text_of_dump = dump(client, database, *options)
    other = shared_servers(target)
    url = other.create_database()
    connection = await asyncpg.connect(url, connection_class=ScriptConnection, statement_cache_size=0)
    connection.lent = True
    async with engine_of(connection) as engine:
        await engine.exec_driver_sql(text_of_dump)
    newest = max(CLIENTS, key=lambda one: one.major)
    for what in (("--schema-only",), ("--data-only", "--inserts")):
        assert comparable(dump(newest, url, *what)) == comparable(dump(newest, database, *what))
    await connection.shut(5)
    other.drop_database(url)
