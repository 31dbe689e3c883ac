"""The dialect of `postgresql+headstart://`, and how its engines, or all of them, are led to our database.

SQLAlchemy manual, 'Registering New Dialects'.
"""

from __future__ import annotations

import importlib.util
import re
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, registry

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy.engine import Engine

    from headstart.settings.dsn import Dsn

DRIVER = "headstart"
"""The name by which `sqlalchemy.url` asks for whatever driver fits the engine: `postgresql+headstart://`."""

_ADDRESS = ("host", "port", "user", "password", "dbname", "database", "dsn", "service", "passfile", "async_creator_fn")
_LIBPQ = frozenset({"psycopg", "psycopg_async", "psycopg2", "psycopg2cffi"})

CONFIGURED: weakref.WeakSet[Any] = weakref.WeakSet()
"""The dialects of engines that take their address from the configuration."""
_NAMED: list[str] = []  # by the configuration, or by DATABASE_URL


class Driver:
    """The dialect of `postgresql+headstart://`: the driver that the user has named, where it fits the engine.

    Otherwise asyncpg for an async engine, SQLAlchemy's own default or the other one of libpq's for another.
    SQLAlchemy manual, 'Registering New Dialects'.
    """

    @classmethod
    def get_dialect_cls(cls, url: sqlalchemy.URL) -> Any:  # noqa: ANN401  (a dialect's class)
        """For a synchronous engine. Offline SQL needs no driver that is installed."""
        default = postgresql.dialect.driver
        names = [default, *(each for each in ("psycopg2", "psycopg") if each != default)]
        installed = next((name for name in names if importlib.util.find_spec(name) is not None), default)
        named = next((each for each in _NAMED if each not in {"asyncpg", "psycopg_async"}), installed)
        return url.set(drivername=f"postgresql+{named}").get_dialect()

    @classmethod
    def get_async_dialect_cls(cls, url: sqlalchemy.URL) -> Any:  # noqa: ANN401  (likewise)
        """For an asynchronous one."""
        named = "psycopg_async" if {"psycopg", "psycopg_async"} & {*_NAMED} else "asyncpg"
        return url.set(drivername=f"postgresql+{named}").get_dialect()

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Remember that this engine takes its address from the configuration."""
        CONFIGURED.add(engine.dialect)


def prefer(*urls: str) -> None:
    """Let `postgresql+headstart://` be the driver that the first of these URLs names which names one."""
    found = (re.match(r"postgres(?:ql)?\+(\w+):", each) for each in urls)
    _NAMED[:] = [each[1] for each in found if each is not None and each[1] != DRIVER][:1]


def lead(dialect: Any, args: Any, params: dict[str, Any], dsn: Dsn) -> None:  # noqa: ANN401  (SQLAlchemy's own)
    """Replace the address by ours; what else env.py gives to the driver stays."""
    for name in _ADDRESS:
        params.pop(name, None)
    if dialect.driver == "asyncpg":
        ours: dict[str, Any] = dict(dsn.asyncpg())
        settings = {**ours.pop("server_settings", {}), **params.pop("server_settings", {})}
        # A prepared statement that is kept over an ALTER TABLE has the wrong columns.
        params.update({**ours, "server_settings": settings, "prepared_statement_cache_size": 0})
        return
    args.clear()
    passwords = {} if dsn.password is None else {"password": dsn.password.reveal()}
    if dialect.driver not in _LIBPQ:
        host, port = dsn.hosts[0]
        params.update({"host": host, "port": port, "user": dsn.user, "database": dsn.database, **passwords})
        return
    ours = {
        **dsn.params,
        "host": ",".join(host for host, _ in dsn.hosts),
        "port": ",".join(str(port) for _, port in dsn.hosts),
        "user": dsn.user,
        "dbname": dsn.database,
        "tcp_user_timeout": "30000",  # milliseconds: a peer that is silent is given up
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        **passwords,
    }
    params.update({**ours, **params})


registry.register(f"postgresql.{DRIVER}", __name__, "Driver")
