"""Starts headstart by a fork of a process that has imported it: a run's imports take longer than all the rest of it.

    nursery = Nursery("headstart", env)  # a process of its own, once for each pytest-xdist worker
    process = nursery.start(argv, env=..., cwd=..., streams=(stdin, stdout, stderr))

What is forked forks once more before it begins: the second process has imported Alembic too, and becomes the run's
worker when one is asked for. From there on both are what `python -m headstart` starts, process for process: the same
parents, process groups, descriptors, environment, folders and signals.

`python -m headstart` itself is started where that is the point (`pytest.mark.fresh`), and where the environment says
how Python is to begin. Alembic's own command has a nursery that has never imported headstart: it is the oracle.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

_LARGEST = 1024 * 1024  # bytes of a request: arguments and environment
_OF_PYTHON = ("PYTHON", "LC_", "LD_")  # variables that Python, or what it is linked with, reads as it begins


def may_fork(env: Mapping[str, str]) -> bool:
    """Whether Python would begin in this environment as it has begun in the nursery."""
    return env.get("LANG") == "C.UTF-8" and not any(name.startswith(_OF_PYTHON) for name in env)


class Nursery:
    """The process that forks. It ends when `close` is called, and what it has forked goes on.

    Args:
        program: "headstart" or "alembic".
        env: its environment.
    """

    def __init__(self, program: str, env: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, program, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=env
            )

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> Forked:
        """Start the program.

        Args:
            argv: its arguments.
            env: its whole environment.
            cwd: where it runs.
            streams: descriptors of its stdin, stdout and stderr.
        """
        mask = os.umask(0)
        os.umask(mask)
        ours, theirs = socket.socketpair()
        with theirs:
            request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": str(cwd), "umask": mask}).encode()
            socket.send_fds(self._control, [request], [theirs.fileno(), *streams])
        return Forked(ours)

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.wait(10)


class _Process:
    """A process that this one waits for, with as much of `subprocess.Popen` as its users need.

    Args:
        pid: its id.
        ended: a descriptor that can be read once it has ended.
    """

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; give its exit status.

        Raises:
            subprocess.TimeoutExpired: it has not ended after that many seconds.
        """
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = self._status()
        return self.returncode

    def _status(self) -> int:
        raise NotImplementedError


class Forked(_Process):
    """A process that the nursery has forked."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._news = channel.makefile("r", encoding="ascii")
        super().__init__(int(self._news.readline()), channel.fileno())

    def _status(self) -> int:
        status = int(self._news.readline())
        self._news.close()
        self._channel.close()
        return status

    def send_signal(self, signum: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signum)


# What follows runs in the nursery, and in what it forks.


def _nursery(program: str, control: socket.socket) -> NoReturn:
    """Fork for each request, and report the end of what was forked, until nobody asks any more."""
    run = {"headstart": _headstart, "alembic": _alembic}[program]
    for name in _imported(program):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    forked: dict[int, socket.socket] = {}
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
            _reap(forked)
        if control.fileno() in ready:
            request, descriptors, _, _ = socket.recv_fds(control, _LARGEST, 4)
            if not request:
                os._exit(0)
            channel = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked = json.loads(request)
                os.setsid()
                os.umask(asked["umask"])
                _begin(asked, descriptors[1:])
                sys.argv = [program, *asked["argv"]]
                sys.path[0] = asked["cwd"]
                run()
            for each in descriptors[1:]:
                os.close(each)
            channel.sendall(b"%d\n" % pid)
            forked[pid] = channel


def _reap(forked: dict[int, socket.socket]) -> None:
    while forked:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(OSError), forked.pop(pid) as channel:  # the test may have ended
            channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _imported(program: str) -> Iterator[str]:
    """The modules that a run of the program needs."""
    if program == "headstart":
        import headstart
        from headstart.worker import child

        yield from child._IMPORTED
        for module in pkgutil.walk_packages(headstart.__path__, "headstart."):
            if not module.name.endswith("__main__"):
                yield module.name
    yield from ("alembic.config", "alembic.command", "sqlalchemy.dialects.postgresql", "sqlalchemy.ext.asyncio")
    yield from ("asyncpg", "psycopg", "psycopg2")


def _alembic() -> NoReturn:
    """Become Alembic's own command."""
    from alembic.config import main

    main(prog="alembic")
    sys.exit()


def _headstart() -> NoReturn:
    """Become headstart."""
    from headstart.__main__ import main
    from headstart.worker.supervise import Worker

    spares = [_Spare()]
    start = Worker.start

    def start_spare(worker: Worker) -> None:
        if worker._process is None and spares:
            worker._control, worker._process = spares.pop().become(worker)  # type: ignore[assignment]
        start(worker)

    Worker.start = start_spare  # type: ignore[assignment, method-assign]
    main()
    os._exit(0)


def _begin(request: Mapping[str, Any], descriptors: Sequence[int], keep: int | None = None) -> None:
    """Let this process be as one that has just been started; a descriptor to keep becomes 3."""
    for descriptor, standard in zip(descriptors, (0, 1, 2), strict=True):
        os.dup2(descriptor, standard)
    if keep is not None:
        os.dup2(keep, 3)
    os.closerange(3 if keep is None else 4, 1024)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    # As Python opens them where LANG is C.UTF-8 and none is a terminal.
    streams = (
        ("stdin", "r", "surrogateescape"),
        ("stdout", "w", "surrogateescape"),
        ("stderr", "w", "backslashreplace"),
    )
    for number, (name, mode, errors) in enumerate(streams):
        buffering = 1 if name == "stderr" else -1
        stream = open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


class _Spare:
    """A process that becomes the worker when it is told to, and ends with this one."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        self._control.close()
        request, descriptors, _, _ = socket.recv_fds(theirs, _LARGEST, 2)
        if not request:
            os._exit(0)
        os.setsid()
        asked = json.loads(request)
        null = os.open(os.devnull, os.O_RDWR)
        control, stderr = descriptors
        _begin(asked, [null, null, stderr], keep=control)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the supervisor listens to it, whoever had it ignored
        from headstart.worker.child import main

        main(3, parent, asked["drivers"])

    def become(self, worker: Any) -> tuple[socket.socket, _Child]:
        """Have it become that worker; give the worker's control socket, and its process."""
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        request = {"cwd": worker._cwd, "env": worker._environ, "drivers": worker._drivers}
        with theirs, self._control:
            socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno(), write])
        os.close(write)
        return ours, _Child(self._pid, os.fdopen(read, "rb"))


class _Child(_Process):
    """A child of this process; `stderr` is what it says there."""

    def __init__(self, pid: int, stderr: BinaryIO) -> None:
        self.stderr = stderr
        super().__init__(pid, os.pidfd_open(pid))

    def _status(self) -> int:
        os.close(self._ended)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


if __name__ == "__main__":
    _nursery(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
