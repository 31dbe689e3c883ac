"""Servers as they are managed: TLS, few connections, roles that may little and are timed, several addresses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from acceptance.checks import ended, make_role, path_of, with_password
from support.postgres import psql, script
from support.project import recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

PASSWORD = "a migrator's pass"


@pytest.fixture
def project(project: Project) -> Project:
    """A project with something to do."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "alter table a add column more int")
    return project


@pytest.fixture
def tls(start_server: StartServer) -> tuple[Postgres, str]:
    """A server with a certificate for `localhost`, and the URL by that name."""
    server = start_server(tls=True)
    return server, server.url().replace("127.0.0.1", "localhost")


def certificate(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    made, key = folder / f"{name}.crt", folder / f"{name}.key"
    what = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-nodes", "-newkey", "ec"]
    curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(made)]
    subprocess.run(["openssl", "req", "-x509", *what, *curve, *more], check=True, capture_output=True)
    return made, key


def test_tls_with_its_authority(project: Project, run_headstart: Callable[..., Run], tls: tuple[Postgres, str]) -> None:
    """verify-full, with SCRAM inside; env.py and pg_dump keep to it, too."""
    server, url = tls
    script(server.url(), "create table precious (id int)")
    env = {"PATH": path_of(server)}
    last = ended(run_headstart("up", url=f"{url}?sslmode=verify-full&sslrootcert={server.tls_ca}", env=env), 0)
    assert last["backup"]
    assert psql(server.url(), "select count(*) from a") == [(0,)]


@pytest.mark.parametrize("wrong", ["another authority", "another name", "it has expired"])
def test_21_tls_that_does_not_verify(
    wrong: str, project: Project, run_headstart: Callable[..., Run], tls: tuple[Postgres, str], tmp_path: Path
) -> None:
    """A server that cannot prove who it is gets no password; the message says what does not fit."""
    server, url = tls
    authority = server.tls_ca
    if wrong == "another authority":
        authority, _ = certificate(tmp_path, "localhost", "-days", "2")
    elif wrong == "another name":
        url = server.url()
        certificate_of, key = certificate(tmp_path, "elsewhere", "-days", "2")
        exchange(server, certificate_of, key)
        authority = certificate_of
    else:
        certificate_of, key = expired(tmp_path)
        exchange(server, certificate_of, key)
        authority = certificate_of
    run = run_headstart("up", url=f"{url}?sslmode=verify-full&sslrootcert={authority}")
    last = ended(run, 21, secrets=[server.password])
    assert "certificate" in last["error"]
    assert last["total_seconds"] < 10


def expired(folder: Path) -> tuple[Path, Path]:
    """A certificate that was valid until yesterday, and its key."""
    made, key, wanted = folder / "old.crt", folder / "old.key", folder / "old.csr"
    key_of = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key)]
    for argv in (
        ["openssl", "req", "-new", *key_of, "-out", str(wanted), "-subj", "/CN=localhost"],
        ["openssl", "x509", "-req", "-in", str(wanted), "-signkey", str(key), "-days", "-1", "-out", str(made)],
    ):
        subprocess.run(argv, check=True, capture_output=True)
    return made, key


def exchange(server: Postgres, made: Path, key: Path) -> None:
    """Let the server have another certificate."""
    (server.folder / "server.crt").write_bytes(made.read_bytes())
    (server.folder / "server.key").write_bytes(key.read_bytes())
    server.shut_down()
    server.start_up()


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_few_connections(
    limit: int, project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """Where pg_dump does not get a connection for each job, it is run again with one."""
    make_role(any_server, "frugal", PASSWORD, f"superuser connection limit {limit}")
    script(any_server.url(), "alter role frugal nosuperuser; grant pg_read_all_data to frugal")
    script(any_database, "grant create on schema public to frugal")
    script(any_database, "".join(f"create table t{n} as select n from generate_series(1, 1000) n;" for n in range(6)))
    url = with_password(any_database, PASSWORD, user="frugal")
    run = headstart("up", url=url, env={"HEADSTART_BACKUP_JOBS": "4"})
    last = ended(run, 0, secrets=[PASSWORD])
    assert last["backup"]
    assert recorded(any_database) == ["b2"]
    retried = run.events("backup_retried")
    assert [line["jobs"] for line in retried] == [1]


def test_timeouts_of_a_role(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """What a role or a database brings along is not the migration's: no session of the run is ended by it."""
    make_role(any_server, "hurried", PASSWORD, "superuser")
    timeouts = {
        "statement_timeout": "300ms",
        "lock_timeout": "100ms",
        "idle_in_transaction_session_timeout": "300ms",
        "idle_session_timeout": "300ms",
        **({"transaction_timeout": "300ms"} if int(any_server.major) >= 17 else {}),
    }
    script(any_server.url(), "".join(f"alter role hurried set {name} = '{value}';" for name, value in timeouts.items()))
    script(any_database, "create table precious (id int)")
    project.revision("c3", body="import time\nop.execute('select pg_sleep(0.6)')\ntime.sleep(0.6)")
    url = with_password(any_database, PASSWORD, user="hurried")
    ended(headstart("up", url=url), 0, secrets=[PASSWORD])
    assert recorded(any_database) == ["c3"]


def test_a_socket_only(project: Project, run_headstart: Callable[..., Run], start_server: StartServer) -> None:
    """A server that does not listen on TCP is reached by its socket, by each of the programs."""
    server = start_server(settings={"listen_addresses": ""})
    url = f"postgresql://postgres:{server.password}@/postgres?host={quote(str(server.folder))}&port={server.port}"
    ended(run_headstart("up", url=url, env={"PATH": path_of(server), "HEADSTART_BACKUP": "always"}), 0)
    assert psql(url, "select version_num from alembic_version") == [("b2",)]


@pytest.mark.parametrize("dead", ["127.0.0.1:1", "127.0.0.2:9", "nowhere.invalid:5432"])
def test_two_addresses_of_which_one_is_dead(
    dead: str, project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """The one that answers is used, by the supervisor, by env.py and by pg_dump."""
    script(any_database, "create table precious (id int)")
    living = f"{any_server.host}:{any_server.port}"
    for places in (f"{dead},{living}", f"{living},{dead}"):
        ended(headstart("up", url=any_database.replace(living, places)), 0)
    assert recorded(any_database) == ["b2"]


def test_the_least_that_a_role_needs(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, docs_grants: str
) -> None:
    """The grants that the docs name suffice for a migration with its backup, and for the way back."""
    name = any_database.rpartition("/")[2]
    script(any_server.url(), "drop role if exists migrator")
    script(any_server.url(), "create role migrator login")
    try:
        script(any_database, "create table precious (id int)")
        script(any_database, docs_grants.replace("DATABASE", name))
        make_password = PASSWORD.replace("'", "''")
        script(any_server.url(), f"alter role migrator password '{make_password}'")
        url = with_password(any_database, PASSWORD, user="migrator")
        assert ended(headstart("up", url=url), 0, secrets=[PASSWORD])["backup"]
        ended(headstart("downgrade", "-1", url=url), 0, secrets=[PASSWORD])
        assert headstart("doctor", url=url).code == 0
    finally:
        script(any_database, "drop owned by migrator cascade")
        script(any_server.url(), "drop owned by migrator; drop role migrator")


@pytest.fixture
def docs_grants() -> str:
    """The block of docs/operations.md."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, after = text.partition("```sql\n-- what a role needs")
    return after.partition("\n")[2].partition("```")[0]
