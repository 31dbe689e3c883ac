"""One fork of the worker, as the supervisor holds it: its socket, and the pipes of what env.py writes.

What env.py and revisions write to stdout and stderr becomes `script_output`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from headstart.worker.messages import Started, StatementEnded, StatementStarted, decode_message, encode

if TYPE_CHECKING:
    import socket

    from structlog.typing import FilteringBoundLogger

    from headstart.worker.messages import Message, More, Task

ENDED = 2.0
"""Seconds that a process gets for what env.py has registered with atexit."""

_LONGEST_LINE = 64 * 1024 * 1024
_LONGEST_OUTPUT = 64 * 1024  # bytes of a line of stdout; the rest is another line
_MOST_OUTPUT = 4 * 1024 * 1024  # bytes of a fork's stdout and stderr that are logged


class Fork:
    """One fork of the worker: its socket, and what it writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, output: Output) -> None:
        self._reader = reader
        self._writer = writer
        self._output = output
        self.pid = 0

    @classmethod
    async def over(cls, channel: socket.socket, out: int, err: int, log: FilteringBoundLogger) -> Fork:
        """Talk to one that the worker has made.

        Args:
            channel: the socket.
            out: the pipe of its stdout.
            err: the pipe of its stderr.
            log: gets what it writes.
        """
        output = Output({out: "stdout", err: "stderr"}, log)
        reader, writer = await asyncio.open_connection(sock=channel, limit=_LONGEST_LINE)
        return cls(reader, writer, output)

    def send(self, message: Task | More) -> None:
        """Give it something to do."""
        self._writer.write(encode(message))

    async def receive(self) -> Message | None:
        """The next message; None when the socket has closed."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                line = b""
            message = decode_message(line) if line.endswith(b"\n") else None
            if not isinstance(message, StatementStarted | StatementEnded):  # nothing is logged of these
                self._output.drain()
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
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(ENDED):
                while await self._reader.read(4096):
                    pass
        self._writer.close()
        self._output.close()


class Output:
    """What a fork writes to stdout and stderr, line by line, into the log."""

    def __init__(self, pipes: dict[int, str], log: FilteringBoundLogger) -> None:
        self._pipes = pipes
        self._log = log
        self._rest = dict.fromkeys(pipes, b"")
        self._logged = 0
        self._dropped = 0
        self._loop = asyncio.get_running_loop()
        for pipe in pipes:
            os.set_blocking(pipe, False)
            self._loop.add_reader(pipe, self._read, pipe)

    def drain(self) -> None:
        """Log what has been written so far."""
        for pipe in tuple(self._pipes):
            while self._read(pipe):
                pass

    def _read(self, pipe: int) -> bool:
        try:
            data = os.read(pipe, _LONGEST_OUTPUT)
        except BlockingIOError:
            return False
        if not data:
            self._end(pipe)
            return False
        *lines, rest = (self._rest[pipe] + data).split(b"\n")
        if len(rest) >= _LONGEST_OUTPUT:
            lines, rest = [*lines, rest], b""
        self._rest[pipe] = rest
        for line in lines:
            self._line(pipe, line)
        return True

    def _line(self, pipe: int, line: bytes) -> None:
        if self._logged > _MOST_OUTPUT:
            self._dropped += len(line) + 1
            return
        self._logged += len(line) + 1
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self._log.info("script_output", source=self._pipes[pipe], message=text)
        if self._logged > _MOST_OUTPUT:
            self._log.warning(
                "script_output_dropped", logged_bytes=self._logged, hint="it writes too much to be logged"
            )

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
            self._log.warning("script_output_dropped", dropped_bytes=self._dropped)
            self._dropped = 0
