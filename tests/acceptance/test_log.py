"""The log as a machine and as a person read it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import Session, ended, path_of
from support.postgres import script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NOISY = """\
import logging, sys, warnings
print("printed to stdout")
print("printed to stderr", file=sys.stderr)
logging.getLogger("theirs").warning("logged with %s", "an argument")
warnings.warn("a warning", stacklevel=1)
logging.basicConfig(level=logging.DEBUG, force=True)
op.execute("do $$ begin raise notice 'from the server'; end $$")
"""


@pytest.fixture
def busy(project: Project, any_database: str) -> str:
    """A run that does everything: waits for a table lock, backs up, and has a noisy env.py and a noisy revision."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "alter table a add column x int")
    project.revision("c3", body=NOISY)
    project.in_env("import logging\nlogging.basicConfig(level=logging.DEBUG)\nprint('env.py was here')")
    script(
        any_database,
        "create table a (id int);"
        "create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);"
        "insert into alembic_version values ('a1')",
    )
    return any_database


def test_json_lines(busy: str, begin_headstart: Callable[..., Any]) -> None:
    """Every line is a JSON object with timestamp, level, event and run_id; durations and sizes bear their unit."""
    with Session(busy, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        process = begin_headstart("up", url=busy, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "200ms"})
        process.wait_for("revision_retried")
        somebody.execute("rollback")
        run = process.finish()
    last = ended(run, 0)
    assert run.stdout == ""
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    for line in lines:
        assert list(line)[:4] == ["timestamp", "level", "event", "run_id"], line
        assert RFC_3339.fullmatch(line["timestamp"]), line
        assert line["level"] in {"info", "warning", "error"}, line
        assert re.fullmatch(r"[a-z][a-z0-9_]*", line["event"]), line
        assert line["run_id"] == last["run_id"]
        for name, value in _fields(line):
            if isinstance(value, float):
                assert name.endswith("_seconds"), f"{name} is a number without a unit: {line}"
            if name.endswith(("_seconds", "_bytes")):
                assert isinstance(value, int | float), line
            if isinstance(value, int | float) and re.search(r"size|duration|elapsed|time$", name):
                raise AssertionError(f"{name} is named for no unit: {line}")
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
    told = " ".join(str(line.get("message")) for line in lines)
    for text in ("env.py was here", "printed to stdout", "printed to stderr", "logged with an argument", "a warning"):
        assert text in told, str(run)


def test_run_finished(busy: str, headstart: Callable[..., Run]) -> None:
    """`run_finished` has what the contract says: outcome, exit code, revisions, applied, backup, each stage's time."""
    last = ended(headstart("up", url=busy), 0)
    assert {"outcome", "exit_code", "revision_before", "revision_after", "applied", "backup"} <= set(last)
    stages = {name for name in last if name.endswith("_seconds")}
    assert {"wait_seconds", "compare_seconds", "lock_seconds", "backup_seconds", "upgrade_seconds"} <= stages
    assert {"verify_seconds", "total_seconds"} <= stages
    assert last["total_seconds"] >= max(last[stage] for stage in stages - {"total_seconds"})
    for name in ("outcome", "revision_before", "revision_after", "backup"):
        assert isinstance(last[name], str)


def test_order_of_events(busy: str, headstart: Callable[..., Run]) -> None:
    """The log tells the story in order: ready, lock, plan, backup, each revision, verified, finished."""
    run = headstart("up", url=busy)
    told = [line["event"] for line in run.log]
    story = ["run_started", "server_ready", "lock_obtained", "plan", "backup_started", "backup_taken"]
    story += ["revision_applied", "revision_applied", "verified", "run_finished"]
    assert [event for event in told if event in set(story)] == story, str(run)
    for line in run.events("revision_applied"):
        assert line["revision"] in {"b2", "c3"}
        assert line["description"] == f"the change {line['revision']}"
        assert any(name.endswith("_seconds") for name in line)


@pytest.mark.parametrize("given", ["flag", "environment"])
def test_console(given: str, busy: str, headstart: Callable[..., Run]) -> None:
    """HEADSTART_LOG=console is for a person, without JSON, and ends with how it went."""
    words, env = (["--log", "console"], {}) if given == "flag" else ([], {"HEADSTART_LOG": "console"})
    run = headstart("up", *words, url=busy, env=env)
    assert run.code == 0, str(run)
    assert not any(line.startswith("{") for line in run.stderr.splitlines())
    assert "\x1b[" not in run.stderr, "colours are for terminals"
    assert "b2" in run.stderr


def test_console_of_a_failure(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A person is told cause and remedy of a failure, too."""
    project.revision("a1", "select broken")
    run = headstart("up", "--log", "console", url=any_database)
    assert run.code == 60
    assert 'column "broken" does not exist' in run.stderr
    assert "correct the revision" in run.stderr
    assert "Traceback" not in run.stderr


def test_auto_on_a_terminal(busy: str, any_server: Postgres, project: Project) -> None:
    """On a terminal `auto` is console."""
    text = _on_a_terminal(["up"], {"PATH": path_of(any_server), "DATABASE_URL": busy}, project.folder)
    assert "b2" in text
    assert '{"timestamp"' not in text


def test_json_on_a_terminal(busy: str, any_server: Postgres, project: Project) -> None:
    """`json` stays JSON on a terminal."""
    env = {"PATH": path_of(any_server), "DATABASE_URL": busy, "HEADSTART_LOG": "json"}
    text = _on_a_terminal(["up"], env, project.folder)
    assert all(line.startswith('{"timestamp"') for line in text.splitlines()), text


def test_stderr_without_unicode(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A stderr that cannot show every character does not end the run."""
    project.revision("a1", doc="größer → 数据库")
    run = headstart("up", url=any_database, env={"LANG": "C", "PYTHONIOENCODING": "ascii"})
    assert ended(run, 0)["applied"] == ["a1"]


def test_stderr_is_closed(project: Project, any_server: Postgres, any_database: str) -> None:
    """A log that nobody can read any more does not keep the database from being brought to head."""
    project.revision("a1", "create table a (id int)")
    reading, writing = os.pipe()
    os.close(reading)
    env = {"PATH": path_of(any_server), "HOME": str(project.folder), "DATABASE_URL": any_database}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "headstart", "status"],
            env=env,
            cwd=project.folder,
            stdout=subprocess.PIPE,
            stderr=writing,
            check=False,
            text=True,
        )
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert "a1" in done.stdout


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _fields(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _fields(item, name)
    else:
        yield name, value


def _on_a_terminal(words: list[str], env: dict[str, str], folder: Path) -> str:
    """What headstart writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "headstart", *words],
        env={"HOME": str(folder), "TERM": "xterm", "LANG": "C.UTF-8", **env},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:  # the other side has gone: the end
        pass
    finally:
        os.close(ours)
        process.wait()
    assert process.returncode == 0, text.decode(errors="replace")
    return text.decode().replace("\r\n", "\n")


def test_a_revision_id_that_is_no_text(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """What is no character is shown as an escape, in a line that is JSON all the same."""
    project.write("a1.py", 'revision = "r\\ud8001"\ndown_revision = None\n\n\ndef upgrade():\n    pass\n')
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    assert run.code in {10, 60, 70}, str(run)
    assert "Traceback" not in run.stderr
    assert "r\\ud8001" in run.last["error"], str(run)
