"""Real Postgres servers, databases that cost some twenty milliseconds, and headstart as a process.

`server` and `database` run a test once on each major version of this machine, `any_server` and `any_database` once on
the newest. The servers are started when first asked for, one set for each pytest-xdist worker, so that roles and
settings of one worker's tests are nothing to another's.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from headstart.postgres.embedded import Installation, installations
from support import engine as engines
from support import postgres
from support.process import Headstart, Run, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INSTALLATIONS = installations()

# What a shell starts in the background, or under nohup, ignores these, and so would the programs that are tested.
for _signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if "PYTEST_XDIST_WORKER" in os.environ and signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, signal.SIG_DFL)


class RunHeadstart(Protocol):
    """Run headstart to its end."""

    def __call__(
        self,
        *args: str,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        seconds: float = 60,
    ) -> Run:
        """`url` becomes DATABASE_URL; `cwd` is `tmp_path` when left out; `seconds` is how long it may take."""


class StartHeadstart(Protocol):
    """Start headstart and return at once."""

    def __call__(
        self,
        *args: str,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
    ) -> Headstart:
        """As for `RunHeadstart`. What still runs at the end of the test is killed."""


class StartServer(Protocol):
    """Start a server of the test's own."""

    def __call__(
        self, installation: Installation | None = None, *, settings: Mapping[str, str] | None = None, tls: bool = False
    ) -> postgres.Postgres:
        """The newest installation when left out (with `tls`, the newest that was built with it)."""


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[Callable[[Installation], postgres.Postgres]]:
    """The server of an installation that the tests of this worker share."""
    with ExitStack() as stack:

        @functools.cache
        def get(installation: Installation) -> postgres.Postgres:
            return stack.enter_context(postgres.Postgres.start(installation))

        yield get


@pytest.fixture(params=INSTALLATIONS, ids=lambda one: f"pg{one.major}")
def server(
    request: pytest.FixtureRequest, shared_servers: Callable[[Installation], postgres.Postgres]
) -> postgres.Postgres:
    """A shared server: the test runs once on each major version of this machine."""
    return shared_servers(request.param)


@pytest.fixture
def any_server(shared_servers: Callable[[Installation], postgres.Postgres]) -> postgres.Postgres:
    """A shared server of the newest version, for a test that does not depend on it."""
    if not INSTALLATIONS:
        pytest.skip("no Postgres on this machine")
    return shared_servers(INSTALLATIONS[0])


@pytest.fixture
def database(server: postgres.Postgres) -> Iterator[str]:
    """The URL of a new, empty database on `server`."""
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def any_database(any_server: postgres.Postgres) -> Iterator[str]:
    """The URL of a new, empty database on `any_server`."""
    url = any_server.create_database()
    yield url
    any_server.drop_database(url)


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start servers of the test's own, to be configured, shut down or killed. They end with the test."""
    with ExitStack() as stack:

        def start(
            installation: Installation | None = None, *, settings: Mapping[str, str] | None = None, tls: bool = False
        ) -> postgres.Postgres:
            able = [one for one in INSTALLATIONS if not tls or _built_with_tls(one)]
            if installation is None and not able:
                pytest.skip("no Postgres on this machine" + (" that was built with TLS" if tls else ""))
            return stack.enter_context(
                postgres.Postgres.start(installation or able[0], settings=settings, tls=tls),
            )

        yield start


@pytest.fixture
def start_headstart(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartHeadstart]:
    """Start headstart in a clean environment: forked, or as `python -m headstart` for a test that is marked `fresh`.

    No backup is taken unless the test is marked `backed_up`: that would take as long as the rest.
    """
    backup = "off" if request.node.get_closest_marker("backed_up") is None else "auto"
    fresh = request.node.get_closest_marker("fresh") is not None or bool(os.environ.get("HEADSTART_TEST_FRESH"))
    with ExitStack() as stack:

        def start(
            *args: str,
            url: str | None = None,
            env: Mapping[str, str] | None = None,
            cwd: Path | None = None,
            stdin: str | None = None,
        ) -> Headstart:
            given = {"HEADSTART_BACKUP": backup, **({} if url is None else {"DATABASE_URL": url}), **(env or {})}
            clean = environment(tmp_path_factory.mktemp("home"), given)
            return stack.enter_context(Headstart(*args, env=clean, cwd=cwd or tmp_path, stdin=stdin, fresh=fresh))

        yield start


@pytest.fixture
def run_headstart(start_headstart: StartHeadstart) -> RunHeadstart:
    """As `start_headstart`, to its end."""

    def run(
        *args: str,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        seconds: float = 60,
    ) -> Run:
        with start_headstart(*args, url=url, env=env, cwd=cwd, stdin=stdin) as process:
            return process.finish(seconds=seconds)

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for what is generated from runs: the outputs of tests/stories, and docs/faults.md."""
    parser.addoption("--write-stories", action="store_true", help="write what came out into tests/stories")
    parser.addoption(
        "--all-faults", action="store_true", help="run all of the fault matrix, and compare docs/faults.md"
    )
    parser.addoption("--write-faults", action="store_true", help="write docs/faults.md instead")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a container engine where there is none."""
    if item.get_closest_marker("container") is not None and not _container_engine():
        pytest.skip("no container engine answers on this machine")


@functools.cache
def _container_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


@functools.cache
def _built_with_tls(installation: Installation) -> bool:
    done = subprocess.run(
        [installation.bindir / "pg_config", "--configure"], capture_output=True, text=True, check=False
    )
    return "openssl" in done.stdout


@pytest.fixture(scope="session")
def engine() -> engines.Engine:
    """A container engine, if one answers."""
    if missing := engines.Engine.missing():
        pytest.skip(missing)
    return engines.Engine()


@pytest.fixture(scope="session")
def runner_image(engine: engines.Engine) -> str:
    """Headstart's image, without revisions."""
    return engine.build_own(engines.RUNNER, "runner")


@pytest.fixture(scope="session")
def stock_image(engine: engines.Engine) -> str:
    """The image with the reference project's revisions."""
    return engine.build_own(engines.STOCK, "stock")


@pytest.fixture(scope="session")
def app_image(engine: engines.Engine) -> str:
    """The sample app's image."""
    engine.stand_in("debian:trixie-slim", "python:3.13-slim")
    return engine.build(engines.APP, file=engines.ROOT / "compose" / "app" / "Dockerfile")
