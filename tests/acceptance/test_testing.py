"""headstart.testing: a user's project and a user's tests, run by a real pytest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import planted
from support.documents import blocks
from support.postgres import psql
from support.process import environment
from support.project import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.postgres import Postgres
    from support.project import Project

    RunPytest = Callable[..., subprocess.CompletedProcess[str]]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"

CONFTEST = 'pytest_plugins = ["headstart.testing"]\n'

ASKING = """\
import asyncio, asyncpg

def ask(url, sql):
    async def run():
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()
    return asyncio.run(run())
"""


@pytest.fixture
def project(project: Project) -> Project:
    """A project with two revisions, and a conftest.py that asks for the plugin."""
    project.revision("a1", "create table a (id int primary key)")
    project.revision("b2", "create table b (id int)")
    (project.folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (project.folder / "asking.py").write_text(ASKING, encoding="utf-8")
    (project.folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return project


@pytest.fixture
def run_pytest(project: Project, any_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> RunPytest:
    """Run pytest in the project's folder, on the shared server, or on one that is to be started."""

    def run(
        *words: str, tests: str = "", env: dict[str, str] | None = None, given_server: bool = True
    ) -> subprocess.CompletedProcess[str]:
        if tests:
            (project.folder / "test_it.py").write_text(f"import pytest\nfrom asking import ask\n{tests}")
        server = {"HEADSTART_SCRATCH_URL": any_server.url()} if given_server else {}
        given = {**server, "PYTHONPATH": str(project.folder), **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            cwd=project.folder,
            env=environment(tmp_path_factory.mktemp("home"), given),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def left_behind(server: Postgres) -> list[str]:
    """The scratch databases that are still there."""
    return [row[0] for row in psql(server.url(), "select datname from pg_database where datname like 'headstart\\_%'")]


def passed(done: subprocess.CompletedProcess[str], count: int) -> str:
    """Check that all tests have passed, and return the output."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} passed" in done.stdout
    return done.stdout


WRITES = """
@pytest.mark.parametrize("nth", range(6))
def test_writes(migrated_database, nth):
    assert ask(migrated_database, "select version_num from alembic_version") == "b2"
    assert ask(migrated_database, "select count(*) from a") == 0
    ask(migrated_database, "insert into a values (1)")
    assert ask(migrated_database, "select count(*) from a") == 1
"""


def test_each_test_has_its_own(run_pytest: RunPytest, any_server: Postgres) -> None:
    """Every test finds a database at head, without the rows of the others; none is there afterwards."""
    passed(run_pytest(tests=WRITES), 6)
    assert left_behind(any_server) == []


def test_in_parallel(run_pytest: RunPytest, any_server: Postgres) -> None:
    """With pytest-xdist each worker has a template of its own, on one and the same server too."""
    passed(run_pytest("-n", "2", tests=WRITES), 6)
    assert left_behind(any_server) == []


FROM_DATABASE_URL = """\
import asyncio, os
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    async with create_async_engine(os.environ["DATABASE_URL"]).connect() as connection:
        await connection.run_sync(migrate)

asyncio.run(main())
"""


@pytest.mark.parametrize("named", ["", "postgresql+asyncpg://x/y"], ids=["no DATABASE_URL", "asyncpg"])
def test_the_documents(named: str, run_pytest: RunPytest, project: Project) -> None:
    """The blocks of docs/testing.md run as they stand, with an env.py of asyncpg's own too, on the session's server."""
    if named:
        project.env.write_text(FROM_DATABASE_URL, encoding="utf-8")
    for path in project.versions.glob("*.py"):
        path.unlink()
    project.revision(
        "20260101_100000000",
        "create table signals (id int generated always as identity, strategy text, action text)",
        undo=["drop table signals"],
        down=None,
    )
    project.revision("20260102_100000000", "update signals set action = lower(action)", undo=["select 1"])
    conftest, *tests = blocks(PAGE, language="python")
    (project.folder / "conftest.py").write_text(conftest, encoding="utf-8")
    for nth, block in enumerate(tests):
        (project.folder / f"test_{nth}.py").write_text(block, encoding="utf-8")
    passed(run_pytest(given_server=False, env={"DATABASE_URL": named} if named else None), 3)


@pytest.mark.parametrize(
    ("named", "made"),
    [
        ("", "await asyncpg.connect(url)"),
        ("", "sqlalchemy.create_engine(url.replace('postgresql:', 'postgresql+psycopg2:')).connect()"),
        ("postgresql+asyncpg://x/y", "await create_async_engine(url).connect()"),
        ("postgresql+psycopg://x/y", "await create_async_engine(url).connect()"),
    ],
    ids=["asyncpg.connect", "psycopg2", "asyncpg", "psycopg"],
)
@pytest.mark.parametrize("given_server", [True, False], ids=["given server", "own server"])
def test_a_url_that_the_driver_takes(
    named: str, made: str, given_server: bool, run_pytest: RunPytest, any_server: Postgres
) -> None:
    """The URLs name the driver of DATABASE_URL, and have no parameter that it would refuse."""
    tests = f"""
import asyncio, asyncpg, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

def test_it(migrated_database, headstart_server, headstart_template):
    async def connected(url):
        {made}

    asyncio.run(connected(migrated_database))
    with headstart_server.database(headstart_template) as url:
        asyncio.run(connected(url))
"""
    env = {"DATABASE_URL": named} if named else {}
    if given_server:
        more = "&connect_timeout=9" if named else ""  # asyncpg.connect itself knows none
        env["HEADSTART_SCRATCH_URL"] = f"{any_server.url()}?sslmode=disable&target_session_attrs=any{more}"
    passed(run_pytest(tests=tests, env=env, given_server=given_server), 1)


def test_a_revision_that_fails(run_pytest: RunPytest, project: Project, any_server: Postgres) -> None:
    """A failing revision fails the tests in the words of `up`: revision, cause, place, remedy; no traceback."""
    path = project.revision("c3", "create table a (id int)")
    done = run_pytest(tests=WRITES)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 errors" in done.stdout
    assert f'revision c3 failed: relation "a" already exists [42P07] ({path}:' in done.stdout
    assert "-> an earlier run of this revision left it" in done.stdout
    assert "statement: create table a (id int)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "headstart/testing.py" not in done.stdout
    assert left_behind(any_server) == []


def test_two_heads(run_pytest: RunPytest, project: Project) -> None:
    """Two heads are told with both files and the command to type."""
    paths = [project.revision(each, "select 1", down="b2") for each in ("c3", "d4")]
    done = run_pytest(tests=WRITES)
    assert done.returncode == 1
    for path in paths:
        assert str(path) in done.stdout
    assert "headstart merge heads" in done.stdout


def test_without_a_server(run_pytest: RunPytest, project: Project, tmp_path: Path) -> None:
    """A machine without Postgres fails the tests, and says what to install; nothing is skipped."""
    env = planted(
        tmp_path,
        "import headstart.postgres.embedded.installation as where\nwhere._candidates = lambda path: iter(())\n",
    )
    done = run_pytest(tests=WRITES, env=env, given_server=False)
    assert done.returncode == 1
    assert "6 errors" in done.stdout
    assert "skipped" not in done.stdout
    assert "pip install './headstart[embedded]'" in done.stdout


def test_a_server_that_does_not_answer(run_pytest: RunPytest) -> None:
    """A given server that is not there is named, without its password."""
    env = {
        "HEADSTART_SCRATCH_URL": "postgresql://app:t0psecret@127.0.0.1:1/app",
        "HEADSTART_WAIT_TIMEOUT": "300ms",
    }
    done = run_pytest(tests=WRITES, env=env)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout
    assert "t0psecret" not in done.stdout + done.stderr


def test_the_project_is_elsewhere(run_pytest: RunPytest, project: Project) -> None:
    """`headstart_alembic_config` starts from pytest's root folder, and the project's own paths from there."""
    backend = project.folder / "backend"
    backend.mkdir()
    ini = project.ini.read_text(encoding="utf-8").replace("%(here)s/migrations", "migrations")
    (backend / "alembic.ini").write_text(ini, encoding="utf-8")
    project.ini.unlink()
    (project.folder / "migrations").rename(backend / "migrations")
    with (project.folder / "pytest.ini").open("a", encoding="utf-8") as file:
        file.write("headstart_alembic_config = backend/alembic.ini\n")
    passed(run_pytest(tests=WRITES), 6)
    missing = run_pytest("-o", "headstart_alembic_config=nowhere.ini", tests=WRITES)
    assert "nowhere.ini" in missing.stdout


def test_the_database_of_the_environment_is_left_alone(
    run_pytest: RunPytest, project: Project, any_database: str
) -> None:
    """An env.py that reads DATABASE_URL is led to the template; outside, the variable is what it was."""
    text = project.env.read_text(encoding="utf-8")
    text = text.replace("config = context.config\n", "config = context.config\nimport os\n", 1).replace(
        "config.get_section(config.config_ini_section, {})", '{"sqlalchemy.url": os.environ["DATABASE_URL"]}'
    )
    assert 'os.environ["DATABASE_URL"]' in text
    project.env.write_text(text, encoding="utf-8")
    spelled = any_database.replace("postgresql://", "postgresql+asyncpg://")
    before = fingerprint(any_database)
    after = """
def test_after(migrated_database):
    import os
    assert os.environ["DATABASE_URL"] == os.environ["SPELLED"]
"""
    passed(run_pytest(tests=WRITES + after, env={"DATABASE_URL": spelled, "SPELLED": spelled}), 7)
    assert fingerprint(any_database) == before


def test_beside_an_event_loop(run_pytest: RunPytest, any_server: Postgres) -> None:
    """The fixtures work while the test's own loop runs; a connection that is left open does not keep its database."""
    tests = """
import asyncpg
from sqlalchemy import text

@pytest.mark.asyncio
async def test_asked_for_later(request):
    url = request.getfixturevalue("migrated_database")
    connection = await asyncpg.connect(url)  # and never closed
    await connection.execute("begin; insert into a values (1)")

@pytest.mark.asyncio
async def test_engine(migrated_engine):
    async with migrated_engine.begin() as connection:
        await connection.execute(text("insert into a values (1)"))
    async with migrated_engine.connect() as connection:
        assert (await connection.execute(text("select count(*) from a"))).scalar_one() == 1
"""
    passed(run_pytest(tests=tests), 2)
    assert left_behind(any_server) == []


def test_how_long_a_copy_takes(run_pytest: RunPytest, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy, made and dropped, is quicker than an empty database on which the revisions are run; both are printed."""
    for nth in range(30):
        project.revision(f"many{nth:04}", f"create table many_{nth} (id int primary key, name text unique)")
    tests = """
import os, statistics, time
import headstart

def timed(work, rounds):
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)

def test_times(headstart_server, headstart_template, monkeypatch):
    def copy():
        with headstart_server.database(headstart_template):
            pass

    def replay():
        with headstart_server.database() as url:
            monkeypatch.setenv("DATABASE_URL", url)
            import asyncio
            outcome = asyncio.run(headstart.up(headstart.settings_from(os.environ, {"HEADSTART_BACKUP": "off"})))
            assert len(outcome.applied) == 32

    print(f"took {timed(copy, 9) * 1000:.0f} {timed(replay, 3) * 1000:.0f}")
"""
    done = run_pytest("-s", tests=tests)
    passed(done, 1)
    copy, replay = map(int, re.findall(r"took (\d+) (\d+)", done.stdout)[0])
    with capsys.disabled():
        print(f"\na copy of a database with 32 revisions: {copy} ms; running them: {replay} ms")  # noqa: T201
    assert copy < replay
