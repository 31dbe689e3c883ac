"""A network that is cut in the middle of a run: it falls silent, or its connections are reset."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from headstart.postgres.lock import GATE
from support.faults import (
    STATEMENTS,
    Phase,
    Scene,
    advisory_locks,
    at_work,
    bystander,
    failed,
    nothing_left,
    partial_backups,
    processes,
    whole_backups,
)
from support.network import Proxy
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.fresh

QUICK = Phase("pass")
SLEEP = STATEMENTS["sleep"]


@pytest.fixture
def proxy(scene: Scene) -> Iterator[Proxy]:
    """A network that can be cut, in front of the scene's database."""
    with Proxy(scene.url) as proxy:
        yield proxy


def test_a_silent_peer_while_waiting(scene: Scene, proxy: Proxy) -> None:
    """A peer that takes connections and says nothing is waited for as long as it may take, and no longer."""
    scene.project(QUICK)
    proxy.hang()
    with scene.start(url=proxy.url, HEADSTART_WAIT_TIMEOUT="2s") as process:
        run = process.finish(seconds=15)
    assert "in time" in failed(run, 20)["error"]
    assert run.seconds < 10


def test_a_network_that_breaks_during_a_statement(scene: Scene, proxy: Proxy) -> None:
    """A connection that is reset is no fault of the revision; where the database stands is read over a new one."""
    scene.project(SLEEP)
    with scene.start(url=proxy.url, SLOW="1") as process:
        at_work(scene.url, SLEEP.running, on=SLEEP.on)
        proxy.reset()
        last = failed(process.finish(), 63)
    assert (last["applied"], last["failed"], last["revision_after"]) == (["r2"], "r3", "r2")
    nothing_left(scene.url)
    scene.again()


def test_a_network_that_breaks_during_the_dump(scene: Scene, proxy: Proxy) -> None:
    """Lock and dump are lost together: nothing is migrated, and no file of the dump stays."""
    scene.project(QUICK)
    with bystander(scene.url, "lock table item in access exclusive mode"):
        with scene.start(url=proxy.url, HEADSTART_BACKUP="auto") as process:
            at_work(scene.url, "lock table", on="Lock")
            proxy.reset()
            last = failed(process.finish(), 40, 63)
        assert last["applied"] == []
        assert whole_backups(scene.backups) == partial_backups(scene.backups) == []
        assert processes(scene.home) == []
    scene.again(HEADSTART_BACKUP="auto")


def test_a_network_that_falls_silent_during_a_statement(scene: Scene, proxy: Proxy) -> None:
    """The deadline ends a run whose server has fallen silent; who holds the lock then is named to the next one."""
    scene.project(SLEEP)
    with scene.start(url=proxy.url, SLOW="1", HEADSTART_DEADLINE="6s") as process:
        at_work(scene.url, SLEEP.running, on=SLEEP.on)
        proxy.hang()
        run = process.finish(seconds=40)
    last = failed(run, 60)
    assert (last["applied"], last["revision_after"]) == (["r2"], None), "nobody can know"
    with scene.start(HEADSTART_LOCK_TIMEOUT="1s") as second:
        refused = second.finish()
    assert last["run_id"] in failed(refused, 30)["error"]
    proxy.stop()  # now the server's side notices too
    nothing_left(scene.url)
    scene.again()


def test_a_network_that_falls_silent_and_a_signal(scene: Scene, proxy: Proxy) -> None:
    """A signal ends a run whose server does not answer, although nothing can be cancelled or unlocked there."""
    scene.project(SLEEP)
    with scene.start(url=proxy.url, SLOW="1") as process:
        at_work(scene.url, SLEEP.running, on=SLEEP.on)
        proxy.hang()
        process.send(signal.SIGTERM)
        sent = time.monotonic()
        run = process.finish(seconds=20)
        assert time.monotonic() - sent < 4
    failed(run, 143)
    proxy.stop()
    nothing_left(scene.url)
    scene.again()


@pytest.mark.slow
def test_a_network_that_falls_silent_while_waiting_for_the_lock(scene: Scene, proxy: Proxy) -> None:
    """No stage waits for ever for an answer, and none is silent for more than ten seconds."""
    scene.project(QUICK)
    with bystander(scene.url, f"select pg_advisory_lock({GATE})"), scene.start(url=proxy.url) as process:
        process.wait_for("lock_waiting")
        proxy.hang()
        run = process.finish(seconds=60)
    assert "while waiting for the migration lock" in failed(run, 20)["error"]
    spoken = [datetime.fromisoformat(line["timestamp"]) for line in run.events()]
    gaps = [(after - before).total_seconds() for before, after in pairwise(spoken)]
    assert max(gaps) < 11, gaps


@pytest.mark.slow
def test_a_network_that_falls_silent_during_the_dump(scene: Scene, proxy: Proxy) -> None:
    """Signs of life that stay away end the dump: a lock that nobody can see any more protects nothing."""
    scene.project(QUICK)
    with bystander(scene.url, "lock table item in access exclusive mode"):
        with scene.start(url=proxy.url, HEADSTART_BACKUP="auto") as process:
            at_work(scene.url, "lock table", on="Lock")
            proxy.hang()
            run = process.finish(seconds=60)
        assert failed(run, 63)["applied"] == []
        assert run.seconds < 45
        assert processes(scene.home) == []
        proxy.stop()
        eventually(lambda: advisory_locks(scene.url) == 0, "the lock to be free")
    assert whole_backups(scene.backups) == partial_backups(scene.backups) == []
    scene.again(HEADSTART_BACKUP="auto")
