"""The faults: what is done to a run that has arrived at a phase, and what that means for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from support.postgres import database_of, psql
from support.standby import Pair

if TYPE_CHECKING:
    from support.matrix.arrive import Arrived

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
        about: what it is, in words.
        group: the table of the page that it stands in.
        strike: what is done.
        means: for the run.
        signum: the signal, if it is one.
        to: whose session or process it is done to: "lock", "work", "dump"; "" if that of nobody in particular.
        own_server: it is done to a server as a whole, which nobody else may use.
        standby: that server has a standby.
        away: the server does not answer when the run reports.
        seconds: that it may take the run to end, at most.
    """

    name: str
    about: str
    group: str
    strike: Strike
    means: Means
    signum: int = 0
    to: str = ""
    own_server: bool = False
    standby: bool = False
    away: bool = False
    seconds: float = 5.0


def _send(signum: signal.Signals) -> Strike:
    return lambda at: at.process.send(signum)


def _signal(signum: signal.Signals) -> Fault:
    return Fault(
        name=signum.name,
        about="is sent to the run alone, as a container engine does",
        group=SIGNALS,
        strike=_send(signum),
        means=Means.SIGNALLED,
        signum=signum,
    )


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


def _fail_over(at: Arrived) -> None:
    server = at.scene.server
    assert isinstance(server, Pair)
    server.fail_over()
    at.scene.url = server.url(database_of(at.scene.url))


def _pause(at: Arrived) -> None:
    """Stop all processes of the run, as a suspended machine does, and continue them."""
    for signum in (signal.SIGSTOP, signal.SIGCONT):
        for pid in at.remaining():
            os.kill(pid, signum)


def _second(at: Arrived) -> None:
    """Start another run, and wait until it is in the way, or has ended."""
    phase = at.phase
    given = {"HEADSTART_BACKUP": "auto" if phase.backup else "off"}
    other = at.start("restore", "latest", "--swap") if phase.restores else at.start("up", **given)
    if phase.locked:
        other.wait_for("lock_waiting")
    else:
        other.finish()


SIGNALS = "Signals and killed processes"
SESSIONS = "Sessions that are ended or cancelled in the server"
SERVER = "The server"
NETWORK = "The network"
REST = "The machine, and others"
GROUPS = (SIGNALS, SESSIONS, SERVER, NETWORK, REST)

_END, _CANCEL = "pg_terminate_backend", "pg_cancel_backend"
_WHO = {"lock": "the supervisor's session", "work": "env.py's session", "dump": "pg_dump's or pg_restore's session"}
_MEANT = {"lock": Means.LOST, "work": Means.LOST, "dump": Means.DUMP_LOST}

FAULTS: tuple[Fault, ...] = (
    *map(_signal, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)),
    Fault(
        name="SIGKILL",
        about="the run is killed",
        group=SIGNALS,
        strike=_send(signal.SIGKILL),
        means=Means.KILLED,
        signum=signal.SIGKILL,
    ),
    Fault(
        name="worker killed",
        about="the process that runs env.py is killed",
        group=SIGNALS,
        strike=_kill_worker,
        means=Means.CHILD_LOST,
        to="work",
    ),
    Fault(
        name="client killed",
        about="pg_dump or pg_restore is killed",
        group=SIGNALS,
        strike=_kill_client,
        means=Means.DUMP_LOST,
        to="client",
    ),
    *(
        Fault(
            name=f"{who} ended",
            about=f"an administrator ends {_WHO[who]}",
            group=SESSIONS,
            strike=_ask(_END, who),
            means=means,
            to=who,
        )
        for who, means in _MEANT.items()
    ),
    *(
        Fault(
            name=f"{who} cancelled",
            about=f"an administrator cancels what {_WHO[who]} is at, if it is at anything",
            group=SESSIONS,
            strike=_ask(_CANCEL, who),
            means=Means.CANCELLED,
            to=who,
        )
        for who in _MEANT
    ),
    Fault(
        name="stopped fast",
        about="it is shut down (fast), and stays away",
        group=SERVER,
        strike=_shut_down("fast"),
        means=Means.LOST,
        own_server=True,
        away=True,
        seconds=40,
    ),
    Fault(
        name="stopped immediately",
        about="it is shut down (immediate), as in a crash, and stays away",
        group=SERVER,
        strike=_shut_down("immediate"),
        means=Means.LOST,
        own_server=True,
        away=True,
        seconds=40,
    ),
    Fault(
        name="restarted",
        about="it is shut down (fast) and started again",
        group=SERVER,
        strike=_restart,
        means=Means.LOST,
        own_server=True,
        seconds=20,
    ),
    Fault(
        name="failed over",
        about="it crashes, and its standby, which the URL names too, is promoted",
        group=SERVER,
        strike=_fail_over,
        means=Means.LOST,
        own_server=True,
        standby=True,
        seconds=20,
    ),
    Fault(
        name="reset",
        about="every connection is reset; new ones go through",
        group=NETWORK,
        strike=lambda at: at.proxy.reset(),
        means=Means.LOST,
        seconds=20,
    ),
    Fault(
        name="half closed",
        about="the run reads the end of every connection, while what it sends still arrives",
        group=NETWORK,
        strike=lambda at: at.proxy.half_close(),
        means=Means.LOST,
        seconds=60,
    ),
    Fault(
        name="silent",
        about="nothing is passed on any more, in either direction",
        group=NETWORK,
        strike=lambda at: at.proxy.hang(),
        means=Means.LOST,
        away=True,
        seconds=60,
    ),
    Fault(
        name="slow",
        about="each piece takes 50 ms longer",
        group=NETWORK,
        strike=lambda at: at.proxy.slow(0.05),
        means=Means.GOES_ON,
        seconds=40,
    ),
    Fault(
        name="stopped, continued",
        about="all processes of the run get SIGSTOP, then SIGCONT",
        group=REST,
        strike=_pause,
        means=Means.GOES_ON,
        seconds=20,
    ),
    Fault(
        name="second runner",
        about="another `up`, or `restore`, is started meanwhile; the `up` waits and ends with 0, the `restore` with 30",
        group=REST,
        strike=_second,
        means=Means.GOES_ON,
        seconds=20,
    ),
)
