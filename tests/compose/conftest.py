"""The sample app as a real process, and the reference project's database that it wants."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from support.process import environment
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from conftest import RunHeadstart
    from support.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """What a request was answered with."""

    status: int
    body: dict[str, Any]


def request(url: str, body: object = None, *, seconds: float = 10) -> Answer:
    """GET, or POST where there is a body: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data=data), timeout=seconds) as response:
            return Answer(response.status, json.load(response))
    except HTTPError as error:
        with error:
            return Answer(error.code, json.load(error))


class App:
    """A running sample app. It ends with the `with` block."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sample_app"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return "".join(self._lines)

    def serving(self) -> str:
        """Wait until it serves, and return its address."""

        def look() -> re.Match[str] | None:
            assert self._process.poll() is None, self.stderr
            return re.search(r"running on http://0\.0\.0\.0:(\d+)", self.stderr)

        return f"http://127.0.0.1:{eventually(look, 'the app serves')[1]}"

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(signum)

    def ended(self) -> int:
        """Wait until it has ended, and return its exit code."""
        code = self._process.wait(60)
        self._reader.join(10)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self._lines.extend(self._process.stderr)


class StartApp(Protocol):
    """Start the sample app."""

    def __call__(self, url: str | None = None, *, cwd: Path = ROOT, **env: str) -> App:
        """`url` becomes DATABASE_URL. What still runs at the end of the test is killed."""


@pytest.fixture
def start_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartApp]:
    """Start `python -m sample_app` in a clean environment, on a port of the system's choice."""
    with ExitStack() as stack:

        def start(url: str | None = None, *, cwd: Path = ROOT, **env: str) -> App:
            given = {"PORT": "0", "PYTHONPATH": str(ROOT / "compose/app"), **env}
            given |= {} if url is None else {"DATABASE_URL": url}
            return stack.enter_context(App(environment(tmp_path_factory.mktemp("home"), given), cwd))

        yield start


@pytest.fixture
def migrated(any_server: Postgres, run_headstart: RunHeadstart) -> Iterator[str]:
    """The URL of a database at the reference project's head."""

    def build(url: str) -> None:
        run = run_headstart("up", url=url, cwd=ROOT, env={"HEADSTART_BACKUP": "off"})
        assert run.code == 0, run

    url = any_server.create_database(template=any_server.template("reference", build))
    yield url
    any_server.drop_database(url)
