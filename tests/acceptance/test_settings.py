"""Settings as the process gets them: flags, variables, files, PG*, and URLs in the spellings that people use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from acceptance.checks import Session, ended, make_role, with_password
from headstart.postgres.lock import GATE
from headstart.settings.files import PATIENCE
from support.postgres import psql, script
from support.project import recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project


pytestmark = pytest.mark.backed_up


@pytest.fixture
def project(project: Project) -> Project:
    """A project with two revisions to tell targets apart by."""
    project.revision("aaaa1111", "create table a (id int)")
    project.revision("bbbb2222", "create table b (id int)")
    return project


def test_flag_over_environment_over_default(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A flag goes before the variable, the variable before the default."""
    env = {"HEADSTART_TARGET": "aaaa1111", "HEADSTART_BACKUP": "off"}
    assert ended(headstart("up", url=any_database, env=env), 0)["revision_after"] == "aaaa1111"
    assert ended(headstart("up", "--target=head", url=any_database, env=env), 0)["revision_after"] == "bbbb2222"
    last = ended(headstart("up", url=any_database, env={"HEADSTART_TARGET": "ffff0000"}), 10)
    assert "ffff0000" in last["error"]
    assert ended(headstart("up", "--target", "head", url=any_database), 0)["applied"] == []


def test_a_bad_variable_under_a_good_flag(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A flag hides its variable, whatever that holds."""
    ended(headstart("up", "--wait-timeout", "5s", url=any_database, env={"HEADSTART_WAIT_TIMEOUT": "junk"}), 0)


def test_zero_is_a_value(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """0 for a timeout is a value and not the default: a wait of 0 does not wait."""
    run = headstart("up", "--wait-timeout", "0", url="postgresql://app@127.0.0.1:1/app")
    assert ended(run, 20)["wait_seconds"] < 5


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_url_file(
    ending: str, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """DATABASE_URL_FILE names a file that holds the URL, with or without a newline at its end."""
    (tmp_path / "url").write_bytes((any_database + ending).encode())
    ended(headstart("up", env={"DATABASE_URL_FILE": str(tmp_path / "url")}), 0)


def test_direct_url(project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
    """DATABASE_DIRECT_URL, or its _FILE, is used instead of DATABASE_URL."""
    unreachable = "postgresql://app@127.0.0.1:1/app"
    env = {"DATABASE_DIRECT_URL": any_database, "HEADSTART_TARGET": "aaaa1111"}
    ended(headstart("up", url=unreachable, env=env), 0)
    (tmp_path / "url").write_text(any_database, encoding="utf-8")
    ended(headstart("up", url=unreachable, env={"DATABASE_DIRECT_URL_FILE": str(tmp_path / "url")}), 0)
    assert recorded(any_database) == ["bbbb2222"]


def test_pg_variables_alone(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """Without a URL, libpq's own variables say where; the backup's pg_dump means the same server."""
    env = {
        "PGHOST": any_server.host,
        "PGPORT": str(any_server.port),
        "PGUSER": any_server.superuser,
        "PGPASSWORD": any_server.password,
        "PGDATABASE": any_database.rpartition("/")[2],
        "HEADSTART_BACKUP": "always",
    }
    last = ended(headstart("up", env=env), 0, secrets=[any_server.password])
    assert last["backup"]
    assert recorded(any_database) == ["bbbb2222"]


def test_pg_variables_fill_in(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """PG* and the passfile give what the URL leaves out."""
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:postgres:{any_server.password}\n", encoding="utf-8")
    passfile.chmod(0o600)
    url = f"postgresql:///{any_database.rpartition('/')[2]}?user=postgres"
    env = {"PGHOST": any_server.host, "PGPORT": str(any_server.port), "PGPASSFILE": str(passfile)}
    ended(headstart("up", "--backup", "always", url=url, env=env), 0, secrets=[any_server.password])


@pytest.mark.parametrize(
    "spelling",
    [
        "postgres://{login}@{at}/{db}",
        "postgresql+asyncpg://{login}@{at}/{db}",
        "postgresql+psycopg2://{login}@{at}/{db}?sslmode=disable",
        "postgresql+psycopg://{login}@{at}/{db}?application_name=mine&connect_timeout=5",
        "postgresql://{login}@127.0.0.1:1,{at}/{db}?target_session_attrs=read-write",
        "postgresql://{login}@/{db}?host={socket}&port={port}",
        "postgresql://{login}@{socket}:{port}/{db}",
        "postgresql://{login}@{at}/{db}?options=-c%20search_path%3Dpublic",
        "host={host} port={port} user=postgres password={password} dbname={db}",
    ],
)
def test_spellings(
    spelling: str, project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """However the URL is spelt: the connection, env.py's engine and pg_dump all reach the same database."""
    url = spelling.format(
        login=f"postgres:{any_server.password}",
        password=any_server.password,
        host=any_server.host,
        port=any_server.port,
        at=f"{any_server.host}:{any_server.port}",
        socket=quote(str(any_server.folder), safe=""),
        db=any_database.rpartition("/")[2],
    )
    last = ended(headstart("up", "--backup", "always", url=url), 0, secrets=[any_server.password])
    assert last["backup"]
    assert recorded(any_database) == ["bbbb2222"]


def test_a_database_with_an_awkward_name(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, tmp_path: Path
) -> None:
    """A database may have any name; its backups lie in a folder that no other name has."""
    name = "a db/with 50%, \"quotes\", 'more' & ümlaut"
    url = any_server.create_database(name)
    last = ended(headstart("up", "--backup", "always", url=url), 0)
    assert (tmp_path / last["backup"] / "manifest.json").exists()
    assert recorded(url) == ["bbbb2222"]
    any_server.drop_database(name)


def test_deadline(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """HEADSTART_DEADLINE ends a revision that takes too long: it is rolled back, and the lock is given back."""
    project.revision("cccc3333", "select pg_sleep(60)")
    run = headstart("up", "--deadline", "8s", url=any_database)
    last = ended(run, 60)
    assert "HEADSTART_DEADLINE" in last["error"]
    assert (last["revision_after"], last["failed"]) == ("bbbb2222", "cccc3333")
    assert last["total_seconds"] < 20
    assert psql(any_database, "select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]


def test_deadline_while_waiting(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """HEADSTART_DEADLINE ends any stage, with the code of that stage: waiting for the lock is 30."""
    with Session(any_database) as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        last = ended(headstart("up", "--deadline", "2s", url=any_database), 30)
    assert "HEADSTART_DEADLINE" in last["error"]
    assert recorded(any_database) == []


def test_statement_timeout(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """HEADSTART_STATEMENT_TIMEOUT ends a statement that takes too long."""
    project.revision("cccc3333", "select pg_sleep(60)")
    last = ended(headstart("up", "--statement-timeout", "300ms", url=any_database), 60)
    assert (last["sqlstate"], last["failed"]) == ("57014", "cccc3333")


def test_role_settings_do_not_matter(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str
) -> None:
    """Timeouts that the role brings along are not those of the migration: off by default means off."""
    make_role(any_server, "hasty", "hasty's pass", "superuser")
    script(
        any_server.url(), "alter role hasty set statement_timeout = '200ms'; alter role hasty set lock_timeout = '1ms'"
    )
    project.revision("cccc3333", "select pg_sleep(0.5)", "select 1 / 0")
    url = with_password(any_database, "hasty's pass", user="hasty")
    last = ended(headstart("up", url=url), 60, secrets=["hasty's pass"])
    assert last["sqlstate"] == "22012", "the statement that divides, not the one that sleeps"


def test_x_arguments(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """-x reaches env.py's get_x_argument, as with alembic."""
    project.in_env("assert context.get_x_argument(as_dictionary=True)['tenant'] == 'acme'")
    ended(headstart("up", "-x", "tenant=acme", url=any_database), 0)
    assert ended(headstart("upgrade", "head", "-x", "tenant=acme", url=any_database), 0)["applied"] == []


@pytest.mark.parametrize(
    ("env", "at"),
    [
        ({"DATABASE_URL_FILE": "pipe"}, "pipe"),
        ({"PGPASSFILE": "pipe"}, "pipe"),
        ({"PGSERVICE": "x", "PGSERVICEFILE": "pipe"}, "pipe"),
        ({"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "pipe"}, "pipe"),
        ({"HEADSTART_TENANTS_FILE": "pipe"}, "pipe"),
        ({}, "alembic.ini"),
        ({}, "pyproject.toml"),
        ({}, "migrations/env.py"),
        ({}, "migrations/versions/zzzz_pipe.py"),
    ],
    ids=str,
)
def test_a_pipe_in_the_place_of_a_file(
    env: dict[str, str], at: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """A named pipe that nobody writes into is refused by name, where a file would be read."""
    path = project.folder / at
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    env = {name: str(path) if value == "pipe" else value for name, value in env.items()}
    if "PGPASSFILE" in env:
        any_database = any_database.replace(f":{urlsplit(any_database).password}@", "@")
    url = None if "DATABASE_URL_FILE" in env else any_database
    verb = ["tenants", "list"] if "HEADSTART_TENANTS_FILE" in env else ["up"]
    run = headstart(*verb, url=url, env={"HEADSTART_BACKUP": "off", **env})
    last = ended(run, 70 if "versions" in at else 10)
    assert str(path.parent if path == project.env else path) in last["error"]
    assert "not a file" in last["error"] or "there is no env.py" in last["error"]


def test_a_pipe_as_schema_file(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """The revisions are run instead, as with any schema file that cannot be read."""
    os.mkfifo(project.folder / "pipe")
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off", "HEADSTART_SCHEMA_FILE": "pipe"})
    ended(run, 0)
    assert "a named pipe" in run.events("schema_file_not_used")[0]["reason"]


def test_a_pipe_in_the_home_folder(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """~/.pgpass is passed over where it is no file, as libpq does; a certificate there is refused by name."""
    (tmp_path / ".postgresql").mkdir()
    for name in (".pgpass", ".pg_service.conf", ".postgresql/root.crt"):
        os.mkfifo(tmp_path / name, 0o600)
    env = {"HOME": str(tmp_path), "HEADSTART_BACKUP": "off"}
    ended(headstart("up", url=any_database, env=env), 0)
    certificate = tmp_path / ".postgresql/postgresql.crt"
    os.mkfifo(certificate)
    assert str(certificate) in ended(headstart("up", url=any_database, env=env), 10)["error"]


def test_what_a_shell_hands_over(project: Project, any_database: str) -> None:
    """`DATABASE_URL_FILE=<(command)` is a pipe that somebody wants to be read."""
    command = f'DATABASE_URL_FILE=<(echo "$1") exec {sys.executable} -m headstart "${{@:2}}"'
    password = urlsplit(any_database).password or ""
    for words, code in ((["up"], 0), (["current"], 0), (["up", "--deadline", password], 10)):
        shell = ["bash", "-c", command, "bash", any_database, *words]
        env = {"PATH": os.environ["PATH"], "HEADSTART_BACKUP": "off"}
        done = subprocess.run(shell, env=env, cwd=project.folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert password not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_pipe_that_nobody_closes(project: Project) -> None:
    """It is waited for once: then the run ends, and names it beside the other problems."""
    ours, theirs = os.pipe()
    env = {"PATH": os.environ["PATH"], "DATABASE_URL_FILE": "/dev/stdin", "HEADSTART_FOO": "1"}
    words = [sys.executable, "-m", "headstart", "status", "--deadline", "soon"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            words, env=env, cwd=project.folder, stdin=ours, capture_output=True, text=True, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 10, done.stderr
    assert "/dev/stdin" in done.stderr
    assert time.monotonic() - began < 1.5 * PATIENCE
