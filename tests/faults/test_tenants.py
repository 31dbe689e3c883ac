"""Many tenants, and what goes wrong meanwhile: killed runs, killed workers, signals, other runners."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.faults import at_work, failed, interrupt, nothing_left, processes, sessions, whole_backups
from support.postgres import psql, script
from support.project import Project, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.faults import Starter
    from support.postgres import Postgres
    from support.process import Headstart, Run

pytestmark = pytest.mark.fresh

NAMES = [f"t{n}" for n in range(8)]
SLOW = "t3"
# Each revision says in which schema it was run. That of SLOW goes on when it is told to.
STEP = "insert into public.journal values (current_schema(), {!r})"
STOP = f"""
import os
op.execute({STEP.format("r2")!r})
if os.environ.get("STOP") and op.get_bind().scalar(sa.text("select current_schema()")) == {SLOW!r}:
    {{}}
"""
BODIES = {
    "statement": "op.execute('select pg_sleep(60)')",
    "python": "import time; print('here'); time.sleep(60)",
}


class Scene:
    """A database with eight schemas, a project with three revisions for each, and runs that stop in one of them."""

    def __init__(self, folder: Path, server: Postgres, start: Starter) -> None:
        self.url = server.create_database()
        self.home, self.backups = folder / "home", folder / "backups"
        self.home.mkdir()
        script(self.url, "create table journal (schema text, revision text)")
        script(self.url, ";".join(f"create schema {name}" for name in NAMES))
        (folder / "tenants.txt").write_text("\n".join(NAMES), encoding="utf-8")
        self.folder, self._server, self._start = folder, server, start

    def project(self, body: str = "statement") -> None:
        """Write the project; with STOP set, the second revision of SLOW stops at this."""
        project = Project(self.folder)
        project.revision("r1", "create table item (id int)", STEP.format("r1"))
        project.revision("r2", body=STOP.format(BODIES[body]))
        project.revision("r3", STEP.format("r3"))

    def start(self, *args: str, **env: str) -> Headstart:
        """Start `tenants up`, or what is given."""
        given = {
            "PATH": f"{self._server.bindir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "HEADSTART_BACKUP_DIR": str(self.backups),
            "HEADSTART_BACKUP": "off",
            "HEADSTART_TENANTS_FILE": "tenants.txt",
            "HEADSTART_TENANTS_PARALLEL": "2",
        }
        return self._start(*(args or ("tenants", "up")), url=self.url, env={**given, **env}, cwd=self.folder)

    def again(self, **env: str) -> Run:
        """Run once more without stopping, and see that each revision has been applied, and recorded, once for each."""
        with self.start(**env) as process:
            run = process.finish()
        assert run.code == 0, run
        assert [recorded(self.url, f"{name}.alembic_version") for name in NAMES] == [["r3"]] * len(NAMES)
        expected = [(name, revision) for name in NAMES for revision in ("r1", "r2", "r3")]
        assert psql(self.url, "select schema, revision from journal order by 1, 2") == expected, run
        rows = psql(self.url, "select split_part(history, '.', 1), revision from headstart.ledger order by 1, 2")
        assert rows == expected, run
        return run


@pytest.fixture
def scene(tmp_path: Path, any_server: Postgres, start_headstart: Starter) -> Iterator[Scene]:
    """A database with eight schemas on the shared server."""
    scene = Scene(tmp_path, any_server, start_headstart)
    yield scene
    any_server.drop_database(scene.url)


def parent_of(pid: int) -> int:
    """The process that a process was forked from; 0 if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def fork_at_work(scene: Scene, process: Headstart) -> int:
    """The fork of the worker that is in the middle of SLOW's second revision: all others have ended by then."""
    at_work(scene.url, "pg_sleep", on="PgSleep")
    process.wait_for("tenant_finished", lambda line: line["tenant"] == NAMES[-1])
    supervisor = int(sessions(scene.url)[0].name.rpartition(":")[2])  # headstart <run id> <host>:<process id>

    def look() -> int | None:
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        found = [pid for pid in pids if parent_of(parent_of(pid)) == supervisor]
        return found[0] if len(found) == 1 else None

    return int(eventually(look, "one fork of the worker"))


def test_killed(scene: Scene) -> None:
    """After a kill -9 of the run its processes end by themselves, and a second run does what is left, and that once."""
    scene.project()
    with scene.start(STOP="1") as process:
        at_work(scene.url, "pg_sleep", on="PgSleep")
        process.wait_for("tenant_finished", lambda line: line["tenant"] == NAMES[-1])
        process.send(signal.SIGKILL)
        assert process.finish().code == -signal.SIGKILL
        nothing_left(scene.url)
        eventually(lambda: processes(scene.home) == [], "no process of the run")
    run = scene.again()
    assert {line["tenant"] for line in run.events("revision_applied")} == {SLOW}


def test_a_process_that_is_killed(scene: Scene) -> None:
    """A tenant whose process is killed fails with 63 and the signal's name; the others are done; a second run helps."""
    scene.project()
    with scene.start(STOP="1") as process:
        os.kill(fork_at_work(scene, process), signal.SIGKILL)
        run = process.finish()
    last = failed(run, 63)
    assert (last["at_target"], last["failed"], last["not_begun"]) == (7, 1, 0)
    assert "SIGKILL" in last["error"]
    assert "the database is at r1" in last["error"]
    nothing_left(scene.url)
    scene.again()


def test_the_worker_is_killed(scene: Scene) -> None:
    """The tenant at work fails with 63 when the worker is killed; another worker is started for those that follow."""
    scene.project()
    with scene.start(STOP="1", HEADSTART_TENANTS_PARALLEL="1") as process:
        at_work(scene.url, "pg_sleep", on="PgSleep")
        supervisor = int(sessions(scene.url)[0].name.rpartition(":")[2])
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        (worker,) = [pid for pid in pids if parent_of(pid) == supervisor]
        os.kill(worker, signal.SIGKILL)
        last = failed(process.finish(), 63)
        assert (last["at_target"], last["failed"]) == (7, 1)
        eventually(lambda: processes(scene.home) == [], "no process of the run")
    scene.again()


def test_the_session_is_lost(scene: Scene) -> None:
    """The tenant at work fails with 63 when the session that holds the locks ends; another is opened for the rest."""
    scene.project()
    with scene.start(STOP="1", HEADSTART_TENANTS_PARALLEL="1") as process:
        at_work(scene.url, "pg_sleep", on="PgSleep")
        holding = (
            "select distinct pid from pg_locks l join pg_database d on d.oid = l.database"
            " where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and d.datname = current_database()"
        )
        assert psql(scene.url, f"select pg_terminate_backend(pid) from ({holding}) held") == [(True,)]
        last = failed(process.finish(), 63)
        assert (last["at_target"], last["failed"]) == (7, 1)
        nothing_left(scene.url)
    scene.again()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("body", BODIES)
def test_interrupted(scene: Scene, body: str, signum: signal.Signals, record_property: Any) -> None:
    """A signal ends all of it within two seconds: rolled back, no session or process left; the table is printed."""
    scene.project(body)
    with scene.start(STOP="1") as process:
        if body == "statement":
            at_work(scene.url, "pg_sleep", on="PgSleep")
        else:
            process.wait_for("script_output")
        run, seconds = interrupt(process, signum)
        record_property(f"until tenants have ended after {signum.name} in {body}", seconds)
        failed(run, 128 + signum)
        assert seconds < 2
        nothing_left(scene.url)
        eventually(lambda: processes(scene.home) == [], "no process of the run", seconds=1)
    if body == "statement":
        assert "tenant_finished" in run.stderr
        assert f"\n{SLOW} " in run.stdout
    scene.again()


def test_the_deadline(scene: Scene) -> None:
    """HEADSTART_DEADLINE is for all of them together."""
    scene.project()
    with scene.start(STOP="1", HEADSTART_DEADLINE="8s") as process:
        at_work(scene.url, "pg_sleep", on="PgSleep")
        last = failed(process.finish(), 60)
        assert "HEADSTART_DEADLINE" in last["error"]
        nothing_left(scene.url)
    scene.again()


@pytest.mark.parametrize("backup", ["off", "auto"])
def test_several_runners(scene: Scene, backup: str) -> None:
    """Three with the same list at once: every revision is applied once, one backup is taken if any, and all succeed."""
    scene.project()
    runners = [scene.start(HEADSTART_BACKUP=backup) for _ in range(3)]
    runs = [runner.finish() for runner in runners]
    assert [run.code for run in runs] == [0, 0, 0], "\n".join(map(str, runs))
    assert len(whole_backups(scene.backups)) == (1 if backup == "auto" else 0)
    assert scene.again().events("revision_applied") == []


def test_others_of_the_database_wait(scene: Scene) -> None:
    """While a tenant is worked on nobody gets the whole database, nor the same tenant; another tenant may be begun."""
    scene.project()
    with scene.start(STOP="1") as process:
        at_work(scene.url, "pg_sleep", on="PgSleep")
        process.wait_for("tenant_finished", lambda line: line["tenant"] == NAMES[-1])
        with scene.start("backup", HEADSTART_LOCK_TIMEOUT="1s") as other:
            assert "headstart" in failed(other.finish(), 30)["error"]
        with scene.start(HEADSTART_LOCK_TIMEOUT="1s") as other:
            last = failed(other.finish(), 30)
        assert (last["at_target"], last["failed"]) == (7, 1)
        scene_two = scene.folder / "tenants.txt"
        scene_two.write_text("other", encoding="utf-8")
        script(scene.url, "create schema other")
        with scene.start() as other:
            assert other.finish().code == 0
        psql(scene.url, "delete from journal where schema = 'other' returning 1")
        psql(scene.url, "delete from headstart.ledger where history ~ '^other' returning 1")
        scene_two.write_text("\n".join(NAMES), encoding="utf-8")
        began = time.monotonic()
        process.send(signal.SIGTERM)
        process.finish()
        assert time.monotonic() - began < 2
    scene.again()
