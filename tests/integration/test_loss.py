"""Whose failure it is, by what three drivers say of it: the server's and the connection's, or the statement's."""

from __future__ import annotations

import asyncio
import os
import threading
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from acceptance.test_exit_codes_backup import tmpfs
from headstart.worker.failure import sqlstate_of
from headstart.worker.loss import is_chosen, is_lost
from support.postgres import psql, script
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import StartServer
    from support.postgres import Postgres

pytestmark = pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])

RAISED = ("53100", "53200", "57P01", "57014", "08006", "25P03", "58030", "XX001", "40001", "40P01", "55P03")
OF_THE_STATEMENT = {
    **{f"raise {code}": (f"do $$ begin raise 'no' using errcode = '{code}'; end $$",) for code in RAISED},
    "raised in a function": (
        "create function pg_temp.f() returns int language plpgsql as $$ begin raise using errcode = '53100'; end $$",
        "select pg_temp.f()",
    ),
    "a file of COPY": ("copy pg_class from '/nope'",),
    "a file that is read": ("select pg_read_file('/nope')",),
    "a library": ("create function pg_temp.f() returns int language c as '$libdir/nope', 'f'",),
    "an extension": ("create extension nope",),
    "a setting": ("set work_mem = '1B'",),
    "a tablespace": ("create temp table big () tablespace nope",),
    "temp_file_limit": (
        "set temp_file_limit = '100kB'",
        "set work_mem = '64kB'",
        "select count(*) from (select i from generate_series(1, 200000) i order by i desc) many",
    ),
    "locks": ("do $$ begin for i in 1..20000 loop execute 'create temp table t' || i || ' ()'; end loop; end $$",),
    "a timeout": ("set statement_timeout = '50ms'", "select pg_sleep(20)"),
    "a timeout that is spoken of": ("set statement_timeout = '50ms'", "select pg_sleep(20), 'user request'"),
}
ITSELF = {
    "its session": ("select pg_terminate_backend(pg_backend_pid())",),
    "in a function": (
        "create function pg_temp.f() returns bool language sql as 'select pg_terminate_backend(pg_backend_pid())'",
        "select pg_temp.f()",
    ),
    "its statement": ("select pg_cancel_backend(pg_backend_pid()), pg_sleep(20)",),
    "idle in a transaction": ("set local idle_in_transaction_session_timeout = '50ms'", None, "select 1"),
}


@pytest.mark.parametrize("name", OF_THE_STATEMENT)
def test_of_the_statement(any_server: Postgres, driver: str, name: str) -> None:
    """What a statement brings about in a session that lives on is its failure, whatever the class of the SQLSTATE."""
    error = raised(any_server.url(), driver, OF_THE_STATEMENT[name])
    assert not is_lost(error, statement_timeout=0), repr(error)
    assert is_chosen(error) is name.startswith("raise")


@pytest.mark.parametrize("name", ITSELF)
def test_of_itself(any_server: Postgres, driver: str, name: str) -> None:
    """Who ends a session or cancels a statement is not told by the server: it is the same as of an administrator."""
    error = raised(any_server.url(), driver, ITSELF[name])
    assert is_lost(error, statement_timeout=0), repr(error)
    assert not is_chosen(error)


@pytest.mark.parametrize("by", ["cancel", "terminate"])
@pytest.mark.parametrize("timeout", [0, 30], ids=["no timeout", "a timeout"])
def test_of_somebody_else(any_database: str, driver: str, by: str, timeout: float) -> None:
    """A statement that an administrator cancels, or whose session he ends, has not failed by itself."""
    ends = f"select pg_{by}_backend(pid) from pg_stat_activity where query = 'select pg_sleep(60)'"
    here = f"{ends} and datname = current_database()"

    def end() -> None:
        eventually(lambda: psql(any_database, here) == [(True,)], "the statement is at work")

    somebody = threading.Thread(target=end)
    somebody.start()
    error = raised(any_database, driver, ["select pg_sleep(60)"])
    somebody.join()
    assert is_lost(error, statement_timeout=timeout)
    assert not is_chosen(error)


def test_of_a_server_that_is_stopped(start_server: StartServer, driver: str) -> None:
    """A session that ends between two statements has not been ended by the revision."""
    server = start_server()
    error = raised(server.url(), driver, ["select 1", None, "select 1"], meanwhile=server)
    assert is_lost(error, statement_timeout=0)


def test_of_a_full_disk(any_server: Postgres, driver: str) -> None:
    """A disk that is full is the server's, whatever fills it."""
    with tmpfs(any_server.data_dir.parent / f"disk-{driver}", "size=2m,mode=0700") as disk:
        owner = any_server.data_dir.stat()
        os.chown(disk, owner.st_uid, owner.st_gid)
        script(any_server.url(), f"create tablespace small location '{disk}'")
        try:
            fills = "create table filling tablespace small as select repeat('x', 1000) from generate_series(1, 9999)"
            error = raised(any_server.url(), driver, [fills])
        finally:
            script(any_server.url(), "drop tablespace small")
    assert sqlstate_of(error) == "53100"
    assert is_lost(error, statement_timeout=0)
    assert not is_chosen(error)


def test_of_a_web_service(driver: str) -> None:
    """A connection that is not the database's may break: the revision that has asked there has failed."""
    assert not is_lost(RemoteDisconnected("Remote end closed connection without response"), statement_timeout=0)
    assert driver


def raised(
    url: str, driver: str, statements: Sequence[str | None], *, meanwhile: Postgres | None = None
) -> BaseException:
    """What a driver raises of statements; None is a wait until the session has ended."""
    address = url.replace("postgresql:", f"postgresql+{driver}:", 1)

    def execute(connection: Connection) -> None:
        pid = connection.exec_driver_sql("select pg_backend_pid()").scalar()
        for each in statements:
            if each is not None:
                connection.exec_driver_sql(each)
            elif meanwhile is not None:
                meanwhile.shut_down()
            else:
                eventually(lambda: psql(url, "select from pg_stat_activity where pid = $1", pid) == [], "it is gone")

    async def execute_there() -> None:
        async with create_async_engine(address, poolclass=NullPool).connect() as connection:
            await connection.run_sync(execute)

    def execute_here() -> None:
        if driver == "asyncpg":
            return asyncio.run(execute_there())
        with create_engine(address, poolclass=NullPool).connect() as connection:
            return execute(connection)

    with pytest.raises(DBAPIError) as caught:
        execute_here()
    return caught.value
