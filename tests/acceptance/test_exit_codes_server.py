"""Exit codes of a server that is not there, refuses, does not suit, or is at work: 20, 21, 22, 30."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from acceptance.checks import Session, ended, make_role, with_password
from headstart.postgres.lock import GATE
from support.postgres import identifier, psql, script
from support.project import fingerprint, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

PASSWORD = "correct horse battery"


@pytest.fixture
def project(project: Project) -> Project:
    """A project with something to do."""
    project.revision("a1", "create table a (id int)")
    return project


# -- 20: not ready ----------------------------------------------------------------------------------------------------


def test_20_nothing_listens(project: Project, headstart: Callable[..., Run]) -> None:
    """A port that nobody listens on is tried again until the time is up; the same cause is not said each time."""
    url = f"postgresql://app:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{_free_port()}/app"
    run = headstart("up", url=url, env={"HEADSTART_WAIT_TIMEOUT": "1500ms"})
    last = ended(run, 20, secrets=[PASSWORD])
    assert last["outcome"] == "not_ready"
    [line] = run.events("server_not_ready")
    assert line["attempt"] == 1
    assert line["left_seconds"] <= 1.5
    assert re.search(r"after ([2-9]|\d\d+) attempts", last["error"])
    assert "HEADSTART_WAIT_TIMEOUT" in last["hint"]
    assert run.seconds < 10


def test_20_asked_once(project: Project, headstart: Callable[..., Run]) -> None:
    """With a timeout of 0 there is one attempt, and no second."""
    run = headstart("up", url="postgresql://app@127.0.0.1:1/app", env={"HEADSTART_WAIT_TIMEOUT": "0"})
    assert "after 1 attempt" in ended(run, 20)["error"]
    assert len(run.events("server_not_ready")) == 1


def test_20_name_not_known(project: Project, headstart: Callable[..., Run]) -> None:
    """A host name that nobody knows may yet come: it is tried again until the time is up."""
    run = headstart("up", url="postgresql://app@no-such-host.invalid/app", env={"HEADSTART_WAIT_TIMEOUT": "1"})
    assert "no-such-host.invalid" in ended(run, 20)["error"]


def test_20_stays_in_start_up(project: Project, headstart: Callable[..., Run], start_server: StartServer) -> None:
    """A server that answers, but only that it is starting up, is waited for until the time is up."""
    server = start_server(settings={"hot_standby": "off"})
    server.become_standby()
    run = headstart("up", url=server.url(), env={"HEADSTART_WAIT_TIMEOUT": "1s"})
    last = ended(run, 20, secrets=[server.password])
    assert last["sqlstate"] == "57P03"
    assert {line["sqlstate"] for line in run.events("server_not_ready")} == {"57P03"}


def test_20_wait_for_head(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """`wait --for head` that runs out of time says what is pending, and takes no lock and writes nothing."""
    before = fingerprint(any_database)
    with Session(any_database) as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        last = ended(headstart("wait", "--for", "head", "--wait-timeout", "1s", url=any_database), 20)
    assert "a1" in last["pending"]
    assert f"{len(last['pending'])} revision pending" in last["error"]
    assert fingerprint(any_database) == before


ENDED = "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ '^headstart'"


def test_lost_while_waiting_for_the_lock(
    project: Project, begin_headstart: Callable[..., Headstart], any_database: str
) -> None:
    """A session that is ended while it waits is made anew, and the run goes on waiting."""
    with Session(any_database) as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        process = begin_headstart("up", url=any_database)
        first = process.wait_for("lock_waiting")
        psql(any_database, ENDED)
        process.wait_for("server_lost")
        process.wait_for("lock_waiting", lambda line: line["left_seconds"] < first["left_seconds"])
        psql(any_database, ENDED)
        somebody.execute(f"select pg_advisory_unlock({GATE})")
        last = ended(process.finish(), 0)
    assert last["revision_after"] == "a1"


def test_30_lost_while_waiting_for_the_lock(
    project: Project, begin_headstart: Callable[..., Headstart], any_database: str
) -> None:
    """It waits no longer for that: the lock timeout counts from the beginning."""
    before = fingerprint(any_database)
    with Session(any_database) as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        process = begin_headstart("up", "--lock-timeout", "4s", url=any_database)
        process.wait_for("lock_waiting")
        psql(any_database, ENDED)
        last = ended(process.finish(), 30)
    assert last["total_seconds"] < 15
    assert fingerprint(any_database) == before


# -- 21: refused ------------------------------------------------------------------------------------------------------


def test_21_wrong_password(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A wrong password ends the run at once: waiting would not make it right."""
    run = headstart("up", url=with_password(any_database, "n0t the password"), env={"HEADSTART_WAIT_TIMEOUT": "60s"})
    last = ended(run, 21, secrets=["n0t the password"])
    assert last["sqlstate"] == "28P01"
    assert not run.events("server_not_ready")
    assert last["wait_seconds"] < 5


def test_21_unknown_role(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A role that does not exist is refused at once."""
    run = headstart("up", url=with_password(any_database, PASSWORD, user="nobody_knows"))
    assert "nobody_knows" in ended(run, 21, secrets=[PASSWORD])["error"]


def test_21_pg_hba(project: Project, headstart: Callable[..., Run], start_server: StartServer) -> None:
    """A role that pg_hba.conf does not admit is refused at once, and the hint names the file."""
    server = start_server()
    make_role(server, "outsider", PASSWORD)
    hba = server.data_dir / "pg_hba.conf"
    hba.write_text("host all outsider all reject\n" + hba.read_text(encoding="utf-8"), encoding="utf-8")
    server.reload()
    query = "select count(*) from pg_hba_file_rules where auth_method = 'reject'"
    eventually(lambda: psql(server.url(), query) == [(1,)], "pg_hba.conf is read again")
    url = with_password(server.url(), PASSWORD, user="outsider")
    eventually(lambda: _is_refused(url), "the postmaster has read it too")
    last = ended(headstart("up", url=url), 21, secrets=[PASSWORD])
    assert last["sqlstate"] == "28000"
    assert "pg_hba" in last["error"] + last["hint"]


def test_21_no_such_database(project: Project, headstart: Callable[..., Run], any_server: Postgres) -> None:
    """A database that does not exist gets a short grace, in which it may be created, and no more."""
    url = any_server.url("never_created")
    run = headstart("up", url=url, env={"HEADSTART_WAIT_TIMEOUT": "60s"})
    last = ended(run, 21, secrets=[any_server.password])
    assert last["sqlstate"] == "3D000"
    assert "never_created" in last["error"]
    assert 4 < last["wait_seconds"] < 20
    [line] = run.events("server_not_ready")
    assert 4 < line["left_seconds"] <= 5, "the grace, not the whole wait"


def test_21_database_created_in_time(
    project: Project, begin_headstart: Callable[..., Headstart], any_server: Postgres
) -> None:
    """A database that comes into being within the grace is brought to head."""
    url = any_server.url("created_late")
    process = begin_headstart("up", url=url)
    process.wait_for("server_not_ready")
    any_server.create_database("created_late")
    ended(process.finish(), 0)
    any_server.drop_database(url)


def test_21_may_not_connect(project: Project, headstart: Callable[..., Run], any_server: Postgres) -> None:
    """A role without CONNECT on the database is refused, with the GRANT that it lacks."""
    make_role(any_server, "stranger", PASSWORD)
    url = any_server.create_database()
    script(any_server.url(), f"revoke connect on database {identifier(url.rpartition('/')[2])} from public")
    last = ended(headstart("up", url=with_password(url, PASSWORD, user="stranger")), 21, secrets=[PASSWORD])
    assert "grant connect" in last["hint"]
    any_server.drop_database(url)


def test_21_may_not_create(project: Project, headstart: Callable[..., Run], server: Postgres, database: str) -> None:
    """A role without CREATE on schema public, as from Postgres 15 on, is refused with the GRANT that it lacks."""
    make_role(server, "reader", PASSWORD)
    script(database, "revoke create on schema public from public")
    before = fingerprint(database)
    run = headstart("up", url=with_password(database, PASSWORD, user="reader"))
    last = ended(run, 21, secrets=[PASSWORD])
    assert last["hint"].startswith('grant create on schema "public" to "reader"')
    assert fingerprint(database) == before
    script(database, last["hint"])
    ended(headstart("up", url=with_password(database, PASSWORD, user="reader")), 0)


def test_21_may_not_read_version_table(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """A role that may not read the version table is refused, with the GRANT that it lacks."""
    make_role(any_server, "blind", PASSWORD)
    ended(headstart("up", url=any_database), 0)
    before = fingerprint(any_database)
    url = with_password(any_database, PASSWORD, user="blind")
    last = ended(headstart("up", url=url), 21, secrets=[PASSWORD])
    assert "alembic_version" in last["error"]
    script(any_database, f"grant select on alembic_version to blind /* {last['hint']} */")
    ended(headstart("up", url=url), 0)
    assert fingerprint(any_database) == before


def test_21_may_not_write_version_table(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """A role that may read but not write the version table is refused before the backup and the first revision."""
    make_role(any_server, "halfblind", PASSWORD)
    ended(headstart("up", url=any_database), 0)
    script(any_database, "grant select on alembic_version to halfblind; grant create on schema public to halfblind")
    project.revision("b2", "create table b (id int)")
    before = fingerprint(any_database)
    run = headstart("up", url=with_password(any_database, PASSWORD, user="halfblind"))
    last = ended(run, 21, secrets=[PASSWORD])
    assert "grant" in last["hint"]
    assert last["backup"] is None
    assert fingerprint(any_database) == before


# -- 22: unsuitable ---------------------------------------------------------------------------------------------------


def test_names_that_the_server_cannot_send(headstart: Callable[..., Run], any_server: Postgres) -> None:
    """A query that the server refuses in the middle of a run is not called a refused connection."""
    script(any_server.url(), "create database odd encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'")
    try:
        script(any_server.url("odd"), r"""do $$ begin execute E'create table "t\xff" ()'; end $$""")
        last = ended(headstart("backup", url=any_server.url("odd")), 40)
    finally:
        script(any_server.url(), "drop database odd with (force)")
    assert "the server refused a query: invalid byte sequence" in last["error"]


def test_22_standby(project: Project, headstart: Callable[..., Run], start_server: StartServer) -> None:
    """A standby is refused: it is not asked for a lock that it would grant, and that would be worth nothing."""
    server = start_server()
    server.become_standby()
    run = headstart("up", url=server.url())
    last = ended(run, 22, secrets=[server.password])
    assert "standby" in last["error"]
    assert not run.events("lock_obtained")


def test_22_no_pg_dump(
    project: Project, run_headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """Without a pg_dump of the server's version or a newer one, nothing is migrated; the package is named."""
    newest = max((int(path.parent.name) for path in Path("/usr/lib/postgresql").glob("*/bin")), default=0)
    if newest >= any_server.major:
        pytest.skip(f"this machine has a pg_dump {newest} where headstart looks without PATH")
    script(any_database, "create table precious (id int)")
    before = fingerprint(any_database)
    run = run_headstart("up", url=any_database, env={"PATH": str(tmp_path)})
    last = ended(run, 22, secrets=[any_server.password])
    assert f"postgresql-client-{any_server.major}" in last["hint"]
    assert fingerprint(any_database) == before


@contextmanager
def pgbouncer(server: Postgres, folder: Path, mode: str) -> Iterator[str]:
    """A PgBouncer before a server: its host and port."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer on this machine (Debian's package is called pgbouncer)")
    port = _free_port()
    ini = folder / "pgbouncer.ini"
    ini.write_text(
        f"[databases]\n* = host={server.host} port={server.port} user={server.superuser} password={server.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = 4\n",
        encoding="utf-8",
    )
    ini.chmod(0o644)
    other = {"user": server.folder.stat().st_uid} if os.geteuid() == 0 else {}
    # It refuses to run as root, and another user cannot look into pytest's folders: so the file is its stdin.
    with ini.open("rb") as config:
        process = subprocess.Popen([program, "/dev/stdin"], stdin=config, stderr=subprocess.PIPE, text=True, **other)  # type: ignore[call-overload]
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, "pgbouncer listens")
        assert process.poll() is None, process.stderr.read()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def test_22_transaction_pooler(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """A transaction pooler is recognised and refused; DATABASE_DIRECT_URL, which the hint names, goes round it."""
    before = fingerprint(any_database)
    with pgbouncer(any_server, tmp_path, "transaction") as address:
        pooled = any_database.replace(f"{any_server.host}:{any_server.port}", address)
        last = ended(headstart("up", url=pooled), 22, secrets=[any_server.password])
        assert "DATABASE_DIRECT_URL" in last["hint"]
        assert fingerprint(any_database) == before
        ended(headstart("up", url=pooled, env={"DATABASE_DIRECT_URL": any_database}), 0)
    assert recorded(any_database) == ["a1"]


def test_22_a_pooled_session_stays_as_it_was(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """A look through a transaction pooler works, and leaves nothing in a session that others are given afterwards."""
    ended(headstart("up", url=any_database), 0)
    with pgbouncer(any_server, tmp_path, "transaction") as address:
        pooled = any_database.replace(f"{any_server.host}:{any_server.port}", address)
        before = psql(pooled, "select pg_backend_pid(), current_setting('search_path')")
        for verb in (["up"], ["status"], ["wait", "--for", "head"]):
            run = headstart(*verb, url=pooled)
            assert run.code == 0, run
        assert psql(pooled, "select pg_backend_pid(), current_setting('search_path')") == before


def test_22_not_for_a_session_pooler(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """A pooler that keeps sessions is no obstacle."""
    with pgbouncer(any_server, tmp_path, "session") as address:
        ended(headstart("up", url=any_database.replace(f"{any_server.host}:{any_server.port}", address)), 0)
    assert recorded(any_database) == ["a1"]


POOLED_ENV = """
import asyncio, os
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

url = os.environ["DATABASE_URL"].replace("{server}", "{pooler}").replace("postgresql:", "postgresql+{driver}:")

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def over_asyncpg():
    named = {{"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}}  # PgBouncer's have no names
    async with create_async_engine(url, connect_args=named).connect() as connection:
        await connection.run_sync(migrate)

if "{driver}" == "asyncpg":
    asyncio.run(over_asyncpg())
else:
    with create_engine(url).connect() as connection:
        migrate(connection)
"""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
@pytest.mark.parametrize(("mode", "code"), [("transaction", 22), ("session", 0)])
def test_22_a_pooler_of_env_py_s_own(
    project: Project,
    headstart: Callable[..., Run],
    server: Postgres,
    database: str,
    tmp_path: Path,
    driver: str,
    mode: str,
    code: int,
) -> None:
    """An env.py that goes to the same database through a pooler: it may, if the pooler keeps sessions."""
    with pgbouncer(server, tmp_path, mode) as address:
        project.env.write_text(
            POOLED_ENV.format(driver=driver, server=f"{server.host}:{server.port}", pooler=address), encoding="utf-8"
        )
        before = fingerprint(database)
        run = headstart("up", url=database)
    last = ended(run, code)
    if code:
        assert "DATABASE_DIRECT_URL" in last["hint"]
        assert "transaction pooler" in last["error"]
        assert fingerprint(database) == before


# -- 30: the lock -----------------------------------------------------------------------------------------------------


def test_30_lock_held(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A lock that somebody else keeps ends the run with 30; the last line names the holder, and nothing is touched."""
    script(any_database, "create table precious (id int)")
    before = fingerprint(any_database)
    with Session(any_database, "other runner on node 7") as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        run = headstart("up", url=any_database, env={"HEADSTART_LOCK_TIMEOUT": "1s"})
        [(pid,)] = psql(any_database, "select pid from pg_stat_activity where application_name like 'other runner%'")
    last = ended(run, 30)
    assert "other runner on node 7" in last["error"]
    assert str(pid) in last["error"]
    assert f"select pg_terminate_backend({pid})" in last["hint"]
    assert run.events("lock_waiting")[0]["holder_pid"] == pid
    assert last["backup"] is None
    assert fingerprint(any_database) == before


# -- what they need ---------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_refused(url: str) -> bool:
    try:
        psql(url, "select 1")
    except asyncpg.InvalidAuthorizationSpecificationError:
        return True
    return False
