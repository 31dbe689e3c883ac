"""The faults: what is done to a run that has arrived at a phase, and what that means for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from support.postgres import psql

if TYPE_CHECKING:
    from support.matrix.arrive import Arrived
    from support.matrix.phases import Phase

Strike = Callable[["Arrived"], None]


class Means(Enum):
    """What a fault means for the run."""

    GOES_ON = "the run goes on, and succeeds"
    SIGNALLED = "a signal ends it: 128 and the signal's number"
    KILLED = "it cannot answer"
    LOST = "its session, the server or the network has failed"
    CHILD_LOST = "the worker has failed"
    CANCELLED = "its statement is cancelled, if one is at work in the server"
    DUMP_LOST = "pg_dump or pg_restore has failed"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One column of the matrix.

    Attributes:
        name: as the page has it.
        group: the table of the page that it stands in.
        strike: what is done.
        means: for the run.
        signum: the signal, if it is one.
        to: whose session or process it is done to: "lock", "work", "dump"; "" if that of nobody in particular.
        own_server: it is done to a server as a whole, which nobody else may use.
        away: the server does not answer when the run reports.
        seconds: that it may take the run to end, at most.
    """

    name: str
    group: str
    strike: Strike
    means: Means
    signum: int = 0
    to: str = ""
    own_server: bool = False
    away: bool = False
    seconds: float = 5.0


def _send(signum: signal.Signals) -> Strike:
    return lambda at: at.process.send(signum)


def _signal(signum: signal.Signals) -> Fault:
    return Fault(name=signum.name, group=SIGNALS, strike=_send(signum), means=Means.SIGNALLED, signum=signum)


def _kill_worker(at: Arrived) -> None:
    os.kill(at.worker(), signal.SIGKILL)


def _kill_client(at: Arrived) -> None:
    os.kill(at.client(), signal.SIGKILL)


def _ask(function: str, who: str) -> Strike:
    def ask(at: Arrived) -> None:
        pids = at.backends(who)
        assert pids, f"there is no session of {who}"
        psql(at.scene.server.url(), f"select {function}(pid) from unnest($1::int[]) pid", pids)

    return ask


def _shut_down(mode: str) -> Strike:
    return lambda at: at.scene.server.shut_down(mode)


def _restart(at: Arrived) -> None:
    at.scene.server.shut_down("fast")
    at.scene.server.start_up()


def _pause(at: Arrived) -> None:
    """Stop all processes of the run, as a suspended machine does, and continue them."""
    for pid in at.family:
        os.kill(pid, signal.SIGSTOP)
    for pid in at.family:
        os.kill(pid, signal.SIGCONT)


SIGNALS = "Signals and killed processes"
SESSIONS = "Sessions that are ended or cancelled in the server"
SERVER = "The server and the network"
REST = "The machine, and others"

_END, _CANCEL = "pg_terminate_backend", "pg_cancel_backend"

FAULTS: tuple[Fault, ...] = (
    *map(_signal, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)),
    Fault(
        name="SIGKILL", group=SIGNALS, strike=_send(signal.SIGKILL), means=Means.KILLED, signum=signal.SIGKILL, seconds=5
    ),
    Fault(name="worker killed", group=SIGNALS, strike=_kill_worker, means=Means.CHILD_LOST, to="work"),
    Fault(name="client killed", group=SIGNALS, strike=_kill_client, means=Means.DUMP_LOST, to="client"),
    Fault(name="lock ended", group=SESSIONS, strike=_ask(_END, "lock"), means=Means.LOST, to="lock"),
    Fault(name="work ended", group=SESSIONS, strike=_ask(_END, "work"), means=Means.LOST, to="work"),
    Fault(name="dump ended", group=SESSIONS, strike=_ask(_END, "dump"), means=Means.DUMP_LOST, to="dump"),
    Fault(name="lock cancelled", group=SESSIONS, strike=_ask(_CANCEL, "lock"), means=Means.CANCELLED, to="lock"),
    Fault(name="work cancelled", group=SESSIONS, strike=_ask(_CANCEL, "work"), means=Means.CANCELLED, to="work"),
    Fault(name="dump cancelled", group=SESSIONS, strike=_ask(_CANCEL, "dump"), means=Means.CANCELLED, to="dump"),
    Fault(
        name="stopped fast",
        group=SERVER,
        strike=_shut_down("fast"),
        means=Means.LOST,
        own_server=True,
        away=True,
        seconds=40,
    ),
    Fault(
        name="stopped immediately",
        group=SERVER,
        strike=_shut_down("immediate"),
        means=Means.LOST,
        own_server=True,
        away=True,
        seconds=40,
    ),
    Fault(name="restarted", group=SERVER, strike=_restart, means=Means.LOST, own_server=True, seconds=20),
    Fault(name="reset", group=SERVER, strike=lambda at: at.proxy.reset(), means=Means.LOST, seconds=20),
    Fault(name="half closed", group=SERVER, strike=lambda at: at.proxy.half_close(), means=Means.LOST, seconds=60),
    Fault(name="silent", group=SERVER, strike=lambda at: at.proxy.hang(), means=Means.LOST, away=True, seconds=60),
    Fault(name="slow", group=SERVER, strike=lambda at: at.proxy.slow(0.05), means=Means.GOES_ON, seconds=40),
    Fault(name="stopped, continued", group=REST, strike=_pause, means=Means.GOES_ON, seconds=20),
)
