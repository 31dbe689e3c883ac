"""Many runs at once on one database: one backup, every revision once, and all of them agree in the end."""

from __future__ import annotations

import shutil
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session
from support.faults import (
    PYTHON,
    STATEMENTS,
    Phase,
    Scene,
    at_work,
    bystander,
    failed,
    journal,
    nothing_left,
    partial_backups,
    whole_backups,
)
from support.postgres import psql, script
from support.project import Project, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from support.process import Headstart, Run

pytestmark = pytest.mark.fresh

QUICK = Phase("pass")
AUTO = {"HEADSTART_BACKUP": "auto"}
CONCURRENTLY = """
with op.get_context().autocommit_block():
    op.execute("create index concurrently item_name on item (name)")
"""


def finished(processes: list[Headstart], *, seconds: float = 120) -> list[Run]:
    """How each of them ended."""
    return [process.finish(seconds=seconds) for process in processes]


def history(folder: Path, *, length: int = 5, first: str = "pass") -> None:
    """A project r1 to r<length>, whose r3 builds an index concurrently; r1 is what the scene's database is at.

    Args:
        folder: where to.
        length: number of the head.
        first: what r2 does, in Python.
    """
    folder.mkdir()
    project = Project(folder)
    project.revision("r1")
    for number in range(2, length + 1):
        name = f"r{number}"
        before = {"r2": first, "r3": CONCURRENTLY.strip()}.get(name, "pass")
        project.revision(name, body=f"{before}\nop.execute({journal(name)!r})")


def invalid_indexes(url: str) -> list[str]:
    """The indexes that no query uses."""
    return [row[0] for row in psql(url, "select indexrelid::regclass::text from pg_index where not indisvalid")]


@pytest.mark.slow
def test_twenty_at_once(scene: Scene) -> None:
    """Twenty runs: all exit 0, one backup is taken, each revision is applied once, an index is built concurrently."""
    history(scene.folder / "project")
    with ExitStack() as stack:
        runs = finished([stack.enter_context(scene.start(**AUTO)) for _ in range(20)])
    assert [run.code for run in runs] == [0] * 20, next(str(run) for run in runs if run.code)
    assert {run.last["revision_after"] for run in runs} == {"r5"}
    assert sum(len(run.last["applied"]) for run in runs) == 4
    assert scene.journal() == ["r2", "r3", "r4", "r5"]
    assert [len(whole_backups(scene.backups)), partial_backups(scene.backups)] == [1, []]
    assert sum(run.last["backup"] is not None for run in runs) == 1
    assert invalid_indexes(scene.url) == []
    nothing_left(scene.url)


@pytest.mark.slow
def test_ten_and_a_backup(scene: Scene) -> None:
    """A `headstart backup` among ten runs takes its own backup, before or after the migration but never during it."""
    history(scene.folder / "project")
    with ExitStack() as stack:
        runs = [stack.enter_context(scene.start(**AUTO)) for _ in range(5)]
        backup = stack.enter_context(scene.start("backup"))
        runs += [stack.enter_context(scene.start(**AUTO)) for _ in range(5)]
        ended = finished([*runs, backup])
    assert [run.code for run in ended] == [0] * 11, next(str(run) for run in ended if run.code)
    assert scene.journal() == ["r2", "r3", "r4", "r5"]
    assert len(whole_backups(scene.backups)) == 2
    assert ended[-1].last["revision_before"] in {"r1", "r5"}
    assert ended[-1].last["backup"] is not None


@pytest.mark.slow
def test_an_older_image_among_them(scene: Scene) -> None:
    """An older image either comes first and does its part, or finds a newer database and says so."""
    history(scene.folder / "project")
    history(scene.folder / "older", length=2)
    with ExitStack() as stack:
        older = stack.enter_context(scene.start(project="older", **AUTO))
        newer = [stack.enter_context(scene.start(**AUTO)) for _ in range(5)]
        runs = finished(newer)
        old = older.finish()
    assert [run.code for run in runs] == [0] * 5, next(str(run) for run in runs if run.code)
    assert old.code in {0, 71}, old
    assert old.last["revision_after"] == ("r2" if old.code == 0 else "r5")
    assert scene.journal() == ["r2", "r3", "r4", "r5"]
    assert recorded(scene.url) == ["r5"]


def test_an_older_image_that_waited(scene: Scene) -> None:
    """An older image that waited for a newer one's lock looks again once it has it, and changes nothing: exit 71."""
    history(scene.folder / "project", first="op.execute('alter table item add more int')")
    history(scene.folder / "older", length=2)
    with (
        bystander(scene.url, "lock table item in access share mode") as leave,
        scene.start(HEADSTART_TABLE_LOCK_TIMEOUT="60s") as newer,
    ):
        at_work(scene.url, "^alter table item", on="Lock")
        with scene.start(project="older", **AUTO) as older:
            line = older.wait_for("lock_waiting")
            assert f":{newer.pid} " in line["holder"], "the holder is named by host and process id"
            leave()
            assert newer.finish().code == 0
            run = older.finish()
    assert run.code == 71, run
    assert "r5" in run.last["error"]
    assert whole_backups(scene.backups) == []
    assert scene.journal() == ["r2", "r3", "r4", "r5"]


def test_the_holder_is_named_to_who_gives_up(scene: Scene) -> None:
    """A run that does not get the lock in time exits 30 and names the run that holds it."""
    with scene.stopped_at(STATEMENTS["sleep"]) as holder:
        with scene.start(HEADSTART_LOCK_TIMEOUT="500ms") as other:
            run = other.finish()
        assert run.code == 30, run
        assert f":{holder.pid} " in run.last["error"]
        assert run.events("lock_waiting") != []
        assert run.last["revision_after"] == "r2"
        assert run.last["applied"] == []


def test_who_has_nothing_to_do_does_not_wait(scene: Scene) -> None:
    """A run whose revisions are all there takes no lock, and so does not wait for one that migrates."""
    with scene.stopped_at(STATEMENTS["sleep"]):
        shutil.copytree(scene.folder / "project", scene.folder / "at-head")
        for pending in ("r3", "r4"):
            (scene.folder / "at-head" / "migrations" / "versions" / f"{pending}.py").unlink()
        with scene.start(project="at-head") as other:
            run = other.finish()
    assert run.code == 0, run
    assert run.events("lock_obtained") == []


def test_a_table_lock_that_is_let_go_in_time(scene: Scene) -> None:
    """A revision that does not get its table is rolled back and tried again, and the log says who was in the way."""
    phase = STATEMENTS["table lock"]
    scene.project(phase)
    with (
        bystander(scene.url, "lock table item in access share mode") as leave,
        scene.start(SLOW="1", HEADSTART_TABLE_LOCK_TIMEOUT="300ms") as process,
    ):
        line = process.wait_for("revision_retried", lambda line: line["attempt"] == 2)
        assert (line["revision"], line["sqlstate"]) == ("r3", "55P03")
        assert any("bystander" in blocker for blocker in line["blockers"]), line
        assert scene.journal() == ["r2"]
        leave()
        run = process.finish()
    assert run.code == 0, run
    assert run.events("statement_blocked") != []
    assert scene.journal() == ["r2", "r3", "r4"]
    assert psql(scene.url, "select count(*) from item where more is null") == [(1000,)]


@pytest.mark.parametrize("template", ["generic", "async"])
def test_a_table_lock_that_is_never_let_go(scene: Scene, template: str) -> None:
    """When the time for trying again is over: exit 62, rolled back to what is recorded, the blocker named."""
    phase = STATEMENTS["table lock"]._replace(template=template)
    scene.project(phase)
    with (
        bystander(scene.url, "lock table item in access share mode"),
        scene.start(SLOW="1", HEADSTART_TABLE_LOCK_TIMEOUT="300ms", HEADSTART_TABLE_LOCK_RETRY="2s") as process,
    ):
        run = process.finish()
    assert run.code == 62, run
    assert (run.last["failed"], run.last["revision_after"], run.last["applied"]) == ("r3", "r2", ["r2"])
    assert any("bystander" in blocker for blocker in run.last["blockers"]), run
    assert scene.journal() == ["r2"]
    nothing_left(scene.url)
    scene.again()


def test_a_lost_deadlock_is_tried_again(scene: Scene) -> None:
    """A revision that is the victim of a deadlock is run again from its beginning."""
    script(scene.url, "create sequence tries; create table one (); create table two ()")
    waits = "exists (select from pg_locks where not granted and relation = 'one'::regclass)"
    body = (
        "op.execute(\"set local deadlock_timeout = '50ms'; lock table one; do $$ begin if nextval('tries') = 1 then"
        f' while not {waits} loop perform pg_sleep(0.02); end loop; end if; end $$; lock table two")'
    )
    scene.project(Phase(body))
    with Session(scene.url) as other, scene.start(SLOW="1") as process:
        other.execute("begin; set local deadlock_timeout = '60s'; lock table two")
        at_work(scene.url, "pg_sleep")
        waiting = threading.Thread(target=other.execute, args=("lock table one; commit",))
        waiting.start()
        run = process.finish()
        waiting.join()
    assert run.code == 0, run
    assert [line["sqlstate"] for line in run.events("revision_retried")] == ["40P01"]
    assert scene.journal() == ["r2", "r3", "r4"]


@pytest.mark.parametrize("engine", [None, PYTHON["psycopg2"].engine], ids=["asyncpg", "psycopg2"])
def test_a_revision_that_lets_go_of_every_lock(scene: Scene, engine: str | None) -> None:
    """DISCARD ALL and pg_advisory_unlock_all() in a revision let no second run in: the lock is the supervisor's."""
    body = (
        "with op.get_context().autocommit_block():\n    op.execute('discard all')\n"
        "op.execute('select pg_advisory_unlock_all()')\nop.execute('select pg_sleep(60)')"
    )
    phase = Phase(body, running="pg_sleep", on="PgSleep")
    with scene.stopped_at(phase if engine is None else phase._replace(engine=engine)) as process:
        with scene.start(HEADSTART_LOCK_TIMEOUT="1s") as other:
            failed(other.finish(), 30)
        process.send(signal.SIGTERM)
        process.finish()
    assert scene.journal() == ["r2"]
    scene.again()
