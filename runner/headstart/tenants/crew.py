"""Processes that work on tenants, forked from one that has imported Alembic, once for all of them.

A database gets a process of its own, because an env.py and what it imports may keep what they have read of one URL: it
begins as `headstart up` does. Schemas of one database share their URL, and so a process may go from one to the next.
The process that forks (`headstart.forked`) is started when it is needed. It ends with all of them when its socket
closes, so also when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from headstart.errors import MigrationFailedError
from headstart.process import Finished
from headstart.tenants.job import decode

if TYPE_CHECKING:
    from types import TracebackType

    from headstart.run import Outcome, Run
    from headstart.tenants.job import Job

LAST_WORDS = 1.2
"""Seconds for the jobs to roll back and report when they are ended; below `headstart.signals.PATIENCE`."""
_LONGEST_LINE = 16 * 1024 * 1024


class LostError(MigrationFailedError):
    """A tenant's process ended without a report."""


class Crew:
    """The process that forks.

    Args:
        run: whose environment and folder it gets.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._socket: socket.socket | None = None
        self._starting: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._starting is None:
            return
        process = await self._starting
        try:
            async with asyncio.timeout(LAST_WORDS):
                await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def end(self) -> None:
        """Tell all of them to end, as SIGTERM does."""
        if self._socket is not None:
            self._socket.close()

    async def fork(self) -> socket.socket:
        """Have a process forked, and give the socket on which it waits for jobs."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)
        assert self._socket is not None  # noqa: S101  (`_start`)
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):  # it has gone: then so has the other end of `ours`
            socket.send_fds(self._socket, [b"."], [theirs.fileno()])
        return ours

    async def _start(self) -> asyncio.subprocess.Process:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # Its modules come from where ours do, whatever lies in the folder that it happens to run in.
            code = f"import sys; sys.path[:] = {sys.path!r}; from headstart.forked import main; main({theirs.fileno()})"
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                cwd=self._run.cwd,
                env=dict(self._run.environ),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )


class Worker:
    """Has one job done after the other. Use it as a context: the process that it has goes with it.

    Args:
        crew: forks the process.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def do(self, job: Job, log: Callable[[dict[str, Any]], None], ended: Callable[[Outcome], None]) -> None:
        """Have a job done.

        Args:
            job: what.
            log: gets each line of its log.
            ended: told how it went, also when this task is cancelled meanwhile.

        Raises:
            LostError: its process has ended without a report (60).
        """
        relaying = asyncio.create_task(self._relay(job, log, ended))
        try:
            await asyncio.shield(relaying)
        except asyncio.CancelledError:
            self._crew.end()
            await asyncio.wait([relaying], timeout=LAST_WORDS)
            relaying.cancel()
            await asyncio.gather(relaying, return_exceptions=True)
            raise
        finally:
            if job.schema is None:
                self._leave()

    async def _relay(self, job: Job, log: Callable[[dict[str, Any]], None], ended: Callable[[Outcome], None]) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=await self._crew.fork(), limit=_LONGEST_LINE)
        reader, writer = self._streams
        how = "was lost"
        with contextlib.suppress(ConnectionError):
            writer.write(job.encode())
            async for line in reader:
                told = decode(line)
                if isinstance(told, dict):
                    log(told)
                elif told.outcome is not None:
                    ended(told.outcome)
                    return
                elif told.ended is not None:
                    how = Finished(argv=(), returncode=told.ended, stderr="", seconds=0.0).how
        self._leave()
        raise LostError(
            f"the process that worked on it ended without a report ({how}); what it had not committed is rolled back",
            hint="see what ended it (the kernel's log, if memory ran out), then run again",
        )
