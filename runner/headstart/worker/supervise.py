"""The supervisor's side: starts the worker, has it fork, hears what the fork reports, and ends it.

Nothing here knows what a task is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from headstart.errors import HeadstartError
from headstart.process import Finished as EndedProcess
from headstart.worker.fork import Fork, Output
from headstart.worker.messages import (
    DESCRIPTORS_CLOSED,
    Connected,
    Ended,
    Failed,
    Finished,
    Idle,
    Logged,
    StatementEnded,
    StatementStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message, More, Task

    Hear = Callable[[Message], None]

CANCELLED = 1.0
"""Seconds that a cancelled statement, and the code above it, get to end by themselves."""
TERMINATED = 0.3
"""Seconds that a process gets after SIGTERM."""
ENDED = 2.0
"""Seconds that the worker gets to end what it has forked, and what that has started."""
GONE = 30.0
"""Seconds that the server gets to end the sessions of a process that is gone."""
HELD = 3.0
"""Seconds after which a session that is still there is ended: a child of env.py's may hold its socket."""


class TaskFailedError(Exception):
    """A task has failed, and the worker says why: `failed`."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class WorkerLostError(HeadstartError):
    """The process that ran env.py has ended without a word.

    Args:
        message: how.
        by_itself: it has left by an exit status: env.py's own doing. Otherwise a signal has ended it, or nobody knows.
    """

    def __init__(self, message: str, *, by_itself: bool) -> None:
        super().__init__(message)
        self.by_itself = by_itself


class Worker:
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

    def process(self, log: FilteringBoundLogger) -> Process:
        """A process for tasks that come one after the other.

        Args:
            log: gets what env.py writes, and the worker's own lines.
        """
        return Process(self, log)

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


class Process:
    """Does one task after the other, in the same fork of the worker as long as that is left clean.

    Attributes:
        fresh: the present task is the first of its fork.
        backends: the sessions that the present fork has opened in our database, by pid.
        statement: at work now; None between two.
        backend: of that statement.
        since: when it began, or when the last one ended, by the monotonic clock.
    """

    def __init__(self, worker: Worker, log: FilteringBoundLogger) -> None:
        self._worker = worker
        self._log = log
        self._fork: Fork | None = None
        self._ending: list[Fork] = []
        self._reading: asyncio.Task[Any] | None = None
        self.fresh = True
        self.backends: dict[int, Connected] = {}
        self.statement: str | None = None
        self.backend: int | None = None
        self.since = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None and not self._reading.done():
            await self.stop(None)
        self.leave()
        for fork in self._ending:
            await fork.ended()
        self._ending.clear()

    async def do(self, task: Task, hear: Hear | None = None) -> Any:  # noqa: ANN401  (what the task gives)
        """Have a task done.

        If this is cancelled, the task goes on until `stop`.

        Args:
            task: what.
            hear: gets each message but the last.

        Raises:
            TaskFailedError: it has failed.
            WorkerLostError: its process has ended without a word.
        """
        self.backends.clear()
        self.fresh = self._fork is None
        if self._fork is None:
            self._fork = self._forked()
        await self._fork.send(task)
        return await self._answer(hear)

    def _forked(self) -> Fork:
        channel, out, err = self._worker.fork()
        return Fork(channel, Output({out: "stdout", err: "stderr"}, self._log))

    async def more(self, more: More, hear: Hear | None = None) -> Any:  # noqa: ANN401  (as `do`)
        """Go on with an interactive task. As `do`."""
        assert self._fork is not None  # noqa: S101  (it is at work)
        await self._fork.send(more)
        return await self._answer(hear)

    async def _answer(self, hear: Hear | None) -> Any:  # noqa: ANN401  (as `do`)
        self._reading = asyncio.ensure_future(self._read(hear or (lambda _: None)))
        return await asyncio.shield(self._reading)

    async def _read(self, hear: Hear) -> Any:  # noqa: ANN401  (as `do`)
        fork = self._fork
        assert fork is not None  # noqa: S101  (`do`)
        while True:
            message = await fork.receive()
            match message:
                case None | Ended():
                    self.leave()
                    raise self._lost(message, fork.pid)
                case Finished():
                    if not message.reusable:
                        self.leave()
                    return message.value
                case Failed():
                    self.leave()
                    raise TaskFailedError(message)
                case Idle():
                    return message
            self._note(message)
            hear(message)

    def _note(self, message: Message) -> None:
        """What is known of the task that is at work."""
        match message:
            case Logged():
                getattr(self._log, message.level)(message.event, **message.fields)
            case Connected():
                self.backends[message.backend] = message
                self._log.info(
                    "env_connected",
                    driver=message.driver,
                    backend_pid=message.backend,
                    user=message.user,
                    schema=message.schema,
                )
            case StatementStarted():
                self.statement, self.backend, self.since = message.statement, message.backend, time.monotonic()
            case StatementEnded():
                self.statement, self.since = None, time.monotonic()
            case _:
                pass

    def _lost(self, message: Ended | None, pid: int) -> WorkerLostError:
        said = self._worker.last_words()
        how = _how_it_ended(message, pid) + (f": {said}" if said else "")
        return WorkerLostError(how, by_itself=message is not None and message.code >= 0)

    def leave(self) -> None:
        """The present fork ends, when it reads the end of its socket; the next task gets another."""
        self.statement = None
        if self._fork is not None:
            self._fork.leave()
            self._ending.append(self._fork)
        self._fork = None

    async def stop(self, connection: asyncpg.Connection[Any] | None) -> TaskFailedError | None:
        """End the present task: nothing new begins; cancel its statement in the server, end its process, its sessions.

        Args:
            connection: the supervisor's own session, for asking the server; None if there is none.

        Returns:
            What the task said of its end, if it still could.
        """
        reading, fork = self._reading, self._fork
        if reading is None or fork is None or reading.done():
            return _failure_of(reading)
        fork.leave()  # or it would begin the next revision when the present one outlives what follows
        backends = list(self.backends)
        cancelling = "select pg_catalog.pg_cancel_backend(pid) from pg_catalog.unnest($1::pg_catalog.int4[]) pid"
        if await _ask(connection, cancelling, backends) and self.statement is not None:
            await asyncio.wait([reading], timeout=CANCELLED)
        if not reading.done():
            fork.signal(signal.SIGTERM)
            await asyncio.wait([reading], timeout=TERMINATED)
        if not reading.done():
            fork.signal(signal.SIGKILL)
            await _ask(connection, _TERMINATE, backends)
            await asyncio.wait([reading], timeout=CANCELLED)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        fork.signal(signal.SIGKILL)
        self.leave()
        return _failure_of(reading)


_TERMINATE = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.unnest($1::pg_catalog.int4[]) pid"


async def gone(connection: asyncpg.Connection[Any], backends: list[int], *, timeout: float = GONE) -> bool:
    """Wait until the server has ended sessions, and have it end what stays; only then is what is committed certain.

    Args:
        connection: the supervisor's own session.
        backends: their pids.
        timeout: seconds.
    """
    query = "select exists(select from pg_catalog.pg_stat_activity where pid = any($1::pg_catalog.int4[]))"
    deadline = time.monotonic() + timeout
    held = deadline - timeout + min(HELD, timeout / 2)
    while backends and await connection.fetchval(query, backends):
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() >= held:
            held = deadline
            await connection.fetch(_TERMINATE, backends)
        await asyncio.sleep(0.02)
    return True


async def _ask(connection: asyncpg.Connection[Any] | None, query: str, backends: list[int]) -> bool:
    """Whether the server has answered; a session on which it is silent is given up."""
    if connection is None or connection.is_closed() or not backends:
        return False
    try:
        async with asyncio.timeout(CANCELLED):
            await connection.fetch(query, backends)
    except TimeoutError:
        connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass
    else:
        return True
    return False


def _failure_of(reading: asyncio.Task[Any] | None) -> TaskFailedError | None:
    if reading is None or not reading.done() or reading.cancelled():
        return None
    error = reading.exception()
    return error if isinstance(error, TaskFailedError) else None


def _how_it_ended(message: Ended | None, pid: int) -> str:
    if message is None:
        return f"the process that ran env.py (pid {pid}) was lost"
    how = EndedProcess(argv=(), returncode=message.code, stderr="", seconds=0.0).how
    if message.code == -signal.SIGKILL:
        how += ": out of memory?"
    elif message.code == DESCRIPTORS_CLOSED:
        how += ": it closed its descriptors"
    elif message.code >= 0:
        how += ": os._exit?"
    return (
        f"the process that ran env.py was {how}"
        if message.code < 0
        else f"the process that ran env.py ended by itself ({how})"
    )
