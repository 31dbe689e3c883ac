"""headstart from a program: `await headstart.up(settings)` gives the Outcome as a value."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

import headstart
from acceptance.checks import path_of
from headstart.errors import ConfigurationError
from headstart.errors.exits import Exit
from support.postgres import psql, query, script
from support.process import environment
from support.project import Project, fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from support.postgres import Postgres


pytestmark = pytest.mark.backed_up


@pytest.fixture
def settings(
    project: Project, any_server: Postgres, any_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> headstart.Settings:
    """Settings for a project with two revisions and an empty database."""
    project.revision("a1", "create table a (id int)", undo=["drop table a"])
    project.revision("b2", "create table b (id int)", undo=["drop table b"])
    monkeypatch.setenv("PATH", path_of(any_server))
    return headstart.settings_from(
        {"DATABASE_URL": any_database, "HEADSTART_BACKUP_DIR": str(tmp_path / "backups")},
        {"ALEMBIC_CONFIG": str(project.ini)},
    )


async def test_outcome(settings: headstart.Settings, any_database: str) -> None:
    """The Outcome says what was applied, and how long each stage took."""
    outcome = await headstart.up(settings)
    assert outcome.ok
    assert outcome.exit is Exit.DONE
    assert [each.revision for each in outcome.applied] == ["a1", "b2"]
    assert (outcome.revision_before, outcome.revision_after) == ((), ("b2",))
    assert outcome.error is None
    assert outcome.seconds["total"] > 0
    again = await headstart.up(settings)
    assert again.ok
    assert again.applied == ()
    assert again.run_id != outcome.run_id
    assert recorded(any_database) == ["b2"]


async def test_failure_is_a_value(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """A failed revision is an Outcome too: what was applied, what failed, what is pending, and the backup."""
    await headstart.up(settings)
    project.revision("c3", "create table c (id int)")
    project.revision("d4", "select broken")
    project.revision("e5", "select 1")
    outcome = await headstart.up(settings)
    assert not outcome.ok
    assert outcome.exit is Exit.MIGRATION_FAILED
    assert [each.revision for each in outcome.applied] == ["c3"]
    assert (outcome.failed, outcome.pending) == ("d4", ("d4", "e5"))
    assert outcome.revision_after == ("c3",)
    assert outcome.backup
    assert outcome.context["sqlstate"] == "42703"
    assert msgspec.json.encode(outcome)


async def test_a_failure_is_rolled_back(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """Nothing of the revision that failed stays; corrected, it is applied by the next call in the same process."""
    broken = project.revision("c3", "create table c (id int)", "insert into c values ('x')")
    outcome = await headstart.up(settings)
    assert (outcome.failed, outcome.revision_after) == ("c3", ("b2",))
    assert [there(any_database, name) for name in "bc"] == [True, False]
    broken.write_text(broken.read_text(encoding="utf-8").replace("values ('x')", "values (42)"), encoding="utf-8")
    assert (await headstart.up(settings)).ok
    assert [tuple(row) for row in await query(any_database, "select id from c")] == [(42,)]
    assert await headstart.current(settings) == ("c3",)


async def test_downgrade(settings: headstart.Settings, any_database: str) -> None:
    """`downgrade` takes the database to the settings' target, or to one that is given, as Alembic writes it."""
    await headstart.up(settings)
    outcome = await headstart.downgrade(msgspec.structs.replace(settings, target="a1"))
    assert outcome.ok
    assert recorded(any_database) == ["a1"]
    assert (await headstart.up(settings, "+1")).revision_after == ("b2",)
    assert (await headstart.downgrade(settings, "-1")).revision_after == ("a1",)
    assert (await headstart.downgrade(settings, "base")).revision_after == ()
    assert recorded(any_database) == []


async def test_a_downgrade_that_fails(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """A downgrade that fails is rolled back as well, and its outcome says where the database is."""
    project.revision("c3", "create table c (id int)", undo=["drop table c", "drop table no_such_table"])
    await headstart.up(settings)
    outcome = await headstart.downgrade(settings, "b2")
    assert (outcome.exit, outcome.failed) == (Exit.MIGRATION_FAILED, "c3")
    assert outcome.revision_after == ("c3",) == tuple(recorded(any_database))
    assert there(any_database, "c")


async def test_current(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """`current` is what the database records: nothing at first, one revision, or a branch's several."""
    before = fingerprint(any_database)
    assert await headstart.current(settings) == ()
    assert fingerprint(any_database) == before
    await headstart.up(settings)
    assert await headstart.current(settings) == ("b2",)
    project.revision("c3", "select 1", down="b2")
    project.revision("d4", "select 1", down="b2")
    await headstart.up(settings, "heads")
    assert await headstart.current(settings) == ("c3", "d4")


async def test_current_of_a_table_that_only_env_py_knows(
    settings: headstart.Settings, project: Project, any_database: str
) -> None:
    """Where env.py computes the version table's name, it is asked, and nothing is written."""
    text = project.env.read_text(encoding="utf-8")
    text = text.replace("target_metadata=target_metadata", "target_metadata=target_metadata, version_table=name")
    project.env.write_text(text, encoding="utf-8")
    project.in_env("name = '_'.join(['our', 'versions'])")
    await headstart.up(settings)
    before = fingerprint(any_database)
    assert await headstart.current(settings) == ("b2",)
    assert recorded(any_database, "our_versions") == ["b2"]
    assert fingerprint(any_database) == before


@pytest.mark.parametrize("ask", [headstart.up, headstart.downgrade, headstart.wait_for_head])
async def test_no_server_is_a_value(ask: Callable[..., Awaitable[headstart.Outcome]], project: Project) -> None:
    """Without a server nothing is raised either: the outcome says so, without the password."""
    project.revision("a1", "create table a (id int)")
    outcome = await ask(_nowhere(project))
    assert outcome.exit is Exit.NOT_READY
    assert outcome.hint
    assert "t0psecret" not in repr(outcome)


async def test_current_cannot_be_told(project: Project) -> None:
    """`current` raises what an Outcome would say: the exit, a line of cause, a line of remedy, no password."""
    project.revision("a1", "create table a (id int)")
    with pytest.raises(headstart.HeadstartError) as caught:
        await headstart.current(_nowhere(project))
    assert caught.value.exit is Exit.NOT_READY
    assert caught.value.hint
    assert "t0psecret" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


def there(url: str, table: str) -> bool:
    """Whether a database has a table."""
    return psql(url, "select to_regclass($1) is not null", table) == [(True,)]


def _nowhere(project: Project) -> headstart.Settings:
    """Settings for a server that is not there."""
    return headstart.settings_from(
        {"DATABASE_URL": "postgresql://app:t0psecret@127.0.0.1:1/app", "HEADSTART_WAIT_TIMEOUT": "200ms"},
        {"ALEMBIC_CONFIG": str(project.ini)},
    )


async def test_beside_other_work(settings: headstart.Settings, any_database: str) -> None:
    """The caller's loop, signals and connections go on: nothing global is left changed."""
    before = (asyncio.run, logging.root.handlers[:], logging.root.level, signal.getsignal(signal.SIGTERM))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    outcome = await headstart.up(settings)
    ticking.cancel()
    assert outcome.ok
    assert ticks > 0
    after = (asyncio.run, logging.root.handlers[:], logging.root.level, signal.getsignal(signal.SIGTERM))
    assert after == before
    assert [row[0] for row in await query(any_database, "select version_num from alembic_version")] == ["b2"]
    sessions = "select count(*) from pg_stat_activity where application_name like 'headstart%' and datname = $1"
    assert (await query(any_database, sessions, any_database.rpartition("/")[2]))[0][0] == 0


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """As many as select(2) has numbers for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(1024):
            stack.enter_context(Path(os.devnull).open("rb"))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_open_files")
async def test_beside_many_open_files(settings: headstart.Settings, any_database: str) -> None:
    """A program may hold more descriptors than select(2) knows."""
    outcome = await headstart.up(settings)
    assert outcome.ok, outcome
    assert recorded(any_database) == ["b2"]


async def test_beside_a_busy_thread_pool(settings: headstart.Settings, any_database: str) -> None:
    """A program all of whose loop's threads wait for the migration gets it, with its backup."""
    script(any_database, "create table kept (id int)")
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    migrated = threading.Event()
    waiting = asyncio.ensure_future(asyncio.to_thread(migrated.wait))
    outcome = await headstart.up(settings)
    migrated.set()
    assert await waiting
    assert (outcome.ok, outcome.backup is None) == (True, False)


def test_settings_problems() -> None:
    """What is wrong with the variables is one error with all the problems, each by its name."""
    with pytest.raises(ConfigurationError) as caught:
        headstart.settings_from({"HEADSTART_BACKUP": "maybe", "HEADSTART_LOG": "loud"})
    assert len(caught.value.problems) == 3
    assert os.environ.get("DATABASE_URL") is None


TWO_AT_ONCE = """
import asyncio, io, logging, os, signal, sys, threading

import asyncpg
import headstart

heard = io.StringIO()
logging.basicConfig(stream=heard, format="%(name)s %(message)s", level=logging.INFO)
handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
variables, folder, path = dict(os.environ), os.getcwd(), sys.path[:]
signals = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
run, loop_run, stdout = asyncio.run, asyncio.BaseEventLoop.run_until_complete, sys.stdout
going = threading.Event()
counted = []


def count():
    while not going.wait(0.01):
        counted.append(len(counted))
        print("thread", len(counted))
        logging.getLogger("app").info("turn %d", len(counted))


async def query(pool, done):
    answers = 0
    while not done.is_set():
        answers += await pool.fetchval("select 1")
        await asyncio.sleep(0)
    return answers


async def main():
    urls = sys.argv[1:3]
    settings = [
        headstart.settings_from(
            {**os.environ, "DATABASE_URL": url, "HEADSTART_BACKUP": "off", "ALEMBIC_CONFIG": f"{name}/alembic.ini"}
        )
        for url, name in zip(urls, ("one", "two"))
    ]
    done = asyncio.Event()
    async with asyncpg.create_pool(urls[0], min_size=2) as pool:
        asking = asyncio.create_task(query(pool, done))
        outcomes = await asyncio.gather(*(headstart.up(each) for each in settings))
        done.set()
        assert await asking > 10
    return outcomes


thread = threading.Thread(target=count)
thread.start()
outcomes = asyncio.run(main())
going.set()
thread.join()
assert [each.ok for each in outcomes] == [True, True], outcomes
assert [[one.revision for one in each.applied] for each in outcomes] == [["one1"], ["two1"]], outcomes
assert logging.getLogger().handlers == handlers and logging.getLogger().level == level
assert "app turn" in heard.getvalue() and "alembic" not in heard.getvalue()
assert (dict(os.environ), os.getcwd(), sys.path) == (variables, folder, path)
assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == signals
assert (asyncio.run, asyncio.BaseEventLoop.run_until_complete, sys.stdout) == (run, loop_run, stdout)
assert not {"alembic", "sqlalchemy", "migrations"} & {name.partition(".")[0] for name in sys.modules}
print("undisturbed")
"""


def test_two_at_once_in_one_program(any_server: Postgres, any_database: str, tmp_path: Path) -> None:
    """Two projects at once leave each other alone, and the program's pool, thread, logging, print, loop and signals."""
    other = any_server.create_database()
    urls = {"one": any_database, "two": other}
    for name in urls:
        project = Project(tmp_path / name)
        project.revision(f"{name}1", f"create table {name} (id int)")
        project.in_env(f"print('env.py of {name}')\nimport logging\nlogging.basicConfig(force=True, level=0)")
    program = tmp_path / "program.py"
    program.write_text(TWO_AT_ONCE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program, *urls.values()],
        cwd=tmp_path,
        env=environment(tmp_path, {"HEADSTART_LOG": "json"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "undisturbed"
    assert all(line.startswith("thread ") for line in lines[:-1])
    for name, url in urls.items():
        tables = psql(url, "select tablename::text from pg_tables where schemaname = 'public' order by 1")
        assert tables == [("alembic_version",), (name,)]
    any_server.drop_database(other)
