"""What env.py takes back stays taken back, and a failure leaves what it leaves with Alembic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support import process
from support.env_files import HEAD, EnvFile, built, left_behind
from support.postgres import psql
from support.process import environment
from support.project import Project, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres
    from support.process import Run

OFF = {"HEADSTART_BACKUP": "off"}


@pytest.fixture
def twins(any_server: Postgres) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases: for Alembic, and for Headstart."""
    urls = any_server.create_database(), any_server.create_database()
    yield urls
    for url in urls:
        any_server.drop_database(url)


def connects(block: str) -> EnvFile:
    """An env.py that has a connection; the block begins with an indentation."""
    return EnvFile(HEAD + 'with create_engine(address("psycopg2")).connect() as connection:\n' + block)


CONFIGURED = "    context.configure(connection=connection)\n"
BLOCK = f"{CONFIGURED}    with context.begin_transaction():\n        context.run_migrations()\n"

DRY = {
    "its transaction rolled back": f"""\
{CONFIGURED}\
    with context.begin_transaction() as transaction:
        context.run_migrations()
        transaction.rollback()
""",
    "begun after configure": (
        f"{CONFIGURED}    own = connection.begin()\n    context.run_migrations()\n    own.rollback()\n"
    ),
    "begun before configure": f"    own = connection.begin()\n{BLOCK}    own.rollback()\n",
    "never committed": f"{CONFIGURED}    context.run_migrations()\n",
    "rolled back in the block": f"{BLOCK}        connection.rollback()\n",
    "sys.exit in the block": f"{BLOCK}        raise SystemExit(0)\n",
}


@pytest.mark.parametrize("way", DRY)
def test_a_dry_run_of_env_py(way: str, twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that takes back what it has run is obeyed, as by Alembic, and the run does not call it ready."""
    alembics, ours = twins
    project = built(tmp_path / "project", connects(DRY[way]))
    before = left_behind(ours)
    assert alembic(project, alembics).code == 0
    assert left_behind(alembics) == before
    run = run_headstart("up", url=ours, cwd=project.folder, env=OFF)
    last = ended(run, 80)
    assert (last["applied"], last["revision_after"], last["pending"]) == ([], "base", ["a1", "b2", "c3"])
    assert left_behind(ours) == before
    assert len(run.events("one_transaction")) == 1, run


FAILING = {
    "try and commit": f"""\
{CONFIGURED}\
    own = connection.begin()
    try:
        context.run_migrations()
        own.commit()
    except Exception:
        own.rollback()
        raise
""",
    "with begin": f"{CONFIGURED}    with connection.begin():\n        context.run_migrations()\n",
    "begin around the block": (
        f"{CONFIGURED}    with connection.begin():\n"
        "        with context.begin_transaction():\n            context.run_migrations()\n"
    ),
    "a commit at the end": f"{CONFIGURED}    context.run_migrations()\n    connection.commit()\n",
}


@pytest.mark.parametrize("way", FAILING)
def test_what_a_failure_leaves(way: str, twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Where env.py holds the transaction, a failing revision leaves nothing of those before it, as with Alembic."""
    alembics, ours = twins
    project = built(tmp_path / "project", connects(FAILING[way]))
    project.revision("d4", "select 1 / 0", down="c3")
    assert alembic(project, alembics).code == 1
    run = run_headstart("up", url=ours, cwd=project.folder, env=OFF)
    last = ended(run, 60)
    assert (last["applied"], last["failed"], last["revision_after"]) == ([], "d4", "base")
    assert left_behind(ours) == left_behind(alembics)
    assert len(run.events("one_transaction")) == 1, run


def test_raises_in_its_block(twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """What Alembic rolls back because env.py raises in its block after the migrations is not committed."""
    alembics, ours = twins
    project = built(tmp_path / "project", connects(f"{BLOCK}        raise RuntimeError('not today')\n"))
    assert alembic(project, alembics).code == 1
    run = run_headstart("up", url=ours, cwd=project.folder, env=OFF)
    last = ended(run, 60)
    assert (last["applied"], last["revision_after"], "not today" in last["error"]) == ([], "base", True)
    assert left_behind(ours) == left_behind(alembics)


def test_its_own_transaction_for_each(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that itself asks for a transaction per revision has it, whatever it executes in its block."""
    options = "transaction_per_migration=True"
    text = f"    context.configure(connection=connection, {options})\n    with context.begin_transaction():\n"
    text += "        connection.execute(text('select 1'))\n        context.run_migrations()\n"
    project = built(tmp_path / "project", connects(text))
    project.revision("d4", "select 1 / 0", down="c3")
    run = run_headstart("up", url=any_database, cwd=project.folder, env=OFF)
    assert (ended(run, 60)["applied"], run.events("one_transaction")) == (["a1", "b2", "c3"], [])
    assert recorded(any_database) == ["c3"]


def test_tries_again(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that runs the migrations again after a failure: the failure is reported, and that it tried again."""
    text = f"{CONFIGURED}    for attempt in range(3):\n        try:\n            with context.begin_transaction():\n"
    text += "                context.run_migrations()\n            break\n        except Exception:\n            pass\n"
    project = built(tmp_path / "project", connects(text))
    project.revision("d4", "select 1 / 0", down="c3")
    last = ended(run_headstart("up", url=any_database, cwd=project.folder, env=OFF), 60)
    assert (last["failed"], last["applied"], last["sqlstate"]) == ("d4", ["a1", "b2", "c3"], "22012")
    assert "division by zero; env.py then ran context.run_migrations() again" in last["error"]


def test_runs_them_twice(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that runs the migrations twice is refused before anything is changed, even if it passes over that."""
    text = f"{BLOCK}    try:\n        context.run_migrations()\n    except Exception:\n        pass\n"
    project = built(tmp_path / "project", connects(text))
    before = left_behind(any_database)
    last = ended(run_headstart("up", url=any_database, cwd=project.folder, env=OFF), 10)
    assert "more than once" in last["error"]
    assert left_behind(any_database) == before


EXITS = f"{BLOCK}raise SystemExit(0)\n"


@pytest.mark.parametrize(
    "words", [("stamp", "b2"), ("current",), ("history", "-i"), ("downgrade", "a1"), ("upgrade", "head")]
)
def test_exits_after_the_migrations(
    words: tuple[str, ...], twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """sys.exit(0) at the end of env.py is a good end of each verb, as with Alembic."""
    alembics, ours = twins
    project = built(tmp_path / "project", connects(EXITS))
    for url in twins:
        assert alembic(project, url, "upgrade", "c3").code == 0
    assert alembic(project, alembics, *words).code == 0
    run = run_headstart(*words, url=ours, cwd=project.folder, env=OFF)
    assert run.code == 0, run
    assert left_behind(ours) == left_behind(alembics)
    project.env.write_text(connects(BLOCK).text, encoding="utf-8")
    assert run.stdout == run_headstart(*words, url=ours, cwd=project.folder, env=OFF).stdout


def test_exits_before_the_migrations(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """sys.exit(0) before them is none: nothing was done."""
    project = built(tmp_path / "project", connects("    raise SystemExit(0)\n"))
    for verb in ("current", "up"):
        assert run_headstart(verb, url=any_database, cwd=project.folder, env=OFF).code == 10


def test_stamp_fails_afterwards(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """If env.py fails after the version table was written, `stamp` says what is recorded."""
    project = built(tmp_path / "project", connects(f"{BLOCK}raise RuntimeError('a hook')\n"))
    last = ended(run_headstart("stamp", "b2", url=any_database, cwd=project.folder), 60)
    assert (last["revision_before"], last["revision_after"], "b2 had been recorded" in last["error"]) == (
        "base",
        "b2",
        True,
    )
    assert recorded(any_database) == ["b2"]


def test_stamp_is_a_dry_run(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Nor does `stamp` commit what env.py takes back."""
    project = built(tmp_path / "project", connects(DRY["begun after configure"]))
    assert ended(run_headstart("stamp", "b2", url=any_database, cwd=project.folder), 80)["revision_after"] == "base"


def test_changes_the_folder(twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that takes the revision files away, as Alembic sees it, is refused: nothing pending is not `done`."""
    alembics, ours = twins
    project = built(tmp_path / "project", connects(BLOCK))
    project.env.write_text("import os\nos.chdir('/')\n" + project.env.read_text(encoding="utf-8"), encoding="utf-8")
    text = project.ini.read_text(encoding="utf-8")
    here = f"%(here)s/{project.env.parent.name}"
    assert here in text
    project.ini.write_text(text.replace(here, project.env.parent.name), encoding="utf-8")
    assert alembic(project, alembics).code == 0
    assert recorded(alembics) == []
    last = ended(run_headstart("up", url=ours, cwd=project.folder, env=OFF), 10)
    assert ("finds no revision files" in last["error"], "%(here)s" in last["hint"]) == (True, True)


def test_does_not_find_its_version_table(twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Where Alembic would begin anew, because it looks elsewhere than it writes, nothing is run or claimed."""
    _, ours = twins
    migrates = "    connection.exec_driver_sql('create schema if not exists app')\n    connection.commit()\n"
    migrates += "    migrate(connection.execution_options(schema_translate_map={None: 'app'}))\n"
    project = built(tmp_path / "project", connects(migrates))
    assert alembic(project, ours).code == 0
    assert recorded(ours, "app.alembic_version") == ["c3"]
    before = left_behind(ours)
    last = ended(run_headstart("up", url=ours, cwd=project.folder, env=OFF), 10)
    assert (last["applied"], "app.alembic_version" in last["error"]) == ([], True)
    assert left_behind(ours) == before


CHANGES = {
    "reset all": "reset all",
    "the head of pg_dump's files": "set lock_timeout = 0; set statement_timeout = 0",
    "discard all": None,
}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
def test_timeouts_hold_again(
    statement: str | None, driver: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """What one revision sets or resets for its session does not last into the next one."""
    project = Project(tmp_path / "project", template="async" if driver == "asyncpg" else "generic")
    if statement is None:
        project.revision("a1", body="with op.get_context().autocommit_block():\n    op.execute('discard all')")
    else:
        project.revision("a1", statement)
    project.revision(
        "b2",
        "create table seen as select name, setting from pg_settings"
        " where name in ('lock_timeout', 'statement_timeout', 'client_connection_check_interval')",
        down="a1",
    )
    url = any_database.replace("postgresql:", f"postgresql+{driver}:")
    env = {**OFF, "HEADSTART_TABLE_LOCK_TIMEOUT": "7s", "HEADSTART_STATEMENT_TIMEOUT": "50s"}
    run = run_headstart("up", url=url, cwd=project.folder, env=env)
    assert run.code == 0, run
    seen = dict(psql(any_database, "select name, setting from seen"))
    expected = {"client_connection_check_interval": "500", "lock_timeout": "7000", "statement_timeout": "50000"}
    assert seen == expected


def test_what_env_py_has_set_holds_again(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """It is env.py's own timeout that holds again, where it has one."""
    text = "    connection.exec_driver_sql(\"set lock_timeout = '3s'\")\n    connection.commit()\n" + BLOCK
    project = Project(tmp_path / "project", template="generic")
    project.env.write_text(connects(text).text, encoding="utf-8")
    project.revision("a1", "set lock_timeout = 0")
    project.revision("b2", "create table seen as select current_setting('lock_timeout') t", down="a1")
    assert run_headstart("up", url=any_database, cwd=project.folder, env=OFF).code == 0
    assert psql(any_database, "select t from seen") == [("3s",)]


def alembic(project: Project, url: str, *words: str) -> Run:
    """Run Alembic's own command; `upgrade head` if no other."""
    env = environment(project.folder, {"DATABASE_URL": url})
    return process.alembic(*(words or ("upgrade", "head")), cwd=project.folder, env=env)
