"""Scratch databases: on a server of our own, or on a given one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import pytest

from acceptance.checks import make_role, with_password
from headstart.errors import ConfigurationError
from headstart.log import logger as logs
from headstart.postgres.scratch import PREFIX, scratch_server
from headstart.settings.dsn import Dsn
from headstart.settings.machine import settings_from
from support.postgres import psql

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.settings.settings import Settings
    from support.postgres import Postgres


@pytest.fixture
def heard() -> io.StringIO:
    """What is logged."""
    return io.StringIO()


@pytest.fixture
def log(heard: io.StringIO) -> FilteringBoundLogger:
    """A log that goes there."""
    return logs.build(heard, json=True, run_id="test", redact=str)


def settings(**environ: str) -> Settings:
    """Settings without a database."""
    return settings_from(environ, require_database=False)


async def ask(dsn: Dsn, query: str) -> object:
    """One value."""
    connection = await connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def connect(dsn: Dsn) -> asyncpg.Connection:
    """A connection of asyncpg's."""
    arguments: dict[str, Any] = dsn.asyncpg()
    connection: asyncpg.Connection = await asyncpg.connect(**arguments)
    return connection


async def test_a_server_of_our_own(log: FilteringBoundLogger, heard: io.StringIO) -> None:
    """Without a given server one is started, and is gone afterwards; nothing is logged."""
    async with scratch_server(settings(), log=log) as server, server.database() as dsn:
        assert await ask(dsn, "show server_version") == server.version
        assert await ask(dsn, "show server_encoding") == "UTF8"
        assert await ask(dsn, "select count(*) from pg_class where relnamespace = 'public'::regnamespace") == 0
    with pytest.raises(ConnectionRefusedError):
        await ask(dsn, "select 1")
    assert heard.getvalue() == ""


async def test_of_a_certain_version(server: Postgres, log: FilteringBoundLogger) -> None:
    """It is of the major version that is asked for."""
    async with scratch_server(settings(), major=server.major, log=log) as scratch:
        assert scratch.major == server.major


async def test_a_version_that_is_not_installed(log: FilteringBoundLogger, heard: io.StringIO) -> None:
    """Where that version is not to be had the newest is taken, and the log says so."""
    async with scratch_server(settings(), major=13, log=log) as scratch:
        assert scratch.major != 13
    assert '"event":"scratch_server_version"' in heard.getvalue()


async def test_a_given_server(any_server: Postgres, log: FilteringBoundLogger) -> None:
    """On a given server each database is new, and dropped at the end although somebody is still connected."""
    given = settings(HEADSTART_SCRATCH_URL=any_server.url())
    async with scratch_server(given, log=log) as scratch:
        async with scratch.database() as one, scratch.database() as other:
            assert one.database != other.database
            lingering = await connect(one)
            await lingering.execute("create table t (id int)")
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await ask(one, "select 1")
        lingering.terminate()
    assert psql(any_server.url(), f"select count(*) from pg_database where starts_with(datname, '{PREFIX}')") == [(0,)]


async def test_what_a_killed_process_left(any_server: Postgres, log: FilteringBoundLogger) -> None:
    """A scratch database whose maker is gone is dropped by the next who works there; that of a living one stays."""
    url = any_server.url()
    maker: asyncpg.Connection = await asyncpg.connect(url)
    left, kept = f"{PREFIX}2147483647_ab", f"{PREFIX}{maker.get_server_pid()}_ab"
    for name in (left, kept):
        await maker.execute(f"create database {name}")
    there = f"select array_agg(datname::text) from pg_database where starts_with(datname, '{PREFIX}')"
    async with scratch_server(settings(HEADSTART_SCRATCH_URL=url), log=log):
        assert await maker.fetchval(there) == [kept]
    await maker.close()
    async with scratch_server(settings(HEADSTART_SCRATCH_URL=url), log=log) as scratch, scratch.database() as dsn:
        assert await ask(dsn, there) == [dsn.database]


async def test_a_copy(any_server: Postgres, log: FilteringBoundLogger) -> None:
    """A template is copied with its data."""
    given = settings(HEADSTART_SCRATCH_URL=any_server.url())
    async with scratch_server(given, log=log) as scratch, scratch.database() as template:
        connection = await connect(template)
        await connection.execute("create table t as select 7 as id")
        await connection.close()
        async with scratch.database(template) as copy:
            assert await ask(copy, "select id from t") == 7


async def test_a_role_that_may_not(any_server: Postgres, log: FilteringBoundLogger) -> None:
    """A role without CREATEDB is refused with the privilege that it lacks, and its password is a secret."""
    make_role(any_server, "no_createdb", "a scratch secret")
    given = settings(HEADSTART_SCRATCH_URL=with_password(any_server.url(), "a scratch secret", user="no_createdb"))
    assert "a scratch secret" in given.secrets()
    async with scratch_server(given, log=log) as scratch:
        with pytest.raises(ConfigurationError, match="permission denied") as refused:
            async with scratch.database():
                pass
    assert "CREATEDB" in refused.value.hint


@pytest.mark.parametrize("wrong", ["mysql://a/b", "postgresql://a:secretive@[b/c"])
def test_a_wrong_url(wrong: str) -> None:
    """A URL that cannot be used is told by the variable's name, without its password."""
    with pytest.raises(ConfigurationError) as refused:
        settings(HEADSTART_SCRATCH_URL=wrong)
    assert "HEADSTART_SCRATCH_URL" in refused.value.message
    assert "secretive" not in refused.value.message


def test_from_a_file(tmp_path: Path) -> None:
    """The URL may stand in a file; PG* variables, which speak of the database that matters, do not complete it."""
    file = tmp_path / "url"
    file.write_text("postgresql://scratch:word@host/maintenance\n", encoding="utf-8")
    given = settings(HEADSTART_SCRATCH_URL_FILE=str(file), PGPORT="6543", PGPASSWORD="other")
    assert given.scratch is not None
    assert given.scratch.hosts == (("host", 5432),)
    assert msgspec.structs.asdict(given)["scratch"].secrets() == ("word",)
