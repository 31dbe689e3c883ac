"""An env.py or a revision that does to its process what it should not: each ends with its code, one line, the truth."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.faults import processes
from support.postgres import psql
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.process import Run
    from support.project import Project

pytestmark = pytest.mark.fresh

OFF = {"HEADSTART_BACKUP": "off"}

ENDS = {
    "sys.exit(0)": ("import sys\nsys.exit(0)", 10, "sys.exit"),
    "os._exit(0)": ("import os\nos._exit(0)", 10, "exit status 0"),
    "SIGKILL, as for want of memory": ("import os\nos.kill(os.getpid(), 9)", 63, "SIGKILL: out of memory?"),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", 63, "SIGSEGV"),
    "a driver that is missing": (
        "import sqlalchemy\nsqlalchemy.create_engine('postgresql+pg8000://localhost/x').connect()",
        10,
        "pg8000",
    ),
    "another database": (
        "import sqlite3\nconfig.set_main_option('sqlalchemy.url', 'sqlite+aiosqlite://')",
        10,
        "sqlite",
    ),
    "descriptors closed": ("import os\nos.closerange(3, 1024)", 10, "closed its descriptors"),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_env_py_that_ends_its_process(
    name: str,
    project: Project,
    headstart: Callable[..., Run],
    any_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The failure has its own cause, the database is untouched, and no process is left."""
    code, expected, cause = ENDS[name]
    project.revision("a1", "create table a (id int)")
    project.in_env(code)
    before = fingerprint(any_database)
    home = tmp_path_factory.mktemp("own")
    run = headstart("up", url=any_database, env={**OFF, "HOME": str(home)})
    last = ended(run, expected)
    assert cause in f"{last['error']} {last['hint']}"
    assert fingerprint(any_database) == before
    assert processes(home) == []


def test_an_env_py_that_hangs(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The deadline ends it, whatever it does with the signals that are sent to it."""
    project.revision("a1", "create table a (id int)")
    project.in_env("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    home = tmp_path_factory.mktemp("own")
    run = headstart("up", url=any_database, env={**OFF, "HOME": str(home), "HEADSTART_DEADLINE": "3s"})
    assert "HEADSTART_DEADLINE" in ended(run, 10)["error"]
    assert run.seconds < 15
    assert processes(home) == []


GOES_ON = {
    "a child process that is left behind": "import subprocess\nsubprocess.Popen(['sleep', '60'])",
    "a fork that ends": "import os\npid = os.fork()\nif pid == 0:\n    os._exit(3)\nos.waitpid(pid, 0)",
    "a fork that stays": "import os, time\nif os.fork() == 0:\n    time.sleep(60)",
    "a thread that stays": "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=1).start()",
    "bytes that are no text": "import os\nos.write(1, bytes(range(256)) + b'\\n')\nos.write(2, b'\\xff\\xfe')",
    "a line without an end": "import os\nos.write(1, b'x' * 300_000)",
    "a flood": "import os\nfor _ in range(2000):\n    os.write(1, (b'z' * 999 + b'\\n') * 60)",
    "a fork that asks the database": (
        "import asyncio, os, multiprocessing, sqlalchemy as sa\n"
        "def ask():\n"
        "    url = os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg2:')\n"
        "    assert sa.create_engine(url).connect().scalar(sa.text('select 1')) == 1\n"
        "child = multiprocessing.get_context('fork').Process(target=ask)\n"
        "child.start()\nchild.join()\nassert child.exitcode == 0"
    ),
    "another folder": "import os\nos.chdir('/')",
    "another umask": "import os\nos.umask(0o777)",
    "another locale": "import locale, os\nos.environ['LC_ALL'] = 'C'\nlocale.setlocale(locale.LC_ALL, 'C')",
    "signals ignored": "from signal import *\nfor each in (SIGTERM, SIGINT):\n    signal(each, SIG_IGN)",
    "streams replaced": "import io, sys\nsys.stdout = sys.stderr = io.StringIO()",
    "streams closed": "import sys\nsys.stdout.close()\nsys.stderr.close()",
    "exit functions": "import atexit, os\natexit.register(os._exit, 5)",
}


@pytest.mark.parametrize("name", GOES_ON)
def test_an_env_py_that_changes_its_process(
    name: str,
    project: Project,
    headstart: Callable[..., Run],
    any_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It is env.py's own process: the migration succeeds, the log stays JSON, stdout stays empty, nothing is left."""
    project.revision("a1", "create table a (id int)")
    project.in_env(GOES_ON[name])
    home = tmp_path_factory.mktemp("own")
    run = headstart("up", url=any_database, env={**OFF, "HOME": str(home)})
    ended(run, 0)
    assert run.stdout == ""
    assert len(run.log) == len(run.stderr.splitlines()), run
    assert recorded(any_database) == ["a1"]
    assert processes(home) == []


def test_an_env_py_that_migrates_in_a_process_of_its_own(
    project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What nobody hears of is not run: the log says why, and nothing is changed."""
    project.revision("a1", "create table a (id int)")
    text = project.env.read_text(encoding="utf-8").replace("run_migrations_online()\n", "in_a_process()\n")
    more = """
        import multiprocessing


        def in_a_process():
            process = multiprocessing.get_context("fork").Process(target=run_migrations_online)
            process.start()
            process.join()
            assert process.exitcode == 0


        if context.is_offline_mode():"""
    project.env.write_text(text.replace("if context.is_offline_mode():", textwrap.dedent(more)), encoding="utf-8")
    run = headstart("up", url=any_database, env=OFF)
    ended(run, 10)
    assert any("in a process that it has forked" in line.get("message", "") for line in run.log), run
    assert recorded(any_database) == []


@pytest.mark.parametrize(
    ("code", "expected", "cause"),
    [
        ("import os\nos._exit(0)", 60, "exit status 0"),
        ("import os\nos.kill(os.getpid(), 9)", 63, "SIGKILL"),
        ("import os\nos.closerange(3, 1024)\nop.execute('select 1')", 60, "descriptors"),
    ],
    ids=["os._exit", "SIGKILL", "descriptors closed"],
)
def test_a_revision_that_ends_its_process(
    code: str, expected: int, cause: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What was committed before stays and is listed, the revision is rolled back, and the report says so."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", body=f"op.execute('create table b (id int)')\n{code}")
    last = ended(headstart("up", url=any_database, env=OFF), expected)
    assert cause in last["error"]
    assert (last["applied"], last["failed"], last["revision_after"]) == (["a1"], "b2", "a1")
    assert recorded(any_database) == ["a1"]
    assert psql(any_database, "select to_regclass('b') is null") == [(True,)]


def test_what_env_py_does_after_the_migrations(
    project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """An env.py that fails when all is committed is no success, and nobody is told that nothing was changed."""
    project.revision("a1", "create table a (id int)")
    with project.env.open("a", encoding="utf-8") as file:
        file.write("\nimport pathlib\nif pathlib.Path('seen').exists():\n    raise RuntimeError('afterwards')\n")
        file.write("pathlib.Path('seen').touch()\n")
    last = ended(headstart("up", url=any_database, env=OFF), 60)
    assert "afterwards" in last["error"]
    assert (last["applied"], last["revision_after"], last.get("pending", [])) == (["a1"], "a1", [])
    assert "nothing was changed" not in f"{last['error']} {last['hint']}"


def test_what_an_app_does_at_its_exit(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """What env.py has registered with atexit gets its time, such as an app's last report to its monitoring."""
    project.revision("a1", "create table a (id int)")
    project.in_env(
        "import atexit, pathlib, time\n"
        "def report():\n    time.sleep(3)\n    pathlib.Path('reported').touch()\n"
        "atexit.register(report)"
    )
    run = headstart("up", url=any_database, env=OFF)
    ended(run, 0)
    assert (project.folder / "reported").exists()
    assert not run.events("env_cut_short")


def test_an_app_configures_its_logging(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """Handlers, levels and raw writes of an app's own work as their author meant, and each line is one log line."""
    project.revision("a1", body="import logging\nlogging.getLogger('app').info('from a revision')")
    text = project.env.read_text(encoding="utf-8")
    kept = "fileConfig(config.config_file_name, disable_existing_loggers=False)"
    project.env.write_text(text.replace("fileConfig(config.config_file_name)", kept), encoding="utf-8")
    project.in_env(
        """
        import logging, logging.config, os
        logging.config.dictConfig({
            "version": 1,
            "formatters": {"own": {"format": "<%(name)s> %(message)s"}},
            "handlers": {
                "file": {"class": "logging.FileHandler", "filename": "app.log", "formatter": "own"},
                "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "own"},
            },
            "loggers": {"app": {"handlers": ["file", "out"], "level": "DEBUG"}},
        })
        logging.getLogger("app").debug("from env.py")
        os.write(1, b"raw, to stdout\\n")
        os.write(2, b"raw, to stderr\\n")
        """
    )
    run = headstart("up", url=any_database, env=OFF)
    ended(run, 0)
    said = [line["message"] for line in run.events("script_output")]
    assert {"<app> from env.py", "<app> from a revision", "raw, to stdout", "raw, to stderr"} <= set(said)
    assert run.stdout == ""
    assert len(run.log) == len(run.stderr.splitlines())
    assert "<app> from a revision" in (tmp_path / "app.log").read_text(encoding="utf-8")


def test_all_that_an_env_py_said(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """An env.py that fails with a list of what is missing is reported whole, with the calls that lead to it."""
    project.revision("a1", "create table a (id int)")
    helper = project.env.parent / "own_settings.py"
    helper.write_text("def read():\n    raise ValueError('2 mistakes\\nhost: missing\\nport: no number')\n", "utf-8")
    project.in_env(f"import sys\nsys.path.append({str(helper.parent)!r})\nimport own_settings\nown_settings.read()")
    last = ended(headstart("up", url=any_database, env=OFF), 10)
    assert last["detail"] == "host: missing\nport: no number"
    assert last["calls"][0].startswith(f"{project.env}:")
    assert last["calls"][-1] == f"{helper}:2 in read"
