"""headstart as a real process, in an environment that holds nothing but what a test gives it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from support.forked import Nursery, may_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from support.forked import Forked

RUNNER = Path(__file__).resolve().parents[2] / "runner"


class Run(NamedTuple):
    """How a process ended. `log` is each JSON line of stderr, `last` the last of them."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of stderr that are JSON objects."""
        return [line for line in map(_parsed, self.stderr.splitlines()) if line is not None]

    @property
    def last(self) -> dict[str, Any]:
        """The last line of stderr, which must be a JSON object: `run_finished`, mostly. Empty if there is no stderr."""
        lines = self.stderr.splitlines()
        last = _parsed(lines[-1]) if lines else {}
        assert last is not None, f"the last line is not a log line: {lines[-1]}"
        return last

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log lines of one event, or of all."""
        return [line for line in self.log if name is None or line.get("event") == name]

    def __str__(self) -> str:
        return f"exit {self.code} after {self.seconds:.2f} s\n-- stdout\n{self.stdout}\n-- stderr\n{self.stderr}"


class Headstart:
    """A running headstart. Its log can be waited for; whatever is left of it ends with the `with` block.

    Args:
        args: of the command line.
        env: its whole environment.
        cwd: where it runs.
        stdin: what it can read; nothing when left out.
        program: "headstart", or "alembic".
        fresh: start it as users do, instead of forking a process that has imported it.
    """

    def __init__(
        self,
        *args: str,
        env: Mapping[str, str],
        cwd: Path,
        stdin: str | None = None,
        program: str = "headstart",
        fresh: bool = False,
    ) -> None:
        self._began = time.monotonic()
        (out, into_out), (err, into_err) = os.pipe(), os.pipe()
        with open(os.devnull, "rb") if stdin is None else _file(stdin) as given:  # noqa: PTH123
            self._process = _start(args, env, cwd, (given.fileno(), into_out, into_err), program, fresh=fresh)
        os.close(into_out)
        os.close(into_err)
        self._lines: list[str] = []
        self._stdout: list[str] = []
        self._news = threading.Condition()
        self._pipes = [os.fdopen(pipe, encoding="utf-8", errors="replace") for pipe in (out, err)]
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, into))
            for pipe, into in zip(self._pipes, (self._stdout, self._lines), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(
        self, event: str, matching: Callable[[dict[str, Any]], bool] = lambda _: True, *, seconds: float = 30
    ) -> dict[str, Any]:
        """Wait until it has logged an event, and return that line.

        Args:
            event: name of the event.
            matching: which of several lines with that name.
            seconds: how long to wait before the test fails.
        """
        deadline = time.monotonic() + seconds
        seen = 0
        with self._news:
            while True:
                for text in self._lines[seen:]:
                    line = _parsed(text)
                    if line is not None and line.get("event") == event and matching(line):
                        return line
                seen = len(self._lines)
                done = not any(reader.is_alive() for reader in self._readers)
                left = deadline - time.monotonic()
                assert left > 0, f"no {event} within {seconds} s:\n{''.join(self._lines)}"
                assert not done, f"ended without {event}:\n{''.join(self._lines)}"
                self._news.wait(min(left, 0.2))

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal; to itself alone, as a container runtime does."""
        self._process.send_signal(signum)

    def finish(self, *, seconds: float = 60) -> Run:
        """Wait until it has ended. A test that lets it run for longer fails."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.stderr}") from None
        took = time.monotonic() - self._began
        for reader in self._readers:
            reader.join(10)
        return Run(code, "".join(self._stdout), self.stderr, took)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()
        for reader in self._readers:
            reader.join(10)
        for pipe in self._pipes:
            pipe.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _read(self, pipe: Any, into: list[str]) -> None:
        for line in pipe:
            with self._news:
                into.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def _file(text: str) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115  (its reader closes it)
    file.write(text.encode())
    file.seek(0)
    return file


def alembic(*args: str, env: Mapping[str, str], cwd: Path, seconds: float = 60) -> Run:
    """Run Alembic's own command to its end."""
    with Headstart(*args, env=env, cwd=cwd, program="alembic") as process:
        return process.finish(seconds=seconds)


def _start(
    args: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    streams: tuple[int, int, int],
    program: str,
    *,
    fresh: bool,
) -> Forked | subprocess.Popen[bytes]:
    if not fresh and may_fork(env):
        return _nursery(program).start(args, env=env, cwd=cwd, streams=streams)
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        [sys.executable, "-m", program, *args],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        start_new_session=True,  # so that `__exit__` finds its children too
    )


@functools.cache
def _nursery(program: str) -> Nursery:
    measures = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}  # make coverage
    nursery = Nursery(program, environment(Path("/"), measures))
    atexit.register(nursery.close)
    return nursery


def environment(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """PATH, a HOME of the test's own, LANG, and what is given: nothing else reaches headstart.

    Where headstart is not installed, PYTHONPATH leads to the sources.
    """
    clean = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}
    try:
        distribution("headstart")
    except PackageNotFoundError:
        clean["PYTHONPATH"] = str(RUNNER)
    return {**clean, **given}


def _parsed(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
