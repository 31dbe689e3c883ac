"""A child process: argv, environment, streamed stderr, TERM then KILL, a typed result.

Every child is the leader of a session, and so of a process group, of its own. That is what makes it possible to end
pg_dump together with its parallel workers, and it keeps a terminal's Ctrl-C from reaching the child before us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: How much of the end of stderr a result keeps, in characters.
TAIL = 8 * 1024
#: A line without an end is passed on in pieces of this size, in bytes.
LONGEST_LINE = 1024 * 1024
#: The process groups of the children that are running, for `kill_remaining`.
_GROUPS: set[int] = set()
#: The exit status of a child whose own nobody knows.
UNKNOWN = 255
#: How often we look whether a child, or a process group that was sent a signal, has ended, in seconds.
POLL = 0.01
#: How long the killed may take to disappear, in seconds: one that waits for a disk cannot go before the disk answers.
LAST_WAIT = 1.0

_PIECE = 64 * 1024  # bytes that are read at once


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended. `returncode` is negative (-N) when signal N ended it."""

    argv: tuple[str, ...]
    returncode: int
    stderr: str
    stdout: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the exit status is 0."""
        return self.returncode == 0

    @property
    def how(self) -> str:
        """The exit status in words."""
        return how_it_ended(self.returncode)


def how_it_ended(returncode: int) -> str:
    """An exit status in words: `exit status 1`, `ended by SIGKILL`. It is -N where signal N has ended the process."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    redact: Callable[[str], str],
    on_line: Callable[[str], None] | None = None,
    capture: bool = False,
    grace: float = 5.0,
) -> Finished:
    """Run a program to its end, or end it when this task is cancelled.

    Args:
        argv: the program and its arguments. Nothing secret belongs here: any user of the machine can read it.
        env: the whole environment of the child; nothing is added from ours.
        redact: takes secrets out of a line, before anybody sees it.
        on_line: called with each line of stderr, redacted, as it arrives.
        capture: keep all of stdout in the result; it goes to /dev/null otherwise.
        grace: seconds between TERM and KILL when this task is cancelled.

    Raises:
        OSError: the program is not there (FileNotFoundError) or cannot be run (PermissionError and others).
        asyncio.CancelledError: once the child and its whole group are gone.
    """
    tail = ""
    captured: list[bytes] = []

    def keep(line: bytes) -> None:
        nonlocal tail
        text = redact(line.decode("utf-8", "replace").rstrip("\r\n"))
        tail = f"{tail}{text}\n"[-TAIL:]
        if on_line is not None:
            on_line(text)

    # Started at a stroke: there is no moment at which a cancellation would leave a child behind that nobody knows.
    child = subprocess.Popen(  # noqa: ASYNC220
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    await _ended(child, ((child.stderr, keep), (child.stdout, captured.append)), grace)
    return Finished(
        argv=tuple(argv),
        returncode=child.returncode,
        stderr=tail.removesuffix("\n"),
        stdout=b"".join(captured),
    )


async def _ended(
    child: subprocess.Popen[bytes], pipes: Iterable[tuple[IO[bytes] | None, Callable[[bytes], None]]], grace: float
) -> None:
    """Hear what a child writes until it has ended, or end it when this task is cancelled."""
    heard: list[Lines] = []
    _GROUPS.add(child.pid)
    threading.Thread(target=_collect, args=(child,), daemon=True).start()
    try:
        heard.extend(_hear(pipe, hear) for pipe, hear in pipes if pipe)
        await _exited(child)
        # A grandchild may have inherited the pipe and live on: we do not wait for its output beyond the grace.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for each in heard:
                    await each.ended.wait()
    except BaseException:
        await _end(child, grace)
        raise
    finally:
        _GROUPS.discard(child.pid)
        for each in heard:
            each.close()


def kill_remaining() -> None:
    """Kill every child that still runs, without waiting: for a process that ends itself at once."""
    for group in tuple(_GROUPS):
        _signal_group(group, signal.SIGKILL)


class Lines:
    """Hears what is written into a pipe, line by line.

    Args:
        pipe: its reading end; it is closed with this.
        on_line: called with each line and its end.

    Attributes:
        ended: nobody has the other end any more, or this was closed.
    """

    def __init__(self, pipe: int, on_line: Callable[[bytes], None]) -> None:
        self._pipe = pipe
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        os.set_blocking(pipe, False)
        self._loop.add_reader(pipe, self._read)

    def drain(self) -> None:
        """Hear what has been written so far."""
        while not self.ended.is_set() and self._read():
            pass

    def close(self) -> None:
        """Hear the last of it."""
        self.drain()
        self._end()

    def _read(self) -> int:
        """How many bytes there were."""
        try:
            data = os.read(self._pipe, _PIECE)
        except BlockingIOError:
            return 0
        if not data:
            self._end()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line + b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._on_line(rest)

    def _end(self) -> None:
        if not self.ended.is_set():
            self._flush()
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self.ended.set()


def _hear(pipe: IO[bytes], on_line: Callable[[bytes], None]) -> Lines:
    with pipe:
        return Lines(os.dup(pipe.fileno()), on_line)


async def _exited(child: subprocess.Popen[bytes]) -> None:
    """Wait until a child has ended. asyncio's own would wait for whoever has inherited its pipes, too."""
    while child.returncode is None:  # noqa: ASYNC110  (the kernel sends a notice to the main thread alone)
        await asyncio.sleep(POLL)


def _collect(child: subprocess.Popen[bytes]) -> None:
    """Wait for its exit status. Popen's own `poll` takes one that somebody else has collected for success.

    A program that calls us may ignore SIGCHLD, or collect whatever ends.
    """
    try:
        child.returncode = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    except ChildProcessError:
        child.returncode = UNKNOWN


async def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """End the child's whole group: TERM, and KILL for what is left after `grace` seconds.

    A second cancellation (the operator is impatient, or the orchestrator is) goes to KILL at once.
    """
    try:
        _signal_group(child.pid, signal.SIGTERM)
        async with asyncio.timeout(grace):
            await _exited(child)
            while _is_there(child.pid):  # noqa: ASYNC110  (the kernel sends no notice)
                await asyncio.sleep(POLL)
    except (TimeoutError, asyncio.CancelledError):
        pass
    finally:
        _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child's whole group, and see it gone, so that no zombie stays, and no file that is being written.

    Nothing survives that, so the wait is short, and nothing may interrupt it.
    """
    _signal_group(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + LAST_WAIT
    while (child.returncode is None or _is_there(child.pid)) and time.monotonic() < deadline:
        time.sleep(POLL / 10)


def _is_there(group: int) -> bool:
    """Whether anybody is left in the process group of a child that has ended."""
    return _reap_orphans(group) or _alive(group)


def _reap_orphans(group: int) -> bool:
    """Collect an ended grandchild; False when there was none.

    As PID 1 of a container we inherit the workers that an ended pg_dump leaves behind. Uncollected they would stay in
    the group as zombies, and the group would look alive until the grace is over.
    """
    try:
        return os.waitpid(-group, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _alive(group: int) -> bool:
    """Whether a process of a group still runs. One that has ended does not, whether it has been collected or not.

    The workers of a pg_dump that has ended are PID 1's to collect, which may take its time: proc_pid_stat(5).
    """
    if not _signal_group(group, 0):
        return False
    numbers = [name for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []  # noqa: PTH112, PTH208
    for number in numbers:
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as file:  # noqa: PTH123
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in {b"Z", b"X"}:
                return True
    return not numbers


def _signal_group(group: int, signum: int) -> bool:
    """Send a signal to a process group; False when nobody is left in it."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Someone is there, but under another user (a setuid program): nothing that we could end.
        return signum == 0
    return True
