"""The supervisor's side of the worker's process: starts it, has it fork, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENDED = 2.0
"""Seconds that the worker gets to end what it has forked, and what that has started."""


class Worker(contextlib.AbstractAsyncContextManager["Worker"]):
    """The process that imports Alembic once and forks for each task. It is started when it is first needed.

    Args:
        cwd: where it runs.
        environ: its environment.
        drivers: modules that it imports too where they are installed: for many forks.
    """

    def __init__(self, *, cwd: str, environ: Mapping[str, str], drivers: Sequence[str] = ()) -> None:
        self._drivers = tuple(drivers)
        self._cwd = cwd
        self._environ = dict(environ)
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._forked = False

    def start(self) -> None:
        """Start it, so that it imports while something else is done."""
        if self._process is not None:
            return
        self._control, theirs = socket.socketpair()
        with theirs:
            # Its modules come from where ours do, whatever lies in the folder that it happens to run in.
            code = (
                f"import sys; sys.path[:] = {sys.path!r}\n"
                f"from headstart.worker.child import main; main({theirs.fileno()}, {os.getpid()}, {self._drivers!r})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=self._cwd,
                env=self._environ,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # of a worker that cannot begin
                start_new_session=True,
            )

    def fork(self) -> tuple[socket.socket, int, int]:
        """Have it fork; give the socket, and the pipes of the fork's stdout and stderr."""
        if self._process is not None and self._process.poll() is not None:  # it was killed, and its forks with it
            self.close()
        self.start()
        self._forked = True
        assert self._control is not None  # noqa: S101  (`start`)
        ours, theirs = socket.socketpair()
        out, into_out = os.pipe()
        err, into_err = os.pipe()
        try:
            with contextlib.suppress(OSError):  # it has gone: then so has the other end of `ours`
                socket.send_fds(self._control, [b"."], [theirs.fileno(), into_out, into_err])
        finally:
            theirs.close()
            os.close(into_out)
            os.close(into_err)
        return ours, out, err

    def last_words(self) -> str:
        """What it wrote before it ended by itself; "" while it runs."""
        process = self._process
        if process is None or process.poll() is None or process.stderr is None:
            return ""
        lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all that it has forked."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDED if self._forked else 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stderr is not None  # noqa: S101  (`start`)
            self._process.stderr.close()
        self._control = self._process = None
        self._forked = False
