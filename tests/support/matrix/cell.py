"""One cell of the matrix: a fault happens to a run in a phase, and what it reports is held against the database."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from headstart.errors.exits import Exit
from support import faults as scenes
from support.faults import Scene, partial_backups, processes, whole_backups
from support.matrix.arrive import arrive
from support.matrix.faults import Fault, Means
from support.matrix.phases import Phase
from support.postgres import database_of, psql, script
from support.project import recorded
from support.restoring import beside
from support.waiting import eventually

if TYPE_CHECKING:
    from support.process import Run

SPEAKS = 11.0
"""Seconds within which the log has another line: ten, and one for a machine that is busy."""
ALL = ["r2", "r3", "r4"]
SOON = 2.0
"""Seconds after its end for the processes below a run to be gone."""
AFTERWARDS = 5.0
"""Seconds after its end for what a run has had open in the server to be gone."""


class Expected(NamedTuple):
    """What a cell has to end as: the exit code, and the revisions that are committed then."""

    code: int
    applied: list[str]


class Found(NamedTuple):
    """What a cell has ended as."""

    code: int
    state: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.code} {self.state}"


def not_applicable(phase: Phase, fault: Fault) -> str:
    """Why a fault cannot happen in a phase; "" if it can."""
    if fault.to == "client":
        return "" if "dump" in phase.sessions or phase.slow_client else "no client program runs"
    if fault.to and fault.to not in phase.sessions:
        return {"lock": "no session yet", "work": "env.py has no session", "dump": "no dump or restore is connected"}[
            fault.to
        ]
    if fault.means is Means.LOST and fault.name != "silent" and not phase.sessions:
        return "it has no session"
    if phase.command and fault.name == "silent":
        return "it has no session"
    return ""


def meaning(phase: Phase, fault: Fault) -> Means:
    """What a fault means in a phase."""
    if fault.means is Means.LOST and phase.queued and not fault.away:
        return Means.GOES_ON
    if fault.means is Means.SIGNALLED and phase.late:
        return Means.GOES_ON
    if fault.means is not Means.CANCELLED:
        return fault.means
    if not phase.running or fault.to == "lock":
        return Means.GOES_ON
    return Means.DUMP_LOST if fault.to == "dump" else Means.LOST


def expected(phase: Phase, fault: Fault) -> Expected:
    """What the rules say a cell has to end as."""
    applied = list(phase.applied)
    match meaning(phase, fault):
        case Means.GOES_ON:
            return Expected(0, [] if phase.restores else ALL)
        case Means.SIGNALLED:
            return Expected(-fault.signum if phase.command else 128 + fault.signum, applied)
        case Means.KILLED:
            return Expected(-fault.signum, applied)
        case Means.CHILD_LOST:
            return Expected(63, applied)
        case Means.DUMP_LOST:
            return Expected(41 if phase.restores else 40, applied)
        case _:
            return Expected(phase.lost, applied)


def run_cell(scene: Scene, phase: Phase, fault: Fault) -> Found:
    """Run it, and compare all that is promised; what differs is an AssertionError."""
    wanted = expected(phase, fault)
    if phase.restores or phase.pruned:
        scene.project(scenes.Phase("pass"))
        backed_up(scene)
    before = rows(scene)
    with ExitStack() as stack:
        at = arrive(scene, phase, stack, project=not (phase.restores or phase.pruned))
        run_id = at.run_id
        struck = time.monotonic()
        fault.strike(at)
        answered = fault.means is Means.SIGNALLED and phase.held and "work" not in phase.sessions
        if answered:
            at.process.wait_for("signal_received")  # the supervisor's own question is answered in the end
        goes_on = answered or meaning(phase, fault) is Means.GOES_ON or (phase.python and fault.to == "work")
        if goes_on or (phase.pruned and fault.means is not Means.KILLED):
            at.let_go()
        run = at.process.finish(seconds=fault.seconds + 30)
        seconds = time.monotonic() - struck
        others = [other.finish() for other in at.others]
        assert run.code == wanted.code, run
        assert seconds < fault.seconds, run
        if scene.server.pid is None:
            scene.server.start_up()
        at.unblock()
        if fault.means is not Means.KILLED:
            eventually(lambda: at.remaining() == [], f"no process left of {at.family}: {run}", seconds=SOON)
            at.proxy.stop()  # a peer that is silent, and yet there, is none that a server could tell from a patient one
            nothing_in(scene, run_id, seconds=AFTERWARDS)
            truth(scene, phase, fault, run, others)
        applied = scene.journal()
        assert applied == wanted.applied, run
        assert rows(scene) == before, "rows have changed"
    found = Found(run.code, state(scene, phase, run), seconds)
    again(scene, phase, before)
    return found


def run_anyhow(scene: Scene, phase: Phase, fault: Fault, delay: float) -> int:
    """Let a fault happen some moments after a phase, and compare all but the exit code, which it gives.

    Args:
        scene: a database at r1.
        phase: from which the run goes on.
        fault: what happens then.
        delay: seconds after that.
    """
    if phase.restores or phase.pruned:
        scene.project(scenes.Phase("pass"))
        backed_up(scene)
    before = rows(scene)
    with ExitStack() as stack:
        at = arrive(scene, phase, stack, project=not (phase.restores or phase.pruned))
        run_id = at.run_id
        at.let_go()
        time.sleep(delay)  # any moment is as good
        with contextlib.suppress(ProcessLookupError):  # it has ended
            fault.strike(at)
        run = at.process.finish(seconds=90)
        others = [other.finish() for other in at.others]
        at.proxy.stop()
        if scene.server.pid is None:
            scene.server.start_up()
        if run.code != -signal.SIGKILL:
            eventually(lambda: at.remaining() == [], f"no process left of {at.family}: {run}", seconds=SOON)
            nothing_in(scene, run_id, seconds=AFTERWARDS)
            report(scene, run, others)
        assert rows(scene) == before, "rows have changed"
        assert scene.journal() == ALL[: len(scene.journal())], run
    again(scene, phase, before)
    return run.code


# -- what is looked at ------------------------------------------------------------------------------------------------


def backed_up(scene: Scene) -> None:
    """Take a backup."""
    with scene.start("backup") as process:
        run = process.finish()
    assert run.code == 0, run


def rows(scene: Scene) -> list[object]:
    """What no revision changes."""
    query = "select count(*), md5(string_agg(i::text, ',' order by id)) from item i where id >= 0"
    return list(psql(scene.url, query)[0])


def nothing_in(scene: Scene, run_id: str, *, seconds: float) -> None:
    """Wait until the server has no session of the run, and the database no advisory lock but a bystander's."""
    names = "select application_name, query from pg_stat_activity where application_name like $1"
    url = scene.server.url()
    eventually(lambda: not psql(url, names, f"%{run_id}%"), f"the sessions of {run_id} to be gone", seconds=seconds)
    held = (
        "select l.pid from pg_locks l join pg_stat_activity a using (pid)"
        " where l.locktype = 'advisory' and a.application_name not in ('bystander', 'go on')"
    )
    assert psql(url, held) == []


def truth(scene: Scene, phase: Phase, fault: Fault, run: Run, others: list[Run]) -> None:
    """Hold the last line of the log against the database, and against what is known of the phase."""
    if phase.command:
        assert run.events("run_finished")[-1]["exit_code"] == 0, run
        return
    report(scene, run, others)
    assert run.last["revision_after"] is not None or fault.away or not phase.compared, run
    refused = phase.restores and phase.name != "restoring: preparing"
    assert [other.code for other in others] == [30 if refused else 0] * len(others), str(others)
    if phase.restores and run.code and not fault.away:
        assert [name for name in beside(scene.server, database_of(scene.url)) if "_restoring_" in name] == [], run


def report(scene: Scene, run: Run, others: list[Run]) -> None:
    """Hold the last line of the log against the version table, the rows, the ledger and the backups.

    Args:
        scene: where.
        run: how it has ended; by itself.
        others: those that have been at it too.
    """
    last = run.last
    assert last["event"] == "run_finished", run
    assert last["exit_code"] == run.code, run
    assert Exit[last["outcome"].upper()] == run.code, run
    assert "Traceback" not in run.stderr, run
    if last["revision_after"] is not None and not others:
        assert [last["revision_after"]] == recorded(scene.url), run
    applied = [*last["applied"], *(each for other in others for each in other.last["applied"])]
    assert applied == scene.journal(), run
    assert ledger(scene) == scene.journal(), run
    if last["backup"] is not None:
        assert os.path.basename(last["backup"]) in whole_backups(scene.backups), run  # noqa: PTH119
    assert partial_backups(scene.backups) == [], run
    assert processes(scene.home) == [], run
    spoken = [datetime.fromisoformat(line["timestamp"]) for line in run.events()]
    gaps = [(after - before).total_seconds() for before, after in pairwise(spoken)]
    assert max(gaps, default=0) < SPEAKS, f"silent for {max(gaps)} s: {run}"


def ledger(scene: Scene) -> list[str]:
    """What the ledger says was applied, where there is one."""
    if psql(scene.url, "select to_regclass('headstart.ledger')") == [(None,)]:
        return []
    return scene.ledger()


def state(scene: Scene, phase: Phase, run: Run) -> str:
    """What the database is, and what backups there are, in words."""
    at = recorded(scene.url)[0]
    words = {"r1": "untouched", "r4": "at head"}.get(at, f"at {at}")
    if phase.restores:
        words = "restored" if run.code == 0 else "untouched"
    elif phase.backup and whole_backups(scene.backups):
        words += ", backup"
    return words


def again(scene: Scene, phase: Phase, before: list[object]) -> None:
    """The next run succeeds, and nothing is left of the one before."""
    shutil.rmtree(scene.folder / "clients", ignore_errors=True)
    script(scene.url, "drop trigger if exists slow on item")
    if phase.restores:
        with scene.start("restore", "latest", "--swap") as process:
            run = process.finish()
        assert run.code == 0, run
        names = beside(scene.server, database_of(scene.url))
        assert not [name for name in names if "_restoring_" in name], names
    scene.again(**({"HEADSTART_BACKUP": "auto"} if phase.backup else {}))
    assert rows(scene) == before, "rows have changed"
    assert partial_backups(scene.backups) == []
    eventually(lambda: processes(scene.home) == [], "no client program", seconds=AFTERWARDS)
    if phase.backup or phase.restores:
        with scene.start("backups", "verify") as process:
            run = process.finish()
        assert run.code == 0, run
