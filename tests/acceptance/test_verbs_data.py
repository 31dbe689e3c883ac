"""stdout of Alembic's verbs is what `alembic` prints, whatever env.py, the revisions and the app print meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.postgres import psql
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.process import Run
    from support.project import Project

# What an app does when it is imported: it prints, writes to the descriptors, and logs to stdout by its own handler.
NOISE = """\
import logging, os, subprocess, sys
print("NOISE printed by {who}")
print("NOISE printed by {who}", file=sys.stderr)
os.write(1, b"NOISE on descriptor 1\\n")
os.write(2, b"NOISE on descriptor 2, without an end")
os.write(2, b"\\n")
subprocess.run(["echo", "NOISE of a child"], check=True)
logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, force=True)
logging.getLogger("app").warning("NOISE logged by {who}")
"""


@pytest.fixture
def project(project: Project) -> Project:
    """Two revisions whose SQL has what is easily garbled: a percent sign, a colon, an umlaut."""
    project.revision("aaaa1111", "create table a (id int)", undo=["drop table a"], doc="Make a")
    project.revision("bbbb2222", "insert into a select 7 % 4 -- 100% ü", undo=["delete from a"], doc="Fill a: ü")
    return project


@pytest.fixture
def at_head(project: Project, headstart: Callable[..., Run], any_database: str) -> str:
    """A database that `up` has brought to head."""
    ended(headstart("up", url=any_database), 0)
    return any_database


def noisy(project: Project) -> None:
    """Have env.py and each revision make noise."""
    project.in_env(NOISE.format(who="env.py"))
    for path in project.versions.glob("*.py"):
        text = path.read_text(encoding="utf-8").replace("from alembic import op\n", "from alembic import op\n{noise}")
        path.write_text(text.replace("{noise}", NOISE.format(who="a revision")), encoding="utf-8")


def stock(project: Project, url: str, *words: str) -> str:
    """What the stock command prints to stdout, with that URL in a configuration of its own."""
    ini = project.ini.with_name("stock.ini")
    text = project.ini.read_text(encoding="utf-8")
    ini.write_text(text.replace("driver://user:pass@localhost/dbname", url.replace("%", "%%")), encoding="utf-8")
    argv = [sys.executable, "-m", "alembic", "-c", str(ini), *words]
    return subprocess.run(
        argv, cwd=project.folder, capture_output=True, encoding="utf-8", check=True, timeout=120
    ).stdout


def only_log(run: Run) -> None:
    """Check that each line of stderr is one of the log's."""
    for line in run.stderr.splitlines():
        assert isinstance(json.loads(line), dict), line


@pytest.mark.parametrize(
    "words",
    [
        "current",
        "current --check-heads",
        "history",
        "history --verbose",
        "history --indicate-current",
        "history -r current:",
        "history --rev-range aaaa1111:bbbb2222",
        "heads",
        "heads --verbose",
        "show bbbb2222",
        "show current",
        "upgrade head --sql",
        "upgrade aaaa1111:bbbb2222 --sql",
        "downgrade bbbb2222:base --sql",
        "stamp head --sql",
    ],
)
def test_as_alembic_prints_it(words: str, project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """The data is Alembic's to the letter, and every line of stderr is a log line, whatever else is printed."""
    expected = stock(project, at_head.replace("postgresql:", "postgresql+asyncpg:"), *words.split())
    assert expected
    noisy(project)
    before = fingerprint(at_head)
    run = headstart(*words.split(), url=at_head)
    assert (run.code, run.stdout) == (0, expected), str(run)
    only_log(run)
    said = [line["message"] for line in run.events("script_output")]
    for noise in ("NOISE printed by a revision", "NOISE on descriptor 1", "NOISE on descriptor 2, without an end"):
        assert noise in said
    assert fingerprint(at_head) == before


def test_sql_is_alembics(project: Project, headstart: Callable[..., Run]) -> None:
    """`sql` prints what `alembic upgrade head --sql` prints with a plain URL, and needs no database."""
    expected = stock(project, "postgresql://", "upgrade", "head", "--sql")
    assert "7 % 4" in expected or "7 %% 4" in expected
    noisy(project)
    run = headstart("sql")
    assert (run.code, run.stdout) == (0, expected), str(run)
    only_log(run)


@pytest.mark.parametrize("words", ["revision -m more", "revision --autogenerate -m more", "merge heads -m more"])
def test_paths_of_files(words: str, project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """The data of what writes a file is its path, whatever env.py, the revisions and a hook print meanwhile."""
    text = project.env.read_text(encoding="utf-8")
    models = "import sqlalchemy as sa\ntarget_metadata = sa.MetaData()\n"
    models += "sa.Table('b', target_metadata, sa.Column('id', sa.Integer))\n"
    project.env.write_text(text.replace("target_metadata = None\n", models), encoding="utf-8")
    if words.startswith("merge"):
        project.revision("cccc3333", "select 1", down="aaaa1111")
    noisy(project)
    hook = "hooks = ours\nours.type = exec\nours.executable = echo\nours.options = NOISE of a hook\n"
    ini = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(ini.replace("[loggers]", f"[post_write_hooks]\n{hook}\n[loggers]", 1), encoding="utf-8")
    before = set(project.versions.glob("*.py"))
    run = headstart(*words.split(), url=at_head)
    assert run.code == 0, str(run)
    [written] = set(project.versions.glob("*.py")) - before
    assert run.stdout == f"{written}\n"
    only_log(run)
    assert any("NOISE of a hook" in line["message"] for line in run.events("script_output"))


def test_data_before_a_failure(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """`current --check-heads` of a database that is not at head is exit 80, and names what it is not."""
    project.revision("cccc3333", "select 1")
    last = ended(headstart("current", "--check-heads", url=at_head), 80)
    assert "head" in last["error"]
    assert "headstart up" in last["hint"]


@pytest.mark.parametrize(
    "words", [("current", "--no-such-option"), ("upgrade",), ("show", "a", "b"), ("stamp", "--purge")], ids=" ".join
)
def test_usage(words: tuple[str, ...], project: Project, headstart: Callable[..., Run]) -> None:
    """What Alembic's own parser refuses is a usage error in one line, with the verb's help as its hint."""
    run = headstart(*words)
    last = ended(run, 2)
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""
    assert f"headstart {words[0]} --help" in last["hint"]


def test_a_history_that_cannot_be_loaded(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """A revision file that fails when it is imported is exit 70 for every verb, with its place."""
    path = project.write(
        "cccc3333.py", "revision = 'cccc' + '3333'\ndown_revision = 'bbbb2222'\nimport no_such_module\n"
    )
    for words in (["history"], ["current"], ["revision", "-m", "x"]):
        assert f"{path}:3" in ended(headstart(*words, url=at_head), 70)["error"]


def test_an_env_py_that_writes(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """An env.py that insists on committing is run under the lock; otherwise what it writes is rolled back."""
    text = project.env.read_text(encoding="utf-8")
    writing = "    connection.exec_driver_sql('create schema if not exists app')\n"
    configured = "    context.configure(connection=connection,"
    assert configured in text
    project.env.write_text(text.replace(configured, writing + configured), encoding="utf-8")
    run = headstart("current", url=at_head)
    assert (run.code, run.stdout) == (0, "bbbb2222 (head)\n"), str(run)
    assert run.events("env_writes") + run.events("lock_obtained") == []
    assert psql(at_head, "select to_regnamespace('app') is null") == [(True,)]
    project.env.write_text(text.replace(configured, f"{writing}    connection.exec_driver_sql('commit')\n{configured}"))
    run = headstart("current", url=at_head)
    assert (run.code, run.stdout) == (0, "bbbb2222 (head)\n"), str(run)
    assert run.events("env_writes")
    assert run.events("lock_obtained")


def test_another_database(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """Alembic is never configured with another database than that of DATABASE_URL: exit 10, and nothing is printed."""
    text = project.env.read_text(encoding="utf-8")
    url = any_database.rpartition("/")[0].replace("postgresql:", "postgresql+asyncpg:") + "/postgres"
    opened = "    async with connectable.connect() as connection:\n"
    assert opened in text
    other = (
        f"    from sqlalchemy.ext.asyncio import create_async_engine\n    connectable = create_async_engine({url!r})\n"
    )
    project.env.write_text(text.replace(opened, other + opened), encoding="utf-8")
    run = headstart("current", url=any_database)
    assert "DATABASE_URL" in ended(run, 10)["error"]
    assert run.stdout == ""


def test_an_empty_database_stays_empty(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """No verb that reads makes the version table."""
    for words in (["current"], ["history", "-i"], ["show", "current"]):
        assert headstart(*words, url=any_database).code == 0
    assert recorded(any_database) == []
    assert psql(any_database, "select to_regclass('alembic_version')") == [(None,)]


def test_where_env_py_belongs_to_revision(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """With `revision_environment = true`, `revision` runs env.py, in the database of DATABASE_URL if there is one."""
    ini = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(ini.replace("[alembic]\n", "[alembic]\nrevision_environment = true\n", 1), encoding="utf-8")
    project.in_env("print('env.py ran')")
    run = headstart("revision", "-m", "x", url=at_head)
    assert run.code == 0, str(run)
    assert Path(run.stdout.strip()).is_file()
    assert "env.py ran" in [line["message"] for line in run.events("script_output")]
