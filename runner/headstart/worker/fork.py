"""One fork of the worker, as the supervisor holds it: its socket, and the pipes of what env.py writes.

What env.py and revisions write to stdout and stderr becomes `script_output`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from headstart.log.process import Lines
from headstart.worker.messages import Started, StatementEnded, StatementStarted, decode_message, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message
    from headstart.worker.tasks import More, Task

AT_EXIT = 10.0
"""Seconds that a process gets for what env.py has registered with atexit."""

_MOST_OUTPUT = 4 * 1024 * 1024  # bytes of a fork's stdout and stderr that are logged


class Fork:
    """One fork of the worker: its socket, and what it writes.

    Args:
        channel: the socket.
        output: what it writes.
    """

    def __init__(self, channel: socket.socket, output: Output) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()  # the beginning of a line
        self._lines: deque[bytearray] = deque()
        self.pid = 0

    async def send(self, message: Task | More) -> None:
        """Give it something to do."""
        with contextlib.suppress(ConnectionError):  # what it has said before is heard all the same
            await self._loop.sock_sendall(self._channel, encode(message))

    async def receive(self) -> Message | None:
        """The next message; None when the socket has closed."""
        while True:
            while not self._lines:
                if not await self._read():
                    self._output.drain()
                    return None
            message = decode_message(self._lines.popleft())
            if not isinstance(message, StatementStarted | StatementEnded):
                self._output.drain()  # what was written before it is logged before it
            if not isinstance(message, Started):
                return message
            self.pid = message.pid

    async def _read(self) -> bool:
        """Whether there was something to read."""
        try:
            data = await self._loop.sock_recv(self._channel, 256 * 1024)
        except ConnectionError:
            return False
        self._rest += data
        if b"\n" in data:
            *lines, self._rest = self._rest.split(b"\n")
            self._lines.extend(lines)
        return bool(data)

    def signal(self, signum: signal.Signals) -> None:
        """To the fork, and all that env.py has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    def leave(self) -> None:
        """There are no more tasks."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    async def ended(self) -> None:
        """Wait until it has ended; log what it has written until then."""
        try:
            async with asyncio.timeout(AT_EXIT):
                while await self._read():
                    self._lines.clear()
        except TimeoutError:
            self._output.log.warning("env_cut_short", hint="what env.py has registered with atexit takes too long")
        self._channel.close()
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
