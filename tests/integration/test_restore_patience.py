"""CREATE and DROP DATABASE wait for the server's disk: slow is not silent, and silent is noticed."""

from __future__ import annotations

import asyncio
import io
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from acceptance.checks import Session
from headstart.backup.restoring import beside, patient
from headstart.backup.restoring.shape import Shape
from headstart.errors import RestoreFailedError
from headstart.log import logger
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.server import quote
from support.network import Proxy
from support.postgres import psql
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from support.postgres import Postgres

NUMBERS = itertools.count(1)
TEMPLATE = Shape(options="template template0")
USUAL = 1.0
"""Seconds that the connection has for any other statement."""


@pytest.fixture
def heard() -> io.StringIO:
    """What was logged."""
    return io.StringIO()


@pytest.fixture
def log(heard: io.StringIO) -> FilteringBoundLogger:
    """A log that the test reads."""
    return logger.build(heard, run_id="test", json=True, redact=str)


@pytest.fixture
def proxy(any_server: Postgres) -> Iterator[Proxy]:
    """The network to the server."""
    with Proxy(any_server.url()) as proxy:
        yield proxy


@pytest.fixture
def another(proxy: Proxy) -> Callable[[], Awaitable[ScriptConnection]]:
    """Opens a session whose statements have to be fast."""

    async def connect() -> ScriptConnection:
        found: ScriptConnection = await asyncpg.connect(
            proxy.url, command_timeout=USUAL, connection_class=ScriptConnection, statement_cache_size=0
        )
        return found

    return connect


@pytest.fixture
def partial(any_server: Postgres) -> Iterator[str]:
    """The name of a database that a restore makes, and drops if it is left."""
    name = beside.names(f"patience_{next(NUMBERS)}", datetime.now(UTC)).restoring
    yield name
    any_server.drop_database(name)


def live(name: str) -> str:
    """The database that it is made for."""
    return name.partition("_restoring_")[0]


async def release_late(server: Postgres, blocker: Session, statement: str) -> None:
    """End what holds the statement up, when that has waited for longer than the connection's usual time."""
    query = (
        "select 1 from pg_stat_activity where query like $1 and wait_event_type = 'Lock'"
        f" and clock_timestamp() - query_start > interval '{USUAL * 2} s'"
    )
    try:
        await asyncio.to_thread(eventually, lambda: psql(server.url(), query, f"{statement}%"), "the statement waiting")
    finally:
        await asyncio.to_thread(blocker.execute, "rollback")


async def test_a_slow_disk(
    any_server: Postgres,
    another: Callable[[], Awaitable[ScriptConnection]],
    partial: str,
    log: FilteringBoundLogger,
    heard: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database that takes long to create and to drop is created and dropped: the server still answers others."""
    monkeypatch.setattr(patient, "ASK_EVERY", 0.2)
    monkeypatch.setattr(patient, "DELIVERY", 0.0)
    conn = await another()
    with Session(any_server.url()) as blocker:
        blocker.execute("begin; comment on database template0 is 'busy'")
        async with asyncio.TaskGroup() as group:
            group.create_task(release_late(any_server, blocker, "create database"))
            await beside.create(conn, partial, TEMPLATE, another, there=False, log=log)
        blocker.execute(f"begin; comment on database {quote(partial)} is 'busy'")
        async with asyncio.TaskGroup() as group:
            group.create_task(release_late(any_server, blocker, "drop database"))
            await beside.sweep(conn, live(partial), another, log=log)
    assert '"event":"partial_database_dropped"' in heard.getvalue()
    assert psql(any_server.url(), "select 1 from pg_database where datname = $1", partial) == []
    await conn.close()


async def test_too_slow(
    any_server: Postgres,
    another: Callable[[], Awaitable[ScriptConnection]],
    partial: str,
    log: FilteringBoundLogger,
    heard: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the limit a restore has failed and says why; what is left of an earlier one stays, and the session with it."""
    monkeypatch.setattr(patient, "LIMIT", 0.5)
    conn = await another()
    with Session(any_server.url()) as blocker:
        blocker.execute("begin; comment on database template0 is 'busy'")
        with pytest.raises(RestoreFailedError, match=r"could not be created: the server has not done it within"):
            await beside.create(conn, partial, TEMPLATE, another, there=False, log=log)
        assert await conn.fetchval("select 1") == 1  # once the statement is cancelled
        blocker.execute("rollback")
        any_server.create_database(partial)
        blocker.execute(f"begin; comment on database {quote(partial)} is 'busy'")
        await beside.sweep(conn, live(partial), another, log=log)
        await beside.discard(conn, partial, another, log=log)
    kept = [line for line in heard.getvalue().splitlines() if '"event":"partial_database_kept"' in line]
    assert len(kept) == 2
    assert all("the server has not done it within" in line for line in kept)
    assert await conn.fetchval("select 1") == 1
    await conn.close()


async def test_a_silent_server(
    any_server: Postgres,
    another: Callable[[], Awaitable[ScriptConnection]],
    proxy: Proxy,
    partial: str,
    log: FilteringBoundLogger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that answers nobody is gone, long before the statement's own limit."""
    for name in ("ASK_EVERY", "ANSWER", "DELIVERY"):
        monkeypatch.setattr(patient, name, 0.2)
    conn = await another()
    with Session(any_server.url()) as blocker:
        blocker.execute("begin; comment on database template0 is 'busy'")
        proxy.hang()
        async with asyncio.timeout(20):
            with pytest.raises(RestoreFailedError, match=r"could not be created: connection was closed"):
                await beside.create(conn, partial, TEMPLATE, another, there=False, log=log)
    assert conn.is_closed()
