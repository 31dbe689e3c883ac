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
from typing import TYPE_CHECKING

from headstart.worker.messages import Started, StatementEnded, StatementStarted, decode_message, encode

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message
    from headstart.worker.tasks import More, Task

AT_EXIT = 10.0
"""Seconds that a process gets for what env.py has registered with atexit."""
PAUSE = 0.005
"""Seconds between two looks at what may come by the thousand: word of statements, and lines of output.

To wake a process that waits costs the one that writes to it as much as a small statement takes in the server.
"""

_LONGEST_OUTPUT = 64 * 1024  # bytes of a line of stdout; the rest is another line
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
        with contextlib.suppress(ConnectionError):  # then there is no answer either
            await self._loop.sock_sendall(self._channel, encode(message))

    async def receive(self) -> Message | None:
        """The next message; None when the socket has closed."""
        while True:
            while not self._lines:
                if not await self._read():
                    self._output.drain()
                    return None
            message = decode_message(self._lines.popleft())
            if isinstance(message, StatementStarted | StatementEnded):
                if not self._lines:
                    await asyncio.sleep(PAUSE)
            else:  # what was written before it is logged before it
                self._output.drain()
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
    """What a fork writes to stdout and stderr, line by line, into the log."""

    def __init__(self, pipes: dict[int, str], log: FilteringBoundLogger) -> None:
        self._pipes = pipes
        self.log = log
        self._rest = dict.fromkeys(pipes, b"")
        self._logged = 0
        self._dropped = 0
        self._loop = asyncio.get_running_loop()
        for pipe in pipes:
            os.set_blocking(pipe, False)
            self._listen(pipe)

    def drain(self) -> None:
        """Log what has been written so far."""
        for pipe in tuple(self._pipes):
            while self._read(pipe):
                pass

    def _listen(self, pipe: int) -> None:
        if pipe in self._pipes:
            self._loop.add_reader(pipe, self._readable, pipe)

    def _readable(self, pipe: int) -> None:
        if self._read(pipe) < _LONGEST_OUTPUT:  # it is no flood
            self._loop.remove_reader(pipe)
            self._loop.call_later(PAUSE, self._listen, pipe)

    def _read(self, pipe: int) -> int:
        """How many bytes there were."""
        try:
            data = os.read(pipe, _LONGEST_OUTPUT)
        except BlockingIOError:
            return 0
        if not data:
            self._end(pipe)
            return 0
        *lines, rest = (self._rest[pipe] + data).split(b"\n")
        if len(rest) >= _LONGEST_OUTPUT:
            lines, rest = [*lines, rest], b""
        self._rest[pipe] = rest
        for line in lines:
            self._line(pipe, line)
        return len(data)

    def _line(self, pipe: int, line: bytes) -> None:
        if self._logged > _MOST_OUTPUT:
            self._dropped += len(line) + 1
            return
        self._logged += len(line) + 1
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self.log.info("script_output", source=self._pipes[pipe], message=text)
        if self._logged > _MOST_OUTPUT:
            self.log.warning("script_output_dropped", logged_bytes=self._logged, hint="it writes too much to be logged")

    def _end(self, pipe: int) -> None:
        rest = self._rest.pop(pipe)
        if rest:
            self._line(pipe, rest)
        self._pipes.pop(pipe)
        self._loop.remove_reader(pipe)
        os.close(pipe)

    def close(self) -> None:
        """Log the last of it."""
        self.drain()
        for pipe in tuple(self._pipes):
            self._end(pipe)
        if self._dropped:
            self.log.warning("script_output_dropped", dropped_bytes=self._dropped)
            self._dropped = 0
