"""A child process: argv, environment, streamed stderr, TERM then KILL, a typed result.

Every child is the leader of a session, and so of a process group, of its own. That is what makes it possible to end
pg_dump together with its parallel workers, and it keeps a terminal's Ctrl-C from reaching the child before us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: How much of the end of stderr a result keeps, in characters.
TAIL = 8 * 1024
#: A line without an end is passed on in pieces of this size, in bytes.
LONGEST_LINE = 1024 * 1024
#: The process groups of the children that are running, for `kill_remaining`.
_GROUPS: set[int] = set()
#: How often we look whether a process group that was sent a signal has ended, in seconds.
POLL = 0.01
#: How long the killed may take to disappear, in seconds: one that waits for a disk cannot go before the disk answers.
LAST_WAIT = 1.0


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended. `returncode` is negative (-N) when signal N ended it."""

    argv: tuple[str, ...]
    returncode: int
    stderr: str
    seconds: float
    stdout: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the exit status is 0."""
        return self.returncode == 0

    @property
    def how(self) -> str:
        """The exit status in words: `exit status 1`, `ended by SIGKILL`."""
        if self.returncode >= 0:
            return f"exit status {self.returncode}"
        try:
            return f"ended by {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"ended by signal {-self.returncode}"


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
    started = time.monotonic()
    tail = _Tail(redact, on_line)
    transport, child, cancelled = await _start(argv, env, tail, capture=capture)
    _GROUPS.add(transport.get_pid())
    try:
        if cancelled:
            raise asyncio.CancelledError
        await child.exited.wait()
        # A grandchild may have inherited the pipe and live on: we do not wait for its output beyond the grace.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await child.closed.wait()
    except BaseException:
        await _end(child, transport.get_pid(), grace if cancelled < 2 else 0)  # noqa: PLR2004  (twice)
        raise
    finally:
        _GROUPS.discard(transport.get_pid())
        transport.close()
    tail.close()
    returncode = transport.get_returncode()
    return Finished(
        argv=tuple(argv),
        returncode=returncode if returncode is not None else -1,
        stderr=tail.text,
        seconds=time.monotonic() - started,
        stdout=b"".join(child.stdout),
    )


async def _start(
    argv: Sequence[str], env: Mapping[str, str], tail: _Tail, *, capture: bool
) -> tuple[asyncio.SubprocessTransport, _Child, int]:
    """Start a child, and give how often this task was cancelled meanwhile."""
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: _Child(tail),
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if capture else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    # A cancellation in the middle of this would leave a child behind that nobody knows.
    cancelled = await _wait_for(starting)
    return *starting.result(), cancelled


def kill_remaining() -> None:
    """Kill every child that still runs, without waiting: for a process that ends itself at once."""
    for group in tuple(_GROUPS):
        _signal_group(group, signal.SIGKILL)


class _Child(asyncio.SubprocessProtocol):
    """What happens to a child. `asyncio.subprocess.Process.wait` would also wait for whoever inherited its pipes."""

    def __init__(self, tail: _Tail) -> None:
        self._tail = tail
        self.stdout: list[bytes] = []
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.stdout.append(data)
        else:
            self._tail.feed(data)

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed.set()


class _Tail:
    """Takes bytes, passes on redacted lines, and keeps the last of them."""

    def __init__(self, redact: Callable[[str], str], on_line: Callable[[str], None] | None) -> None:
        self._redact = redact
        self._on_line = on_line
        self._rest = b""
        self._lines: deque[str] = deque()
        self._size = 0

    def feed(self, piece: bytes) -> None:
        # Only complete lines are redacted: a secret may lie across two pieces.
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > LONGEST_LINE:
            self.close()

    def close(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, raw: bytes) -> None:
        line = self._redact(raw.decode("utf-8", "replace").rstrip("\r"))
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > TAIL and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1
        if self._on_line is not None:
            self._on_line(line)

    @property
    def text(self) -> str:
        return "\n".join(self._lines)[-TAIL:]


async def _end(child: _Child, group: int, grace: float) -> None:
    """End the child's whole group: TERM, and KILL for what is left after `grace` seconds.

    A second cancellation (the operator is impatient, or the orchestrator is) goes to KILL at once.
    """
    try:
        if _signal_group(group, signal.SIGTERM):
            async with asyncio.timeout(grace):
                await child.exited.wait()
                await _gone(group)
    except (TimeoutError, asyncio.CancelledError):
        pass
    finally:
        _signal_group(group, signal.SIGKILL)
        # Nothing survives KILL, so these waits are short; without them a zombie, or a file being written, would stay.
        await _wait_for(asyncio.ensure_future(child.exited.wait()))
        last = asyncio.ensure_future(_gone(group))
        asyncio.get_running_loop().call_later(LAST_WAIT, last.cancel)
        await _wait_for(last)


async def _gone(group: int) -> None:
    """Wait until nobody is left in a process group."""
    while _reap_orphans(group) or _alive(group):  # noqa: ASYNC110  (the kernel sends no notice)
        await asyncio.sleep(POLL)


async def _wait_for(future: asyncio.Future[Any]) -> int:
    """Wait until a future is done; give how often this task was cancelled meanwhile."""
    cancelled = 0
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled += 1
    return cancelled


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
