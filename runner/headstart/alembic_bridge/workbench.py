"""What the engines of a user's env.py are given: our connection, or the proof that theirs reaches the same database.

SQLAlchemy's `do_connect` event on the Engine class sees every connection that any engine makes. One over asyncpg to our
database gets our own connection, which holds the migration lock, so that lock and work die together. A connection by
another driver or as another role is used only if it sees an advisory lock that our connection holds, which proves that
both are in the same database of the same server; it then holds the work key (see lock.py) as long as it lives.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.engine import Engine
from sqlalchemy.util import await_only

from headstart.diagnosis import POOLER_HINT
from headstart.errors import ConfigurationError, MigrationFailedError, UnsuitableServerError
from headstart.postgres import milliseconds
from headstart.script_connection import ScriptConnection

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from structlog.typing import FilteringBoundLogger

    from headstart.dsn import Dsn

_DRIVERS = {"psycopg2": "psycopg2", "psycopg": "psycopg", "psycopg2cffi": "psycopg2cffi", "pg8000": "pg8000"}
_SQLALCHEMY_ONLY = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_creator_fn")

_SEES = (
    "select pg_backend_pid(), exists(select from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
    " and database = (select oid from pg_database where datname = current_database()) and pid = {pid}"
    " and (classid::bigint << 32 | objid::bigint) = {token})"
)


class Workbench:
    """Lends connections to the engines that env.py makes.

    Args:
        connection: ours.
        dsn: what it was made from, narrowed down to one host.
        connect: makes another like it.
        work_key: the advisory lock's key that a session other than ours holds while it works; None for reading.
        lock_timeout: seconds, for sessions other than ours.
        statement_timeout: seconds, likewise.
        log: told when a session other than ours does the work.
    """

    def __init__(
        self,
        connection: ScriptConnection,
        dsn: Dsn,
        connect: Callable[[], Awaitable[ScriptConnection]],
        *,
        work_key: int | None,
        lock_timeout: float,
        statement_timeout: float,
        log: FilteringBoundLogger,
    ) -> None:
        self.connection = connection
        self.pids: dict[int, int] = {}
        self.dsn = dsn
        self._connect = connect
        self._work_key = work_key
        self._lock_timeout = lock_timeout
        self._statement_timeout = statement_timeout
        self._log = log
        self._token: int | None = None
        self._others: list[ScriptConnection] = []
        self._proven: list[object] = []  # keeps them alive: the id of one that is freed would be the next one's

    @contextlib.contextmanager
    def lending(self) -> Iterator[None]:
        """While this lasts, every engine in the process connects through us."""
        _stand_in_for_missing_drivers()
        self.connection.lent = False
        event.listen(Engine, "do_connect", self._on_connect)
        try:
            yield
        finally:
            event.remove(Engine, "do_connect", self._on_connect)
            for other in self._others:
                other.drop()
            self._others.clear()
            self._proven.clear()
            self.pids.clear()

    def pid_of(self, connection: sqlalchemy.Connection) -> int | None:
        """The backend that does the work of `connection`."""
        raw = driven_by_asyncpg(connection)
        return self.pids.get(id(connection.connection.dbapi_connection)) if raw is None else raw.get_server_pid()

    def prove(self, connection: sqlalchemy.Connection) -> None:
        """Make sure that what env.py hands to Alembic reaches our database, and holds the lock while it works.

        Raises:
            ConfigurationError: it reaches another database.
            UnsuitableServerError: it goes through a transaction pooler.
        """
        if connection.dialect.name != "postgresql":
            cause = f"env.py connects to {connection.dialect.name}, not to the PostgreSQL database of DATABASE_URL"
            raise ConfigurationError(cause, hint="let env.py take its URL from the environment variable DATABASE_URL")
        dbapi = cast("Any", connection.connection.dbapi_connection)
        raw = getattr(dbapi, "driver_connection", dbapi)
        if raw is self.connection or id(dbapi) in self.pids:
            return
        idle = not connection.in_transaction()
        cursor = dbapi.cursor()
        cursor.execute(await_only(self._sees()))
        pid, sees = cursor.fetchone()
        if not sees:
            url = connection.engine.url
            cause = (
                f"env.py connects to a database of its own ({url.drivername} {url.host or 'by default'}/{url.database})"
            )
            raise ConfigurationError(
                f"{cause}, which is not the one of DATABASE_URL that was waited for and locked",
                hint="let env.py take its URL from DATABASE_URL, or point DATABASE_URL at that database",
            )
        if self._work_key is not None:
            self._take_over(cursor, raw, pid, connection)
        if idle:
            dbapi.commit()
        self._proven.append(dbapi)
        self.pids[id(dbapi)] = pid

    def require_lock(self) -> None:
        """Before a commit on a connection of env.py's own: nothing is committed once ours, which has the lock, is gone.

        Raises:
            MigrationFailedError: it is (60).
        """
        if self.pids:
            try:
                await_only(self.connection.execute("select 1"))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise MigrationFailedError("the connection that holds the migration lock was lost") from error

    @staticmethod
    def before_commit(context: MigrationContext, statement: str) -> None:
        """Run a statement at the end of a step's transaction, whichever connection has that."""
        assert context.connection is not None  # noqa: S101  (online)
        raw = driven_by_asyncpg(context.connection)
        if raw is not None and raw.is_in_transaction():
            raw.parting = statement
        else:
            cast("Any", context.connection.connection.dbapi_connection).cursor().execute(statement)

    def _take_over(self, cursor: Any, raw: object, pid: int, connection: sqlalchemy.Connection) -> None:  # noqa: ANN401
        promised = raw.get_server_pid() if isinstance(raw, ScriptConnection) else _promised_pid(raw)
        if promised not in {None, pid}:
            raise UnsuitableServerError("env.py's own connection goes through a pooler", hint=POOLER_HINT)
        lock_timeout = milliseconds(self._lock_timeout)
        cursor.execute(
            f"select set_config('lock_timeout', '{lock_timeout}', false),"
            f" set_config('statement_timeout', '{milliseconds(self._statement_timeout)}', false),"
            " set_config('idle_in_transaction_session_timeout', '0', false),"
            " set_config('tcp_keepalives_idle', '3', false),"
            " set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '3', false),"
            " set_config('client_connection_check_interval', '500', false),"
            f" pg_try_advisory_lock_shared({self._work_key})"
        )
        *_, locked = cursor.fetchone()
        if not locked:  # cannot be: the gate is ours, and without it nobody takes the work key
            raise ConfigurationError("env.py's own connection did not get the migration lock's second key")
        if isinstance(raw, ScriptConnection):
            raw.work_lock_timeout = lock_timeout
        self._log.info("env_connection_proven", driver=connection.dialect.driver, backend_pid=pid)

    def _on_connect(self, dialect: Any, _record: object, _args: object, params: dict[str, Any]) -> None:  # noqa: ANN401
        if dialect.driver != "asyncpg":
            return
        wanted = {key: value for key, value in params.items() if key not in _SQLALCHEMY_ONLY}
        for key in wanted:
            del params[key]
        params["async_creator_fn"] = partial(self._lend, wanted)
        # A statement that is kept over an ALTER TABLE has the wrong columns: migrations prepare each one anew.
        params["prepared_statement_cache_size"] = 0

    async def _lend(self, wanted: dict[str, Any]) -> ScriptConnection:
        ours = await self._means_us(wanted)
        if ours and not self.connection.lent:
            await self.connection.execute("set search_path to default")
            self.connection.lent = True
            return self.connection
        if ours:
            other = await self._connect()
            await other.execute("set search_path to default")
        else:
            try:
                other = await asyncpg.connect(**wanted, connection_class=ScriptConnection)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
                raise self._elsewhere(wanted, error) from error
        self._others.append(other)
        return other

    async def _means_us(self, wanted: dict[str, Any]) -> bool:
        """Whether a URL of env.py's own leads to our database, as our role.

        The same role and database by another host name or port count after a probe has seen our lock from
        there: so a URL through a pooler is answered with our direct connection.
        """
        if all(wanted.get(part) is None for part in ("host", "port", "user", "database")):
            return True
        if (wanted.get("user") or self.dsn.user, wanted.get("database") or self.dsn.database) != (
            self.dsn.user,
            self.dsn.database,
        ):
            return False
        host, port = self.dsn.hosts[0]
        if wanted.get("host") in (None, host, [host]) and wanted.get("port") in (None, port, [port], [str(port)]):
            return True
        try:
            probe = await asyncpg.connect(**wanted, statement_cache_size=0, timeout=10)
            try:
                return bool((await probe.fetchrow(await self._sees()))[1])
            finally:
                await probe.close(timeout=2)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
            raise self._elsewhere(wanted, error) from error

    def _elsewhere(self, wanted: dict[str, Any], error: Exception) -> ConfigurationError:
        where = f"{wanted.get('host') or 'the default host'}/{wanted.get('database') or ''}"
        return ConfigurationError(
            f"env.py connects by a URL of its own ({where}), and that failed: {type(error).__name__}: {error}",
            hint="let env.py take its URL from DATABASE_URL",
        )

    async def _sees(self) -> str:
        """The query that proves: run elsewhere, it is true only in our database, while we hold the token."""
        if self._token is None:
            self._token = secrets.randbits(62)
            await self.connection.fetchval("select pg_advisory_lock_shared($1)", self._token)
        return _SEES.format(pid=self.connection.get_server_pid(), token=self._token)


def driven_by_asyncpg(connection: sqlalchemy.Connection) -> ScriptConnection | None:
    """The connection below SQLAlchemy's, ours or one of env.py's own; None if another driver has made it."""
    raw = getattr(connection.connection.dbapi_connection, "driver_connection", None)
    return raw if isinstance(raw, ScriptConnection) else None


def _promised_pid(raw: object) -> int | None:
    """The backend's pid that a driver was told when it connected, where it tells (psycopg, psycopg2)."""
    info = getattr(raw, "info", None)
    pid = getattr(info, "backend_pid", None)
    return pid if isinstance(pid, int) else None


def _stand_in_for_missing_drivers() -> None:
    """Let a URL that names a driver which is not installed be served by asyncpg, on our connection.

    An env.py written for psycopg2 then works in an image that does not carry it. `postgres://`, which SQLAlchemy
    does not know at all, likewise.
    """
    asyncpg_dialect = ("sqlalchemy.dialects.postgresql.asyncpg", "PGDialect_asyncpg")
    registry.register("postgres", *asyncpg_dialect)
    missing = {driver for driver, module in _DRIVERS.items() if importlib.util.find_spec(module) is None}
    for driver in missing:
        registry.register(f"postgresql.{driver}", *asyncpg_dialect)
    from sqlalchemy.dialects import postgresql

    if cast("Any", postgresql).dialect.driver in missing:
        registry.register("postgresql", *asyncpg_dialect)
