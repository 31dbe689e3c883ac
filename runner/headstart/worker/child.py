"""The worker's process: it imports Alembic once, runs neither thread nor event loop, and forks for each run of env.py.

What it forks gets three descriptors from the supervisor: the socket on which it hears its tasks and answers, and two
pipes for what env.py writes to stdout and stderr. When the supervisor's end of the control socket closes, or the
supervisor's process ends (Linux' parent-death signal), the worker and all that it forked end too.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, TextIO

from headstart.worker.messages import OF_OURS, Ended, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a run of env.py would import at the latest when it is at work. A driver that is missing is env.py's to miss.
_IMPORTED = (
    "alembic.command",
    "alembic.op",
    "headstart.worker.migration",
    "headstart.worker.serve",
    "logging.config",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(descriptor: int, parent: int, drivers: Sequence[str] = ()) -> NoReturn:
    """Fork for each request until the socket closes; then end what still runs.

    Args:
        descriptor: of the control socket.
        parent: pid of the supervisor.
        drivers: modules that are imported too where they are installed, because many forks may need them.
    """
    die_with(parent, signal.SIGTERM)
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    gc.disable()  # nothing that is imported is garbage
    for name in _IMPORTED:
        import_module(name)
    for name in drivers:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.enable()
    gc.freeze()  # or the collector would write to each page that the processes share
    _Nursery(control).serve()


def die_with(parent: int, signum: signal.Signals) -> None:
    """Get a signal when the parent process ends, however it does. Linux alone has this."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


class _Nursery:
    """The forked processes, each with the socket on which its end is reported."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._forks: dict[int, socket.socket] = {}
        signal.signal(signal.SIGCHLD, self._reap)
        signal.signal(signal.SIGTERM, self._end)

    def serve(self) -> NoReturn:
        """Fork for each request, until there are no more or SIGTERM comes."""
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 3)
            if not data:
                self._end()
            self._fork(descriptors)

    def _end(self, *_: object) -> NoReturn:
        """Nobody is left to tell what the forked processes do."""
        for pid in tuple(self._forks):
            _signal_group(pid, signal.SIGKILL)
        os._exit(0)

    def _fork(self, descriptors: Sequence[int]) -> None:
        channel = socket.socket(fileno=descriptors[0])
        parent = os.getpid()
        pid = os.fork()
        if pid:
            for pipe in descriptors[1:]:
                os.close(pipe)
            self._forks[pid] = channel
            self._reap()  # it may have ended before it was known
            return
        try:
            die_with(parent, signal.SIGKILL)
            os.setpgid(0, 0)  # whatever env.py starts ends with it
            for signum in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            for each in (self._control, *self._forks.values()):
                each.close()
            for pipe, standard in zip(descriptors[1:], (1, 2), strict=True):
                os.dup2(pipe, standard)
                os.close(pipe)
            sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc,assignment]
            sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc,assignment]
            from headstart.worker.serve import serve

            serve(channel)
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  (as the next: what Python itself calls at its end)
            atexit._run_exitfuncs()  # noqa: SLF001
        except BaseException:  # noqa: BLE001  (a bug of ours: the supervisor shows it)
            sys.__excepthook__(*sys.exc_info())
            os._exit(OF_OURS)
        os._exit(0)

    def _reap(self, *_: object) -> None:
        """Report each process that has ended, and end what it has left behind. The signal may come in the middle."""
        for pid in tuple(self._forks):
            with contextlib.suppress(OSError):  # reaped meanwhile, or nobody hears of it
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    _signal_group(pid, signal.SIGKILL)
                    with self._forks.pop(pid) as channel:
                        channel.sendall(encode(Ended(code=os.waitstatus_to_exitcode(status))))


def _text(descriptor: int) -> TextIO:
    """A stream that writes each line at once: what a killed process has written is not lost."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(group, signum)
