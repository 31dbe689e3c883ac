"""A throw-away server with databases that are made and cloned quickly, and two ways to ask one something."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import asyncpg

from headstart.postgres.embedded import Embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from headstart.postgres.embedded import Installation

_T = TypeVar("_T")

_NUMBERS = itertools.count(1)

# CREATE DATABASE's strategies came with 15; copying files is the quicker one where nothing is flushed.
_STRATEGIES_SINCE = 15


class Postgres(Embedded):
    """An `Embedded` that the tests share. It stands as it was made: a test that changes it starts its own."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._templates: dict[str, str] = {}
        self.tls_ca: Path | None = None

    @classmethod
    def start(cls, installation: Installation, *, settings: Mapping[str, str] | None = None, tls: bool = False) -> Self:
        """As `Embedded.start`; with `tls`, with a certificate for `localhost` that is its own authority (`tls_ca`)."""
        server = super().start(installation, settings=settings)
        if tls:
            server._offer_tls()
        return server

    def _offer_tls(self) -> None:
        certificate, key = self.folder / "server.crt", self.folder / "server.key"
        what = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        use = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-days", "2", "-nodes"]
        make = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(certificate)]
        self._run(["openssl", "req", "-x509", *what, *use, *make])
        key.chmod(0o600)
        self.shut_down()
        self._configure({"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)})
        self.start_up()
        self.tls_ca = certificate

    def url(
        self, database: str = "postgres", *, user: str | None = None, password: str | None = None, unix: bool = False
    ) -> str:
        """The libpq URL of one of its databases.

        Args:
            database: its name, unquoted.
            user: the superuser when left out.
            password: the superuser's when left out.
            unix: over the Unix socket instead of TCP.
        """
        account = f"{quote(user or self.superuser, safe='')}:{quote(password or self.password, safe='')}"
        if unix:
            query = urlencode({"host": str(self.folder), "port": self.port})
            return f"postgresql://{account}@/{quote(database, safe='')}?{query}"
        return f"postgresql://{account}@{self.host}:{self.port}/{quote(database, safe='')}"

    def become_standby(self) -> None:
        """Restart it as a hot standby of nobody: in recovery, read-only, for good."""
        self.shut_down()
        (self.data_dir / "standby.signal").touch()
        self.start_up()

    def reload(self) -> None:
        """Read pg_hba.conf and postgresql.conf again (soon: the postmaster does it when it gets to it)."""
        self._pg_ctl("reload")

    def create_database(self, name: str | None = None, *, template: str = "template1", owner: str | None = None) -> str:
        """Create a database and return its URL.

        Args:
            name: its name, whatever characters it has; a new one when left out.
            template: name of the database to copy, which nobody may be connected to.
            owner: its owner; the superuser when left out.
        """
        name = name or f"test_{next(_NUMBERS)}"
        sql = f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(template)}"
        if owner is not None:
            sql += f" OWNER {identifier(owner)}"
        if self.major >= _STRATEGIES_SINCE:
            sql += " STRATEGY file_copy"
        script(self.url(), sql)
        return self.url(name)

    def drop_database(self, url_or_name: str) -> None:
        """Drop a database, connected to or not."""
        script(self.url(), f"DROP DATABASE IF EXISTS {identifier(database_of(url_or_name))} WITH (FORCE)")

    def template(self, key: str, build: Callable[[str], object]) -> str:
        """The name of the template database `key`, which `build` fills, given its URL, when it is first asked for.

        Clone it with `create_database(template=...)`. It belongs to this server for as long as that runs.
        """
        if key not in self._templates:
            url = self.create_database()
            build(url)
            self._templates[key] = database_of(url)
        return self._templates[key]


async def query(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one statement, on a connection of its own."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


def psql(url: str, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
    """The rows of one statement, on a connection of its own; in any test, asynchronous or not."""
    return [tuple(row) for row in _wait_for(query(url, sql, *arguments))]


def script(url: str, sql: str) -> None:
    """Run any number of statements, on a connection of its own; in any test, asynchronous or not."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    _wait_for(run())


def identifier(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def database_of(url_or_name: str) -> str:
    """The database's name in one of our own URLs; a name stays what it is."""
    return unquote(urlsplit(url_or_name).path[1:]) if "://" in url_or_name else url_or_name


def _wait_for(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a loop of its own, in a thread of its own: ours may be running one already."""
    outcome: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001  (raised again below, in the thread that asked)
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
