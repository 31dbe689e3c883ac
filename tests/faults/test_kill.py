"""What cannot be answered: kill -9 of the run, of the server, of its sessions, and a network that is cut.

After each of them a second run succeeds, nothing is applied twice, and no half of a backup passes for one.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.faults import (
    PSYCOPG2,
    PYTHON,
    STATEMENTS,
    Phase,
    Scene,
    at_work,
    bystander,
    failed,
    nothing_left,
    partial_backups,
    processes,
    whole_backups,
    worker_of,
)
from support.postgres import psql
from support.project import recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from conftest import StartServer
    from support.faults import Starter

pytestmark = pytest.mark.fresh

QUICK = Phase("pass")
SUPERVISOR = "headstart ________ %"  # a run's id is eight characters
SLEEP = STATEMENTS["sleep"]

AFTERWARDS = 12.0
"""Seconds allowed for a second run after a first that was killed: a few, and more on a machine that is busy."""


@pytest.fixture
def own_scene(tmp_path: Path, start_server: StartServer, start_headstart: Starter) -> Scene:
    """A scene on a server of the test's own, which it may kill: what is committed there is to survive that."""
    return Scene(tmp_path, start_server(settings={"synchronous_commit": "on"}), start_headstart)


def terminate(url: str, name: str) -> None:
    """End the sessions of a name from outside, as an administrator would."""
    ended = psql(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and application_name like $1",
        name,
    )
    assert ended, f"there is no session {name}"


# -- the run is killed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STATEMENTS, *PYTHON])
def test_killed_in_a_revision(scene: Scene, name: str, record_property: Any) -> None:
    """The server notices within moments that the run is gone, and the next one finishes the job."""
    phase = {**STATEMENTS, **PYTHON}[name]
    with scene.stopped_at(phase) as process:
        process.send(signal.SIGKILL)
        assert process.finish().code == -signal.SIGKILL
        eventually(lambda: processes(scene.home) == [], "the worker to be gone", seconds=5)
        if name == "concurrent index":  # it waits for the bystander, and its session is to notice all the same
            record_property("until a killed run's concurrent build is gone", nothing_left(scene.url))
        if phase.blocker and name != "concurrent index":
            nothing_left(scene.url)
    began = time.monotonic()
    scene.again()
    seconds = time.monotonic() - began
    record_property(f"the run after one that was killed in: {name}", seconds)
    assert seconds < AFTERWARDS
    nothing_left(scene.url)


def test_killed_with_children_of_env_py(scene: Scene) -> None:
    """What env.py has started ends with the run, even if the run is killed."""
    head = "import subprocess\nsubprocess.Popen(['sleep', '60'])"
    with scene.stopped_at(SLEEP._replace(head=head)) as process:
        eventually(lambda: any("sleep 60" in each for each in processes(scene.home)), "the child of env.py")
        process.send(signal.SIGKILL)
        process.finish()
        eventually(lambda: processes(scene.home) == [], "all of it to be gone", seconds=5)
    nothing_left(scene.url)


@pytest.mark.parametrize("name", [*STATEMENTS, *PYTHON])
def test_the_worker_is_killed(scene: Scene, name: str) -> None:
    """The run says how its worker ended, and what the database records; nothing is left, and the next run succeeds."""
    phase = {**STATEMENTS, **PYTHON}[name]
    with scene.stopped_at(phase) as process:
        os.kill(worker_of(scene.home), signal.SIGKILL)
        # A concurrent build leaves an INVALID index, and a statement in an autocommit block is committed.
        last = failed(process.finish(), *((61, 63) if name in {"concurrent index", "autocommit"} else (63,)))
        assert "SIGKILL" in last["error"]
        assert [last["revision_after"]] == recorded(scene.url)
        assert last["applied"] == scene.journal()
        nothing_left(scene.url)
        assert processes(scene.home) == []
    if "leftovers" not in last:
        scene.again()


def test_killed_while_pg_dump_copies(bulky_scene: Scene, record_property: Any) -> None:
    """The orphaned dump is ended by the next run, and the half of a backup that it left is swept away."""
    scene = bulky_scene
    scene.project(QUICK)
    with scene.start(HEADSTART_BACKUP="auto", HEADSTART_BACKUP_JOBS="2") as process:
        at_work(scene.url, "^copy public.bulk")
        process.send(signal.SIGKILL)
        process.finish()
        assert whole_backups(scene.backups) == []
        left = partial_backups(scene.backups)
        assert len(left) == 1
        began = time.monotonic()
        scene.again(HEADSTART_BACKUP="auto")
        record_property("the run after one that was killed while pg_dump copies", time.monotonic() - began)
    assert len(whole_backups(scene.backups)) == 1
    assert partial_backups(scene.backups) == []
    eventually(lambda: processes(scene.home) == [], "no pg_dump")


def test_killed_while_pg_dump_waits(scene: Scene) -> None:
    """A dump of a killed run that waits for a table is ended by the next run: it would hold up the migration."""
    scene.project(QUICK)
    with bystander(scene.url, "lock table item in access exclusive mode") as leave:
        with scene.start(HEADSTART_BACKUP="auto") as process:
            at_work(scene.url, "lock table", on="Lock")
            process.send(signal.SIGKILL)
            process.finish()
            with scene.start(HEADSTART_BACKUP="auto") as second:
                second.wait_for("orphaned_dump_ended")
                second.wait_for("backup_started")
                leave()
                run = second.finish()
        assert run.code == 0, run
    assert scene.journal() == ["r2", "r3", "r4"]
    assert len(whole_backups(scene.backups)) == 1
    assert partial_backups(scene.backups) == []
    eventually(lambda: processes(scene.home) == [], "no pg_dump")


# -- the server is killed ----------------------------------------------------------------------------------------------


def test_a_server_that_is_away_and_comes_back(own_scene: Scene) -> None:
    """A run that waits while the server is shut down goes on once it is there again."""
    scene = own_scene
    scene.project(QUICK)
    scene.server.shut_down("immediate")
    with scene.start() as process:
        process.wait_for("server_not_ready")
        scene.server.start_up()  # which recovers first
        run = process.finish()
    assert run.code == 0, run
    assert scene.journal() == ["r2", "r3", "r4"]


def test_the_server_dies_while_a_run_waits_for_head(own_scene: Scene) -> None:
    """Waiting for head goes on with the next server."""
    scene = own_scene
    scene.project(QUICK)
    with scene.start("wait", "--for", "head") as process:
        process.wait_for("revision_waiting")
        scene.server.shut_down("immediate")
        process.wait_for("server_not_ready")
        scene.server.start_up()
        scene.again()
        assert process.finish().code == 0


@pytest.mark.parametrize("returns", [True, False], ids=["returns", "stays away"])
def test_the_server_dies_during_a_statement(own_scene: Scene, *, returns: bool) -> None:
    """The revision is rolled back; the report reads where the database stands, or says that nobody knows."""
    scene = own_scene
    with scene.stopped_at(PYTHON["psycopg2"]) as process:
        scene.server.shut_down("immediate")
        if returns:
            scene.server.start_up()
        run = process.finish()
    last = failed(run, 63)
    assert last["applied"] == ["r2"]
    assert last["failed"] == "r3"
    assert last["revision_after"] == ("r2" if returns else None), str(run)
    if not returns:
        scene.server.start_up()
    assert scene.journal() == ["r2"]
    scene.again()


# -- a session is ended by an administrator ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleep in an async env.py", "script", "rewrite"])
def test_the_lock_is_lost_during_a_statement(scene: Scene, name: str) -> None:
    """A run whose sessions are ended in a revision: exit 63, rolled back, and what is recorded is read."""
    with scene.stopped_at(STATEMENTS[name]) as process:
        terminate(scene.url, "headstart %")
        last = failed(process.finish(), 63)
        assert last["applied"] == ["r2"]
        assert last["failed"] == "r3"
        assert last["revision_after"] == "r2"
    nothing_left(scene.url)
    scene.again()


@pytest.mark.parametrize("name", ["sleep in an async env.py", "psycopg2"])
def test_the_supervisors_session_is_lost(scene: Scene, name: str) -> None:
    """A run that has lost the session with the lock ends its worker at once: nothing more is committed."""
    with scene.stopped_at({**STATEMENTS, **PYTHON}[name]) as process:
        terminate(scene.url, SUPERVISOR)
        last = failed(process.finish(), 63)
    assert (last["applied"], last["failed"], last["revision_after"]) == (["r2"], "r3", "r2")
    assert "lock" in last["error"]
    assert scene.journal() == ["r2"]
    nothing_left(scene.url)
    scene.again()


@pytest.mark.parametrize("engine", [None, PYTHON["psycopg2"].engine], ids=["asyncpg", "psycopg2"])
def test_the_supervisors_session_is_lost_and_the_work_would_go_on(scene: Scene, engine: str | None) -> None:
    """The same while Python is at work in a revision: it does not come to its next statement."""
    body = "print('here')\nimport time, pathlib\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    phase = (
        Phase(body, logged="script_output") if engine is None else Phase(body, logged="script_output", engine=engine)
    )
    with scene.stopped_at(phase) as process:
        terminate(scene.url, SUPERVISOR)
        last = failed(process.finish(), 63)
    assert (last["applied"], last["failed"], last["revision_after"]) == (["r2"], "r3", "r2")
    assert scene.journal() == ["r2"]
    nothing_left(scene.url)
    scene.again()


def test_while_the_worker_lives_nobody_gets_in(scene: Scene) -> None:
    """With the supervisor stopped and its session ended, the worker's session alone keeps every other run out."""
    with scene.stopped_at(PYTHON["psycopg2"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        terminate(scene.url, SUPERVISOR)
        with scene.start(HEADSTART_LOCK_TIMEOUT="2s") as other:
            failed(other.finish(), 30)
        assert scene.journal() == ["r2"]
        os.kill(process.pid, signal.SIGCONT)
        failed(process.finish(), 63)
    nothing_left(scene.url)
    scene.again()


def test_a_run_that_is_stopped_and_continued(scene: Scene) -> None:
    """A run that was frozen (SIGSTOP, a suspended machine) goes on where it was, its lock still held."""
    with scene.stopped_at(SLEEP) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with scene.start(HEADSTART_LOCK_TIMEOUT="1s") as other:
            failed(other.finish(), 30)
        os.kill(process.pid, signal.SIGCONT)
        psql(
            scene.url,
            "select pg_cancel_backend(pid) from pg_stat_activity"
            " where datname = current_database() and query ~ 'pg_sleep' and pid <> pg_backend_pid()",
        )
        failed(process.finish(), 63)
    assert scene.journal() == ["r2"]
    scene.again()


@pytest.mark.parametrize("ends", ["the run", "the worker"])
def test_a_child_of_env_py_holds_the_session(ends: str, scene: Scene) -> None:
    """A child that has left the process group keeps the session's socket open: the server ends the session."""
    body = (
        "op.execute('alter table item add more int')\nimport os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    time.sleep(20)\n    os._exit(0)\nprint('here')\ntime.sleep(60)"
    )
    with scene.stopped_at(Phase(body, logged="script_output", engine=PSYCOPG2)) as process:
        if ends == "the run":
            process.send(signal.SIGTERM)
        else:
            os.kill(worker_of(scene.home), signal.SIGKILL)
        last = failed(process.finish(), 143 if ends == "the run" else 63)
        assert [last["revision_after"]] == recorded(scene.url)
        nothing_left(scene.url)
