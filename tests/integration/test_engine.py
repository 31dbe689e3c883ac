"""The connection layer that services share, on real servers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import headstart
from headstart.errors import ConfigurationError
from support.postgres import database_of, identifier, psql, script
from support.project import Project, recorded
from support.spellings import NASTY, spellings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from conftest import RunHeadstart, StartServer
    from support.postgres import Postgres

ROLE = "engine /@%"


@asynccontextmanager
async def engine(environ: Mapping[str, str], **options: Any) -> AsyncIterator[AsyncEngine]:
    """An engine that is disposed of."""
    made = headstart.engine_from(environ, **options)
    try:
        yield made
    finally:
        await made.dispose()


async def ask(connection: AsyncConnection, query: str) -> Any:
    """One value."""
    return (await connection.execute(sa.text(query))).scalar_one()


async def answer(environ: Mapping[str, str], query: str, **options: Any) -> Any:
    """One value, by an engine of its own."""
    async with engine(environ, **options) as made, made.connect() as connection:
        return await ask(connection, query)


@pytest.fixture
def role(any_server: Postgres) -> str:
    """A role whose name and password have to be quoted wherever they go."""
    if not psql(any_server.url(), "select from pg_roles where rolname = $1", ROLE):
        script(any_server.url(), f"create role {identifier(ROLE)} login password '{NASTY}'")
    return ROLE


# -- where it leads ---------------------------------------------------------------------------------------------------


async def test_every_spelling(any_server: Postgres, any_database: str, role: str) -> None:
    """Whatever spelling the address has, and however odd its password is, the engine reaches that database."""
    for url, variables in spellings([(any_server.host, any_server.port)], role, NASTY, database_of(any_database)):
        environ = variables | ({} if url is None else {"DATABASE_URL": url})
        reached = await answer(environ, "select current_user || ' ' || current_database()")
        assert reached == f"{role} {database_of(any_database)}", environ


async def test_a_file(any_database: str, tmp_path: Path) -> None:
    """DATABASE_URL_FILE names a file that holds the address."""
    path = tmp_path / "url"
    path.write_text(f"{any_database}\n", encoding="utf-8")
    assert await answer({"DATABASE_URL_FILE": str(path)}, "select current_database()") == database_of(any_database)


async def test_a_socket(any_server: Postgres, any_database: str) -> None:
    """A Unix socket is a host like another."""
    url = any_server.url(database_of(any_database), unix=True)
    assert await answer({"DATABASE_URL": url}, "select inet_server_addr() is null")


async def test_the_direct_address_is_for_migrations(any_database: str) -> None:
    """DATABASE_DIRECT_URL goes round a pooler for migrations: a service uses it only where there is no other."""
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    both = {"DATABASE_URL": any_database, "DATABASE_DIRECT_URL": nowhere}
    assert await answer(both, "select 1") == 1
    assert await answer({"DATABASE_DIRECT_URL": any_database}, "select 1") == 1


async def test_the_process_environment_has_no_say(any_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is given counts: PG* of the process do not."""
    monkeypatch.setenv("PGDATABASE", "nothing")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1234kB")
    query = "select current_database() || ' ' || current_setting('work_mem')"
    assert await answer({"DATABASE_URL": any_database}, query) == f"{database_of(any_database)} 4MB"


async def test_the_primary_of_several_hosts(any_database: str, any_server: Postgres, start_server: StartServer) -> None:
    """Of several hosts the one that takes writes is used, past one that is down and one that is read-only."""
    other = start_server(settings={"default_transaction_read_only": "on"})
    account = f"{any_server.superuser}:{quote(any_server.password, safe='')}"
    script(other.url(), f"set transaction read write; alter role {other.superuser} password '{any_server.password}'")
    at = f"127.0.0.1:1,{other.host}:{other.port},{any_server.host}:{any_server.port}"
    url = f"postgresql://{account}@{at}/postgres"
    assert await answer({"DATABASE_URL": url}, "select inet_server_port()") == any_server.port
    first = await answer({"DATABASE_URL": f"{url}?target_session_attrs=any"}, "select inet_server_port()")
    assert first == other.port


async def test_tls(start_server: StartServer) -> None:
    """`sslmode=verify-full` with a CA of its own is what the connection has; the wrong CA is refused."""
    server = start_server(tls=True)
    url = f"{server.url()}?sslmode=verify-full&sslrootcert={server.tls_ca}"
    assert await answer({"DATABASE_URL": url}, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    with pytest.raises(ConfigurationError, match="sslrootcert"):
        headstart.engine_from({"DATABASE_URL": f"{server.url()}?sslmode=verify-full&sslrootcert=/nothing"})


# -- what it is like --------------------------------------------------------------------------------------------------


async def test_nothing_is_connected_to_at_first() -> None:
    """Making an engine opens no connection, and its address shows no password."""
    async with engine({"DATABASE_URL": f"postgresql://me:{quote(NASTY, safe='')}@127.0.0.1:1/d"}) as made:
        shown = f"{made!r} {made.url.render_as_string(hide_password=False)} {vars(made.sync_engine)}"
        assert "postgresql+asyncpg://me@127.0.0.1:1/d" in shown
        assert NASTY not in shown
        assert quote(NASTY, safe="") not in shown
        with pytest.raises(OSError, match="Connect call failed"):
            await made.connect()


async def test_a_server_that_was_restarted(start_server: StartServer) -> None:
    """Connections that a restart has broken are replaced before a request sees them."""
    server = start_server()
    async with engine({"DATABASE_URL": server.url()}) as made:
        async with made.connect() as connection:
            first = await ask(connection, "select pg_backend_pid()")
        server.shut_down("immediate")
        server.start_up()
        async with made.connect() as connection:
            assert await ask(connection, "select pg_backend_pid()") != first


async def test_options(any_database: str) -> None:
    """Options are SQLAlchemy's, and connect_args asyncpg's: server_settings are added to those of the URL."""
    arguments = {"server_settings": {"work_mem": "1234kB"}, "command_timeout": 0.2}
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    url = f"{any_database}?application_name=signals"
    async with engine({"DATABASE_URL": url}, **pool, connect_args=arguments) as made, made.connect() as connection:
        assert await ask(connection, "show work_mem") == "1234kB"
        assert await ask(connection, "show application_name") == "signals"
        with pytest.raises(sa.exc.TimeoutError):
            await made.connect()
        with pytest.raises(TimeoutError):
            await ask(connection, "select pg_sleep(10)::text")


class Base(DeclarativeBase):
    """Of the one below."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


async def test_sessions(any_database: str) -> None:
    """A session's objects can be read after its commit; a session's options can be given."""
    script(any_database, "create table item (id int primary key generated always as identity, name text)")
    async with engine({"DATABASE_URL": any_database}) as made:
        async with headstart.session_factory(made)() as session, session.begin():
            item = Item(name="a")
            session.add(item)
        assert (item.id, item.name) == (1, "a")
        async with headstart.session_factory(made, expire_on_commit=True)() as session:
            other = await session.get_one(Item, 1)
            await session.commit()
            assert sa.inspect(other).expired
    assert psql(any_database, "select id, name from item") == [(1, "a")]


def test_problems() -> None:
    """What is wrong with the address is said at once, by its name; what is not about the address does not matter."""
    with pytest.raises(ConfigurationError) as caught:
        headstart.engine_from({"HEADSTART_NONSENSE": "x", "ALEMBIC_CONFIG": ""})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["DATABASE_URL"]
    with pytest.raises(ConfigurationError) as caught:
        headstart.engine_from({"DATABASE_URL": "mysql://me:secret@h/d"})
    assert "secret" not in str(caught.value)


# -- with Headstart itself --------------------------------------------------------------------------------------------

ENV = """
import asyncio
import os

import headstart
from alembic import context


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = headstart.engine_from(os.environ)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
"""


@pytest.mark.parametrize("hosts", ["one", "several", "socket"])
def test_an_env_py_that_uses_it(
    run_headstart: RunHeadstart, any_server: Postgres, any_database: str, tmp_path: Path, hosts: str
) -> None:
    """An env.py that makes its engine here works under Headstart, several statements at once included."""
    project = Project(tmp_path)
    project.env.write_text(ENV, encoding="utf-8")
    project.revision("a1", "create table a (id int); create table b (id int)")
    url = {
        "one": any_database,
        "several": any_database.replace(f"@{any_server.host}:", f"@127.0.0.1:1,{any_server.host}:"),
        "socket": any_server.url(database_of(any_database), unix=True),
    }[hosts]
    run = run_headstart("up", url=url, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 0, run
    assert {line["driver"] for line in run.events("env_connected")} == {"asyncpg"}
    assert recorded(any_database) == ["a1"]
