"""The connection layer that services share: an async engine and a session factory on the database that was migrated.

SQLAlchemy's own URL knows no TLS files, no passfile and no `postgres://`, and trips over odd passwords. Here the same
`Dsn` that migrates the database gives each connection its arguments (SQLAlchemy manual, 'Asynchronous I/O' and
'PostgreSQL: asyncpg').
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from headstart.settings.machine import settings_from

if TYPE_CHECKING:
    from headstart.settings.dsn import Dsn

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to connect in, where the URL has no `connect_timeout`: with asyncpg's own minute a request would hang."""

POOL: Final[Mapping[str, object]] = {
    "pool_pre_ping": True,  # a server that was restarted costs a ping, not a failed request
    "pool_recycle": 1800,  # seconds: below the hour after which many firewalls forget a silent connection
}

_ADDRESS: Final = ("host", "port", "user", "password", "database", "dsn", "passfile", "service", "servicefile")
_DIRECT: Final = ("DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")
_USUAL: Final = ("DATABASE_URL", "DATABASE_URL_FILE")


def engine_from(environ: Mapping[str, str], **options: Any) -> AsyncEngine:  # noqa: ANN401  (SQLAlchemy's own)
    """Make an async engine on the database that the variables name, in any spelling that Headstart itself takes.

    `DATABASE_URL`, `DATABASE_URL_FILE` or libpq's `PG*`; `DATABASE_DIRECT_URL`, which is for migrations, only where
    there is no other. Of several hosts the primary is taken, unless the URL has `target_session_attrs`. Nothing is
    connected to before the engine is used. No password is in the engine's URL.

    Args:
        environ: `os.environ`, or whatever stands for it. Only the variables that name the database count.
        options: of SQLAlchemy's `create_async_engine`; `connect_args` are asyncpg's, such as `command_timeout` in
            seconds, and `statement_cache_size=0` behind a transaction pooler.

    Raises:
        ConfigurationError: with every problem at once, none of which holds a secret.
    """
    others = _DIRECT if any(name in environ for name in _USUAL) else ()
    address = {
        name: value for name, value in environ.items() if not name.startswith(("HEADSTART_", "ALEMBIC_", *others))
    }
    dsn = settings_from(address).dsn
    connect_args = {**options.pop("connect_args", {}), "async_creator_fn": _connecting(dsn)}
    return create_async_engine(_shown(dsn), **{**POOL, **options}, connect_args=connect_args)


def session_factory(engine: AsyncEngine, **options: Any) -> async_sessionmaker[AsyncSession]:  # noqa: ANN401
    """Make a factory of sessions whose objects can still be read after a commit, as async code needs them.

    Args:
        engine: of `engine_from`.
        options: of SQLAlchemy's `async_sessionmaker`.
    """
    return async_sessionmaker(engine, **{"expire_on_commit": False, **options})


def _connecting(dsn: Dsn) -> Callable[..., Awaitable[asyncpg.Connection[Any]]]:
    """What opens the engine's connections.

    It goes in as an argument of the connection rather than as `async_creator`, so that an env.py which makes its engine
    here gets Headstart's own connection like any other: the worker knows this function by its module.
    """

    async def connect(**given: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401  (asyncpg's own)
        # Read anew for each connection: certificates are renewed while a service runs.
        arguments: dict[str, Any] = {"timeout": CONNECT_TIMEOUT, **dsn.asyncpg()}
        if len(dsn.hosts) > 1 and "target_session_attrs" not in dsn.params:
            arguments["target_session_attrs"] = "read-write"
        settings = {**arguments.pop("server_settings", {}), **given.pop("server_settings", {})}
        extra = {name: value for name, value in given.items() if name not in _ADDRESS}
        connection: asyncpg.Connection[Any] = await asyncpg.connect(**{**arguments, **extra}, server_settings=settings)
        return connection

    return connect


def _shown(dsn: Dsn) -> URL:
    """The engine's URL, for its dialect and its repr: without password; without hosts where there are several."""
    where: dict[str, Any] = {}
    if len(dsn.hosts) == 1:
        host, port = dsn.hosts[0]
        socket = host.startswith(("/", "@"))
        where = {"query": {"host": host, "port": str(port)}} if socket else {"host": host, "port": port}
    return URL.create("postgresql+asyncpg", username=dsn.user, database=dsn.database, **where)
