"""A network that is cut in the middle of a run: it falls silent, or its connections are reset."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from support.faults import (
    STATEMENTS,
    Phase,
    Scene,
    at_work,
    failed,
    nothing_left,
)
from support.network import Proxy

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
