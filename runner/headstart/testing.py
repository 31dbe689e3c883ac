"""A migrated database for each test, in some twenty milliseconds.

A plugin for pytest, which conftest.py asks for:

    pytest_plugins = ["headstart.testing"]

The project's revisions are run once in a session (in each worker, with pytest-xdist), by the same code as `up`, on a
server that ends with the session; each test gets a copy of the result. PostgreSQL manual, 'Template Databases'.
docs/testing.md has the fixtures and what can be set.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

import pytest

from headstart.errors import HeadstartError
from headstart.log import logger as logs
from headstart.postgres.engine import engine_from
from headstart.postgres.scratch import Scratch, scratch_server
from headstart.settings.machine import settings_from
from headstart.steps.attempt import conduct
from headstart.steps.context import scheme_of
from headstart.steps.outcome import Outcome
from headstart.steps.replay import replay
from headstart.steps.run import Run
from headstart.worker.supervise import Worker

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from headstart.settings.dsn import Dsn
    from headstart.settings.settings import Settings

_T = TypeVar("_T")

OPTION: Final = "headstart_alembic_config"
"""pytest's option that says where the Alembic project is."""

_ASYNCPG: Final = {
    "sslmode": "ssl",
    "target_session_attrs": "target_session_attrs",
    "krbsrvname": "krbsrvname",
    "gsslib": "gsslib",
}
"""libpq's parameters that `asyncpg.connect` takes as text out of SQLAlchemy's URL, and its names of them."""

_NAMES: Final = ("DATABASE_URL", "DATABASE_URL_FILE", "DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")


class Server:
    """A server on which databases are made and dropped at will: what the fixture `headstart_server` gives.

    Args:
        scratch: that server.
        loop: where its connection lives.
    """

    def __init__(self, scratch: Scratch, loop: _Loop) -> None:
        self._scratch = scratch
        self._loop = loop

    @property
    def version(self) -> str:
        """Its version, such as `18.4`."""
        return self._scratch.version

    @contextlib.contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a new database, which is dropped at the end, whoever is still connected to it.

        It names the driver that DATABASE_URL names. `asyncpg.connect` itself takes a URL that names none.

        Args:
            template: the URL of the database to copy, which nobody may be connected to; an empty one when left out.
        """
        copied = None if template is None else settings_from({"DATABASE_URL": template}).dsn
        with self._loop.entered(self._scratch.database(copied)) as dsn:
            yield _url(dsn)

    def migrate(self, settings: Settings, folder: Path) -> None:
        """Run the revisions on the settings' database; a failure fails the tests, in the words of `up`.

        Args:
            settings: which project, which of this server's databases, and up to which revision.
            folder: what the project's relative paths start from.
        """
        output = io.StringIO()
        outcome = self._loop.run(_migrated(settings, folder, output))
        if not outcome.ok:
            sys.stderr.write(output.getvalue())  # pytest shows it below the failure
            raise _failure(f"{outcome.error} (exit {int(outcome.exit)}, {outcome.exit.outcome})", outcome.hint)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pytest's own configuration say where the Alembic project is."""
    parser.addini(OPTION, "alembic.ini or pyproject.toml of the Alembic project [ALEMBIC_CONFIG, or alembic.ini]")


@pytest.fixture(scope="session")
def headstart_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """A Postgres server that ends with the session, or that of HEADSTART_SCRATCH_URL."""
    settings, _ = _settings(pytestconfig)
    loop = _Loop()
    try:
        silent = logs.build(io.StringIO(), json=False, run_id="testing", redact=str)
        with loop.entered(scratch_server(settings, log=silent)) as scratch:
            yield Server(scratch, loop)
    finally:
        loop.stop()


@pytest.fixture(scope="session")
def headstart_template(headstart_server: Server, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of a database at head that is there to be copied: nobody may be connected to it."""
    with headstart_server.database() as url:
        headstart_server.migrate(*_settings(pytestconfig, url))
        yield url


@pytest.fixture
def migrated_database(headstart_server: Server, headstart_template: str) -> Iterator[str]:
    """The URL of a database at head that is this test's own."""
    with headstart_server.database(headstart_template) as url:
        yield url


@pytest.fixture
def migrated_engine(migrated_database: str) -> AsyncEngine:
    """SQLAlchemy's async engine on `migrated_database`, as `headstart.engine_from` makes it, but without a pool."""
    from sqlalchemy.pool import NullPool

    # A pool's connections belong to an event loop, and have to be closed on it: which one, only the test knows.
    return engine_from({"DATABASE_URL": migrated_database}, poolclass=NullPool)


class _Loop:
    """An event loop in a thread of its own: a fixture may be asked for while the test's own loop runs."""

    def __init__(self) -> None:
        self._loop = asyncio.SelectorEventLoop()  # whatever loop the tests' policy would give
        self._thread = threading.Thread(target=self._loop.run_forever, name="headstart-testing", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """What a coroutine returns or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @contextlib.contextmanager
    def entered(self, manager: AbstractAsyncContextManager[_T]) -> Iterator[_T]:
        """An asynchronous context, for code that is not."""
        try:
            value = self.run(manager.__aenter__())
        except HeadstartError as error:
            raise _failure(error.message, error.hint) from None
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    def stop(self) -> None:
        """End the thread."""
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _migrated(settings: Settings, folder: Path, output: io.StringIO) -> Outcome:
    redact = settings.redactor(str(folder))
    log = logs.build(output, json=False, run_id="testing", redact=redact)

    async def bring(run: Run) -> None:
        async with (
            Worker(cwd=run.cwd, environ=run.environ) as worker,
            replay(run, settings.dsn, worker) as revisions,
        ):
            await revisions.up(settings.target)

    run = Run(settings, log, "testing", environ=os.environ, cwd=str(folder), redact=redact)
    return await conduct(run, bring)


def _settings(config: pytest.Config, url: str | None = None) -> tuple[Settings, Path]:
    """What the environment and pytest's configuration say, and the folder that the project's paths start from."""
    given = config.getini(OPTION)
    path = config.rootpath / (given or "alembic.ini")
    flags = {"ALEMBIC_CONFIG": path.name} if given else {}
    # Tests never use the database that the environment names.
    environ = {name: value for name, value in os.environ.items() if name not in _NAMES}
    environ |= {} if url is None else {"DATABASE_URL": url}
    try:
        return settings_from(environ, flags, require_database=url is not None), path.parent
    except HeadstartError as error:
        raise _failure(error.message, error.hint) from None


def _url(dsn: Dsn) -> str:
    """The URL, password and all, in the spelling of DATABASE_URL, so that the app's own code takes it.

    With the parameters that its driver takes from a URL, and without one that is every client's default.
    """
    scheme = scheme_of(os.environ)
    params = {name: value for name, value in dsn.params.items() if (name, value) != ("sslmode", "prefer")}
    driver = scheme.partition("+")[2]
    if driver and not driver.startswith("psycopg"):  # libpq's take all of them
        names = _ASYNCPG if driver == "asyncpg" else {}
        params = {names[name]: value for name, value in params.items() if name in names}
    url = dsn.url(scheme)
    return f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url


def _failure(cause: str | None, hint: str | None) -> BaseException:
    return pytest.fail.Exception(f"headstart: {cause}\n  -> {hint}", pytrace=False)
