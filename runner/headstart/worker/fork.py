"""One fork of the worker, as the supervisor holds it: its socket, and the pipes of what env.py writes.

What env.py and revisions write to stdout and stderr becomes `script_output`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from headstart.process import Lines
from headstart.worker.messages import Started, StatementEnded, StatementStarted, decode_message, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message
    from headstart.worker.tasks import More, Task

AT_EXIT = 10.0
"""Seconds that a process gets for what env.py has registered with atexit."""
LONGEST_MESSAGE = 2**30
"""Bytes of a message: the longest text that Postgres takes as a statement."""

_MOST_OUTPUT = 4 * 1024 * 1024  # bytes of a fork's stdout and stderr that are logged


class Fork:
    """One fork of the worker: its socket, and what it writes.

    Args:
        reader: of the socket.
        writer: of the socket.
        output: what it writes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, output: Output) -> None:
        self._reader = reader
        self._writer = writer
        self._output = output
        self.pid = 0

    async def send(self, message: Task | More) -> None:
        """Give it something to do."""
        self._writer.write(encode(message))
        with contextlib.suppress(ConnectionError):  # then there is no answer either
            await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message; None when the socket has closed."""
        while True:
            line = b""
            with contextlib.suppress(ConnectionError):
                line = await self._reader.readline()
            if not line.endswith(b"\n"):
                self._output.drain()
                return None
            message = decode_message(line)
            if not isinstance(message, StatementStarted | StatementEnded):
                self._output.drain()  # what was written before it is logged before it
            if not isinstance(message, Started):
                return message
            self.pid = message.pid

    def signal(self, signum: signal.Signals) -> None:
        """To the fork, and all that env.py has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    def leave(self) -> None:
        """There are no more tasks."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def ended(self) -> None:
        """Wait until it has ended; log what it has written until then."""
        try:
            async with asyncio.timeout(AT_EXIT):
                with contextlib.suppress(ConnectionError):
                    await self._reader.read()
        except TimeoutError:
            self._output.log.warning("env_cut_short", hint="what env.py has registered with atexit takes too long")
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        self._output.close()


class Output:
    """What a fork writes to stdout and stderr, line by line, into the log.

    Args:
        pipes: of each stream, by its name.
        log: gets `script_output`.
    """

    def __init__(self, pipes: Mapping[str, int], log: FilteringBoundLogger) -> None:
        self.log = log
        self._lines = [Lines(pipe, partial(self._line, name)) for name, pipe in pipes.items()]
        self._logged = 0
        self._dropped = 0

    def drain(self) -> None:
        """Log what has been written so far."""
        for each in self._lines:
            each.drain()

    def close(self) -> None:
        """Log the last of it."""
        for each in self._lines:
            each.close()
        if self._dropped:
            self.log.warning("script_output_dropped", dropped_bytes=self._dropped)

    def _line(self, name: str, line: bytes) -> None:
        if self._logged > _MOST_OUTPUT:
            self._dropped += len(line)
            return
        self._logged += len(line)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.strip():
            self.log.info("script_output", source=name, message=text)
        if self._logged > _MOST_OUTPUT:
            self.log.warning("script_output_dropped", logged_bytes=self._logged, hint="it writes too much to be logged")
