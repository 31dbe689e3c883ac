"""Brings a run to a phase, and lets it go on from there."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from support import faults
from support.faults import GO_ON, Scene, at_work, bystander
from support.matrix.phases import FIFO, HERE, Phase
from support.network import Proxy
from support.postgres import psql
from support.standby import Pair
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.process import Headstart

COPIES = 300
"""Older backups for a run that prunes: enough that it is still at it when its first line about it is read."""

CLIENT = """#!/bin/sh
case "$0 $*" in *pg_restore*--list*) if [ ! -e {done} ]; then touch {here}; read line < {fifo}; fi ;; esac
exec {bindir}/${{0##*/}} "$@"
"""
"""Client programs that are the server's own, but list nothing before they are told to."""


@dataclass
class Arrived:
    """A run that has arrived at a phase.

    Attributes:
        scene: its database and project.
        phase: where it is.
        process: the run.
        proxy: the network between it and the server.
        let_go: lets it go on.
        unblock: ends what holds up its client programs: a lock, or a FIFO.
        stack: closes what is opened.
        others: runs that have been started since.
        family: the processes that belong to it, by pid, with their start times.
    """

    scene: Scene
    phase: Phase
    process: Headstart
    proxy: Proxy
    let_go: Callable[[], None]
    unblock: Callable[[], None]
    stack: ExitStack
    family: dict[int, str] = field(default_factory=dict)
    others: list[Headstart] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return str(self.process.wait_for("run_started")["run_id"])

    def start(self, *args: str, **env: str) -> Headstart:
        """Start another run, straight to the server."""
        other = self.stack.enter_context(self.scene.start(*args, **env))
        self.others.append(other)
        return other

    def backends(self, who: str) -> list[int]:
        """The pids of its sessions.

        Args:
            who: "lock", "work" or "dump".
        """
        like = {
            "lock": f"headstart {self.run_id} %",
            "work": f"headstart worker {self.run_id} %",
            "dump": f"headstart-%:{self.run_id}",
        }[who]
        url = self.scene.server.url()
        return [row[0] for row in psql(url, "select pid from pg_stat_activity where application_name like $1", like)]

    def worker(self) -> int:
        """The process in which env.py runs."""
        [worker] = [pid for pid in children(self.process.pid) if not program(pid).startswith("pg_")]
        [fork] = filter(started, children(worker))
        return fork

    def client(self) -> int:
        """pg_dump, or pg_restore."""
        [client] = [pid for pid in children(self.process.pid) if program(pid).startswith("pg_")]
        return client

    def remaining(self) -> list[int]:
        """The processes of the family that still run."""
        return [pid for pid, since in self.family.items() if started(pid) == since]


def arrive(scene: Scene, phase: Phase, stack: ExitStack, *, project: bool = True, **env: str) -> Arrived:
    """Start a run, and wait until it is in the phase.

    Args:
        scene: a database at r1; for a restore, with a backup.
        phase: where to.
        stack: closes what is opened.
        project: whether the project is to be written.
        env: further variables.
    """
    if project:
        scene.project(faults.Phase(phase.body or "pass"))
    proxy = stack.enter_context(Proxy(scene.url))
    unblock = _blocked(scene, phase, stack)
    leave = [*unblock, *_held_up(scene, phase, stack, proxy)]
    given = {"SLOW": "1", "HEADSTART_BACKUP": "auto" if phase.backup else "off", **dict(phase.env), **env}
    if phase.slow_client:
        given["PATH"] = f"{_slow_client(scene)}{os.pathsep}{scene.variables['PATH']}"
    if phase.pruned:
        _multiply(scene)
        given["HEADSTART_BACKUP_KEEP"] = "1"
    process = stack.enter_context(scene.start(*phase.args, url=_address(scene, proxy), **given))
    arrived = Arrived(scene, phase, process, proxy, partial(_each, leave), partial(_each, unblock), stack)
    _meet(arrived)
    if phase.pruned:
        process.send(signal.SIGSTOP)
        leave.append(partial(process.send, signal.SIGCONT))
        assert len(faults.whole_backups(scene.backups)) > 1, "it has pruned all before it could be stopped"
    arrived.family = {pid: since for pid in [process.pid, *descendants(process.pid)] if (since := started(pid))}
    return arrived


def _blocked(scene: Scene, phase: Phase, stack: ExitStack) -> list[Callable[[], None]]:
    """Put in the run's way what holds up its client programs, or itself: a lock, a FIFO; the calls that end it."""
    leave: list[Callable[[], None]] = []
    if phase.blocker:
        leave.append(stack.enter_context(bystander(scene.url, phase.blocker)))
    if phase.slow_client or phase.command or phase.python:
        folder = scene.folder / "project"
        os.mkfifo(folder / FIFO)
        fifo = os.open(folder / FIFO, os.O_RDWR)  # so that it has a writer from the beginning, and until the end
        stack.callback(os.close, fifo)
        leave.append(partial(go_on, fifo, folder))
    return leave


def _held_up(scene: Scene, phase: Phase, stack: ExitStack, proxy: Proxy) -> list[Callable[[], None]]:
    """The same for what the network and the server do."""
    leave: list[Callable[[], None]] = []
    if "until_told" in phase.running or "waits()" in phase.body:
        told = bystander(scene.url, f"set application_name = '{GO_ON}'")

        def tell() -> None:
            stack.enter_context(told)

        leave.append(tell)
    if phase.held:
        proxy.hold(*phase.held)
        leave.append(proxy.release)
    if phase.refused:
        proxy.refuse()
        leave.append(partial(proxy.refuse, refusing=False))
    return leave


def _address(scene: Scene, proxy: Proxy) -> str:
    """The database by way of the proxy; and by way of the standby, where there is one."""
    if not isinstance(scene.server, Pair):
        return proxy.url
    return re.sub(r":(\d+)/", rf":\1,{scene.server.host}:{scene.server.standby_port}/", proxy.url)


def _meet(arrived: Arrived) -> None:
    """Wait until the run is in the phase."""
    scene, phase, process = arrived.scene, arrived.phase, arrived.process
    if phase.held:
        assert arrived.proxy.holds(), f"nothing was held back:\n{process.stderr}"
    elif phase.running:
        at_work(scene.url, phase.running)
    elif phase.event:
        process.wait_for(phase.event)
    else:
        here = scene.folder / "project" / HERE
        eventually(here.exists, f"{HERE}:\n{process.stderr}")


def go_on(fifo: int, folder: Path) -> None:
    """Let whoever reads the FIFO go on."""
    (folder / "done").touch()
    os.write(fifo, b"\n")


def _each(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _slow_client(scene: Scene) -> Path:
    folder = scene.folder / "project"
    clients = scene.folder / "clients"
    clients.mkdir()
    names = {"here": folder / HERE, "fifo": folder / FIFO, "done": folder / "done"}
    for name in ("pg_dump", "pg_restore"):
        (clients / name).write_text(CLIENT.format(**names, bindir=scene.server.bindir), encoding="utf-8")
        (clients / name).chmod(0o755)
    return clients


def _multiply(scene: Scene) -> None:
    """Let the backup that there is have been taken many times."""
    [backup] = scene.backups.glob("*/*")
    for number in range(COPIES):
        shutil.copytree(backup, backup.with_name(f"20250101T{number:06}.000Z-r1"))


# -- processes --------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """The processes whose parent this one is."""
    try:
        text = "".join(path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has ended
        return []
    return [int(each) for each in text.split()]


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def program(pid: int) -> str:
    """What a process runs, as the kernel has it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, as the kernel has it; "" if it has ended, collected or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
