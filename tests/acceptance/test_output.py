"""What verbs print: it can be written or the run has failed, and a terminal obeys nothing in it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended, planted
from support.postgres import script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.process import Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

#: A folder whose name is not UTF-8, as Python has it and as it is shown.
ODD, SHOWN = os.fsdecode(b"\xff\xfe"), r"\udcff\udcfe"


@pytest.fixture
def at_head(project: Project, headstart: Callable[..., Run], any_database: str) -> str:
    """A database at head, with a ledger."""
    project.revision("a1", "create table a (id int)", undo=["drop table a"])
    ended(headstart("up", url=any_database), 0)
    return any_database


PRINTING = (
    *("status", "status --json", "doctor", "doctor --json", "backups", "backups --json", "backups prune"),
    *("current", "history", "history --ledger", "history --source a1", "heads", "show a1", "sql", "check --rules"),
    *("--version", "--help", "upgrade --help", "history --help"),
)


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
def test_stdout_is_full(
    buffered: bool, project: Project, headstart: Callable[..., Run], at_head: str, tmp_path: Path
) -> None:
    """Data that could not be written is a failure (10), said in one line."""
    ended(headstart("backup", url=at_head), 0)
    redirect = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    env = planted(tmp_path, redirect) | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    for words in PRINTING:
        last = ended(headstart(*words.split(), url=at_head, env=env), 10)
        assert "No space left" in last["error"], words


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
def test_stdout_is_read_no_more(
    buffered: bool, project: Project, headstart: Callable[..., Run], at_head: str, tmp_path: Path
) -> None:
    """A reader that has seen enough (`| head -1`) is no failure."""
    redirect = "import os\nreading, writing = os.pipe()\nos.close(reading)\nos.dup2(writing, 1)\n"
    env = planted(tmp_path, redirect) | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    run = headstart("status", "--json", url=at_head, env=env)
    assert (run.code, run.events("run_finished")) == (0, []), str(run)
    assert "Traceback" not in run.stderr, str(run)


@pytest.mark.parametrize("words", [["history", "--ledger"], ["status"]], ids=" ".join)
@pytest.mark.parametrize("column", ["host", "image"])
def test_the_ledger_commands_no_terminal(
    words: list[str], column: str, project: Project, headstart: Callable[..., Run], at_head: str
) -> None:
    """Escapes and line breaks that a row of the ledger holds are shown, and make no line of their own."""
    script(at_head, rf"update headstart.ledger set {column} = E'\x1b[2Jhere\nrevision  forged'")
    run = headstart(*words, url=at_head)
    assert run.code == 0, str(run)
    assert r"\x1b[2Jhere\nrevision  forged" in run.stdout
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("4000-01-01 00:00:00+00 BC", "4000-01-01T00:00:00{} BC"),
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
        ("200000-01-02 03:04:05+00", "200000-01-02T03:04:05{}"),
        ("2026-01-02 03:04:05.678+00", "2026-01-02T03:04:05{}"),
    ],
)
def test_any_moment_of_the_ledger_is_shown(
    moment: str, shown: str, project: Project, headstart: Callable[..., Run], at_head: str
) -> None:
    """PostgreSQL has moments that Python has not."""
    script(at_head, f"update headstart.ledger set at = '{moment}'")
    run = headstart("history", "--ledger", url=at_head)
    assert (run.code, run.stdout.startswith(shown.format("Z") + "  applied")) == (0, True), str(run)
    run = headstart("status", "--json", url=at_head)
    assert (run.code, json.loads(run.stdout)["last_run"]["ended"]) == (0, shown.format("+00:00")), str(run)
    script(at_head, "update alembic_version set version_num = 'ffff'; update headstart.ledger set revision = 'ffff'")
    ended(headstart("up", url=at_head), 72)


def test_a_folder_with_any_name(project: Project, headstart: Callable[..., Run], at_head: str, tmp_path: Path) -> None:
    """A folder whose name is not UTF-8 is shown with escapes, on stdout, in the log and as JSON, and ends no run."""
    home = tmp_path / ended(headstart("backup", url=at_head), 0)["backup"] / os.pardir
    (home / ODD).mkdir()
    project.revision("b2", "create table b (id int)")
    for words in ("status", "status --json", "backups list", "backups list --json", "up", "doctor"):
        run = headstart(*words.split(), url=at_head)
        assert run.code == 0, str(run)
        assert words == "doctor" or any(SHOWN in line["path"] for line in run.events("backup_broken")), str(run)
    last = ended(headstart("backups", "verify", url=at_head), 40)
    assert SHOWN in last["error"]
    assert SHOWN in headstart("status", url=at_head, env={"HEADSTART_LOG": "console"}).stderr


@pytest.mark.parametrize(
    "words",
    ["upgrade {}", "revision -m {}", "backups verify {}", "restore {}", "status --backup-dir {}", "{}", "up -x a={}"],
)
@pytest.mark.parametrize("log", ["json", "console"])
def test_arguments_are_text(words: str, log: str, headstart: Callable[..., Run], any_database: str) -> None:
    """An argument that is not UTF-8 is a usage error that names it."""
    run = headstart(*words.format(ODD).split(), url=any_database, env={"HEADSTART_LOG": log})
    assert run.code == 2, str(run)
    assert "Traceback" not in run.stderr
    if log == "json":
        assert SHOWN in ended(run, 2)["error"]


@pytest.mark.fresh  # Python reads the variable when it starts
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", [["sql"], ["upgrade", "head", "--sql"]], ids=" ".join)
def test_sql_is_utf_8(
    words: list[str], encoding: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """Statements that are to be executed are the revision's, in UTF-8, whatever the locale lacks."""
    project.revision("a1", "select 'naïve ✓'")
    run = headstart(*words, url=any_database, env={"PYTHONIOENCODING": encoding})
    assert run.code == 0, str(run)
    assert "select 'naïve ✓'" in run.stdout


@pytest.mark.fresh
def test_json_is_utf_8(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """JSON on stdout is UTF-8 (RFC 8259), whatever the locale lacks; what is for people has `?` there."""
    project.revision("a1", doc="größer")
    env = {"PYTHONIOENCODING": "ascii", "HEADSTART_BACKUP_DIR": str(project.folder / "größer")}
    assert env["HEADSTART_BACKUP_DIR"] in headstart("doctor", "--json", url=any_database, env=env).stdout
    assert "gr??er" in headstart("history", url=any_database, env=env).stdout
