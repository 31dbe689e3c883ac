"""The Kubernetes termination message: the last line of a failing run, where `kubectl describe pod` shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import headstart.cli.termination
from support.postgres import psql
from support.project import Project

# The place is the kubelet's, which a test cannot be: the process is told another one, and is otherwise the real thing.
PROGRAM = """
import os, sys
from pathlib import Path
import headstart.cli.main
import headstart.cli.termination
from headstart.cli.signals import Interrupt
headstart.cli.termination.TERMINATION_LOG = Path(sys.argv[1])
sys.exit(headstart.cli.main.main(["up"], os.environ, Interrupt()))
"""


def _up(message: Path, url: str, cwd: Path) -> tuple[int, dict[str, Any], str]:
    environ = {"DATABASE_URL": url, "PATH": os.environ["PATH"], "HOME": str(cwd), "HEADSTART_LOG": "json"}
    argv = [sys.executable, "-c", PROGRAM, str(message)]
    done = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stderr.splitlines()[-1]), done.stdout + done.stderr


def test_a_failing_run_says_there_what_its_last_line_says(any_database: str, tmp_path: Path) -> None:
    """Outcome, exit code, error and hint are those of `run_finished`, and replace what stood there."""
    project = Project(tmp_path)
    project.revision("a1", "select nonsense")
    message = tmp_path / "termination-log"
    message.write_text("x" * 9000, encoding="utf-8")
    code, last, _ = _up(message, any_database, project.folder)
    said = json.loads(message.read_text(encoding="utf-8"))
    assert code == said["exit_code"] == last["exit_code"] == 60
    assert {key: said[key] for key in ("outcome", "error", "hint", "failed")} == {
        key: last[key] for key in ("outcome", "error", "hint", "failed")
    }


def test_no_secret_gets_there(any_database: str, tmp_path: Path) -> None:
    """An error that quotes the URL is told without the password."""
    password = "p@ss:/w%'quote"
    psql(any_database, f"create role teller login superuser password '{password.replace(chr(39), chr(39) * 2)}'")
    try:
        host = any_database.split("@", 1)[1]
        url = f"postgresql://teller:{quote(password, safe='')}@{host}"
        project = Project(tmp_path)
        project.in_env("import os\nraise RuntimeError(os.environ['DATABASE_URL'])")
        project.revision("a1", "select 1")
        message = tmp_path / "termination-log"
        message.touch()
        code, _, printed = _up(message, url, project.folder)
        said = message.read_text(encoding="utf-8")
        assert code == json.loads(said)["exit_code"] == 10
        for text in (said, printed):
            assert password not in text
            assert quote(password, safe="") not in text
    finally:
        psql(any_database, "drop role teller")


def test_a_good_run_says_nothing(any_database: str, tmp_path: Path) -> None:
    """What stands there after a success is for the program that follows."""
    project = Project(tmp_path)
    project.revision("a1", "select 1")
    message = tmp_path / "termination-log"
    message.touch()
    assert _up(message, any_database, project.folder)[0] == 0
    assert message.read_text(encoding="utf-8") == ""


def test_a_long_one_is_cut_with_sense(any_database: str, tmp_path: Path) -> None:
    """It stays JSON in what the kubelet keeps: the cause and the remedy first, a list as how many it has."""
    project = Project(tmp_path)
    revisions = [f"a{number:0>29}" for number in range(200)]
    for revision in revisions:
        project.revision(revision, "select 1")
    project.revision("failing", "do $$ begin raise exception using message = repeat('é\n', 9000); end $$")
    message = tmp_path / "termination-log"
    message.touch()
    code, last, _ = _up(message, any_database, project.folder)
    kept = message.read_bytes()
    said = json.loads(kept)
    assert code == said["exit_code"] == 60
    assert len(kept) <= 4_000
    assert list(said)[:5] == ["outcome", "exit_code", "error", "hint", "failed"]
    assert said["error"].startswith(last["error"][:100])
    assert (said["failed"], said["revision_after"], said["applied"]) == ("failing", revisions[-1], 200)


def test_a_list_that_fits_is_told(any_database: str, tmp_path: Path) -> None:
    """What was left behind stands there, with what to type; one that does not fit is counted."""
    project = Project(tmp_path)
    build = "op.execute('create unique index concurrently a_id on a (id)')"
    project.revision("a1", "create table a (id int)", "insert into a values (1), (1)")
    project.revision("b2", body=f"with op.get_context().autocommit_block():\n    {build}")
    message = tmp_path / "termination-log"
    message.touch()
    code, last, _ = _up(message, any_database, project.folder)
    said = json.loads(message.read_text(encoding="utf-8"))
    assert code == 61
    assert said["leftovers"] == last["leftovers"]
    assert (said["revision_after"], said["applied"]) == ("a1", 1)
    kept = json.loads(headstart.cli.termination.message({"leftovers": ["x" * 100] * 90, "outcome": "partly_committed"}))
    assert kept == {"outcome": "partly_committed", "leftovers": 90}
