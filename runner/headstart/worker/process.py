"""Has tasks done by forks of the worker: hears what they report, and ends them. No task is known here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.log.process import how_it_ended
from headstart.postgres import sessions
from headstart.worker.fork import Fork, Output
from headstart.worker.messages import (
    DESCRIPTORS_CLOSED,
    OF_OURS,
    Connected,
    Ended,
    Failed,
    Finished,
    Idle,
    Logged,
    StatementEnded,
    StatementStarted,
    TaskFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg
    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message
    from headstart.worker.supervise import Worker
    from headstart.worker.tasks import More, Task

    Hear = Callable[[Message], None]

CANCELLED = 1.0
"""Seconds that a cancelled statement, and the code above it, get to end by themselves."""
TERMINATED = 0.3
"""Seconds that a process gets after SIGTERM."""


class WorkerLostError(HeadstartError):
    """The process that ran env.py has ended without a word.

    Args:
        message: how.
        by_itself: it has left by an exit status: env.py's own doing. Otherwise a signal has ended it, or nobody knows.
    """

    def __init__(self, message: str, *, by_itself: bool) -> None:
        super().__init__(message)
        self.by_itself = by_itself


class Process(contextlib.AbstractAsyncContextManager["Process"]):
    """Does one task after the other, in the same fork of the worker as long as that is left clean.

    Args:
        worker: that forks.
        log: gets what env.py writes, and the worker's own lines.

    Attributes:
        fresh: the present task is the first of its fork.
        backends: the sessions that the present fork has opened in our database, by pid.
        statement: at work now; None between two.
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
        self.statement: StatementStarted | None = None
        self.since = time.monotonic()

    async def __aexit__(self, *_: object) -> None:
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
            channel, out, err = self._worker.fork()
            output = Output({"stdout": out, "stderr": err}, self._log)
            self._fork = Fork(channel, output)
        return await self._send(self._fork, task, hear)

    async def more(self, more: More, hear: Hear | None = None) -> Any:  # noqa: ANN401  (as `do`)
        """Go on with an interactive task. As `do`."""
        assert self._fork is not None  # noqa: S101  (it is at work)
        return await self._send(self._fork, more, hear)

    async def _send(self, fork: Fork, message: Task | More, hear: Hear | None) -> Any:  # noqa: ANN401  (as `do`)
        await fork.send(message)
        self._reading = asyncio.ensure_future(self._read(fork, hear or (lambda _: None)))
        return await asyncio.shield(self._reading)

    async def _read(self, fork: Fork, hear: Hear) -> Any:  # noqa: ANN401  (as `do`)
        while True:
            message = await fork.receive()
            match message:
                case Ended(code=code) if code == OF_OURS:
                    self.leave()
                    raise RuntimeError("the worker has failed; its traceback is in the log, as script_output")
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
                self.statement, self.since = message, time.monotonic()
            case StatementEnded():
                self.statement, self.since = None, time.monotonic()
            case _:
                pass

    def _lost(self, message: Ended | None, pid: int) -> WorkerLostError:
        last_words = self._worker.last_words()
        how = _how_it_ended(message, pid) + (f": {last_words}" if last_words else "")
        return WorkerLostError(how, by_itself=message is not None and message.code >= 0)

    def leave(self) -> None:
        """The present fork ends, when it reads the end of its socket; the next task gets another."""
        self.statement = None
        if self._fork is not None:
            self._fork.leave()
            self._ending.append(self._fork)
        self._fork = None

    async def stop(self, connection: asyncpg.Connection[Any] | None) -> None:
        """End the present task: nothing new begins; cancel its statement in the server, end its process, its sessions.

        Args:
            connection: the supervisor's own session, for asking the server; None if there is none.
        """
        reading, fork = self._reading, self._fork
        if reading is None or fork is None or reading.done():
            return
        fork.leave()  # or it would begin the next revision when the present one outlives what follows
        backends, at_work = list(self.backends), self.statement is not None  # which may swallow its cancelling
        if await sessions.cancel(connection, backends) and at_work:
            await asyncio.wait([reading], timeout=CANCELLED)
        if not reading.done():
            fork.signal(signal.SIGTERM)
            await asyncio.wait([reading], timeout=TERMINATED)
        if not reading.done():
            fork.signal(signal.SIGKILL)
            await sessions.terminate(connection, backends)
            await asyncio.wait([reading], timeout=CANCELLED)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        fork.signal(signal.SIGKILL)
        self.leave()


def _how_it_ended(message: Ended | None, pid: int) -> str:
    if message is None:
        return f"the process that ran env.py (pid {pid}) was lost"
    how = how_it_ended(message.code)
    if message.code < 0:
        memory = ": out of memory?" if message.code == -signal.SIGKILL else ""
        return f"the process that ran env.py was {how}{memory}"
    guess = "it closed its descriptors" if message.code == DESCRIPTORS_CLOSED else "os._exit?"
    return f"the process that ran env.py ended by itself ({how}: {guess})"
