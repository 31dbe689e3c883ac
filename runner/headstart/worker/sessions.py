"""The sessions that env.py opens: where its engines connect to, and the proof that this is the locked database.

SQLAlchemy's own events see each connection that any engine of the process opens, whatever made it (SQLAlchemy manual,
'Core Events': DialectEvents.do_connect, PoolEvents.connect). A connection to another database is env.py's business,
until Alembic is configured with it.

In these sessions env.py's search path rules, so each name in a statement of ours is qualified.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from headstart.errors import ConfigurationError, UnsuitableServerError
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.diagnosis import POOLER_HINT
from headstart.postgres.lock import TENANTS
from headstart.postgres.server import literal, milliseconds
from headstart.worker.dialect import CONFIGURED, lead
from headstart.worker.messages import Connected

if TYPE_CHECKING:
    import sqlalchemy

    from headstart.worker.port import Port
    from headstart.worker.tasks import Access

_POSTGRES = ("asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "sqlalchemy.dialects.postgresql")

# The token is a random number, and the supervisor holds it alone: who cannot have it is in the same database. To look
# for it in pg_locks would cost the server more than all else that is asked here.
_PROOF = """
select pg_catalog.pg_backend_pid(), (current_user)::pg_catalog.text, pg_catalog.current_schema()::pg_catalog.text,
       seen.ours, case when seen.ours then {key} end
from (select case when pg_catalog.pg_try_advisory_lock_shared('{token}'::pg_catalog.int8)
    then not pg_catalog.pg_advisory_unlock_shared('{token}'::pg_catalog.int8) else true end) seen (ours)
"""
# What env.py has set itself, by an argument of the connection or in the session, stays. An older server lacks some.
_SETTINGS = """
select pg_catalog.set_config(wanted.name, wanted.value, false)
from (values {wanted}) wanted (name, value)
where pg_catalog.current_setting(wanted.name, true) is not null and wanted.name operator(pg_catalog.<>) all (
    select s.name from pg_catalog.pg_show_all_settings() s
    where s.source operator(pg_catalog.=) 'client' or s.source operator(pg_catalog.=) 'session')
"""


_AGAIN = "headstart_again"
_WITHHELD = "headstart_withheld"


_ROLLED_BACK_WAITS = 5.0  # seconds for a lock, where there is no timeout

_OPEN: dict[int, object] = {}  # the pools' records of open connections
_TASK: list[_Sessions] = []


def begin(access: Access | None, port: Port, *, work: bool) -> None:
    """From now on look after the sessions that env.py opens.

    Args:
        access: which database they are to be in; None for none.
        port: each is reported there.
        work: whether they are to be fit for revisions.
    """
    _TASK[:] = [] if access is None else [_Sessions(access, port, work=work)]


def nothing_open() -> bool:
    """Whether env.py has left no connection, thread or child process behind."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return not _OPEN and threading.active_count() == 1
    return False


def statement_timeout() -> float:
    """Seconds that a statement may take, by our setting; 0 for none."""
    return sum(each.access.statement_timeout for each in _TASK)


def settings() -> tuple[str, ...]:
    """The names of what each session is given."""
    return tuple(name for each in _TASK for name in each.settings)


def reads_only() -> bool:
    """Whether the sessions may not write."""
    return any(each.access.read_only for each in _TASK)


def rolls_back() -> bool:
    """Whether the sessions may write, and are not to commit it."""
    return any(each.access.rolled_back for each in _TASK)


def withhold(connection: Any) -> None:  # noqa: ANN401  (SQLAlchemy's, or its pool's)
    """A transaction is to be committed, and stays open instead: it has written."""
    connection.info[_WITHHELD] = True
    for each in _TASK:
        each.withheld = True


def forget(connection: Any) -> None:  # noqa: ANN401  (likewise)
    """It is rolled back."""
    if not getattr(connection, "invalidated", False):  # of a session that is lost, SQLAlchemy keeps nothing
        connection.info.pop(_WITHHELD, None)


def is_withheld(connection: Any) -> bool:  # noqa: ANN401  (likewise)
    """Whether the transaction that is open should have been committed."""
    return _WITHHELD in connection.info


def has_withheld() -> bool:
    """Whether there was any."""
    return any(each.withheld for each in _TASK)


def schema() -> str | None:
    """The tenant's schema, if the sessions are to be in one."""
    return next((each.access.schema for each in _TASK), None)


def require_ours(connection: sqlalchemy.Connection) -> None:
    """Refuse a connection that is not to the database that was waited for.

    Raises:
        ConfigurationError: it is to another database (10).
    """
    if not _TASK:
        return
    url = connection.engine.url
    if connection.dialect.name != "postgresql":
        raise ConfigurationError(
            f"env.py connects to {connection.dialect.name}, not to the PostgreSQL database of DATABASE_URL",
            hint="let env.py take its URL from DATABASE_URL, or from sqlalchemy.url in the configuration",
        )
    if "headstart" not in connection.info:
        where = f"{url.drivername} {url.host or 'by default'}/{url.database or ''}"
        raise ConfigurationError(
            f"env.py connects to a database of its own ({where}), which is not the one of DATABASE_URL that was"
            " waited for and locked",
            hint="let env.py take its URL from DATABASE_URL, or point DATABASE_URL at that database",
        )


def backend_of(connection: Any) -> int | None:  # noqa: ANN401  (SQLAlchemy's, or its pool's)
    """The pid of the backend that does the work of a connection; None if it is not in our database."""
    pid: int | None = connection.info.get("headstart")
    return pid


def in_transaction(connection: sqlalchemy.Connection) -> bool:
    """Whether the server is in a transaction, by the driver's own word."""
    dbapi: Any = connection.connection.dbapi_connection
    opened = _transaction_of(dbapi)
    return not getattr(dbapi, "autocommit", False) if opened is None else opened


def commits_each(connection: sqlalchemy.Connection) -> bool:
    """Whether each statement commits itself (AUTOCOMMIT)."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def in_driver_transaction(connection: sqlalchemy.Connection) -> bool:
    """Whether the driver is certain that a transaction is open whose commit is not withheld."""
    return not is_withheld(connection) and _transaction_of(connection.connection.dbapi_connection) is True


def _transaction_of(dbapi: Any) -> bool | None:  # noqa: ANN401  (of any driver)
    raw = getattr(dbapi, "driver_connection", dbapi)
    if hasattr(raw, "is_in_transaction"):  # asyncpg
        return bool(raw.is_in_transaction())
    info = getattr(raw, "info", None)
    # psycopg and psycopg2: libpq's PQTRANS_IDLE is 0
    return None if info is None else int(info.transaction_status) != 0


class _Sessions:
    """What one task makes of the sessions that env.py opens."""

    def __init__(self, access: Access, port: Port, *, work: bool) -> None:
        self.access = access
        self.withheld = False
        self._port = port
        key = "null::pg_catalog.bool"
        if access.work_key is not None:
            # A run on the database waits for runs on its tenants, too; tenants do not wait for each other.
            keys = (access.work_key,) if access.schema is None else (access.work_key, TENANTS)
            key = " and ".join(f"pg_catalog.pg_try_advisory_lock_shared('{each}'::pg_catalog.int8)" for each in keys)
        self._proof = _PROOF.format(key=key, token=access.token)
        self.settings = self._wanted(work=work)
        values = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in self.settings.items())
        self._set = _SETTINGS.format(wanted=values)

    def _wanted(self, *, work: bool) -> dict[str, str]:
        access = self.access
        wanted = {
            "application_name": access.application_name,
            "idle_session_timeout": "0",
            # Two sessions of env.py may wait for each other where the first does not commit.
            "lock_timeout": milliseconds(access.lock_timeout or (_ROLLED_BACK_WAITS if access.rolled_back else 0)),
        }
        if access.read_only:
            wanted["default_transaction_read_only"] = "on"
        if work:
            wanted |= {
                "statement_timeout": milliseconds(access.statement_timeout),
                "idle_in_transaction_session_timeout": "0",
                "transaction_timeout": "0",
                "client_connection_check_interval": "500",
                "tcp_keepalives_idle": "3",
                "tcp_keepalives_interval": "1",
                "tcp_keepalives_count": "3",
                "tcp_user_timeout": "30000",
            }
        return wanted

    def connect(self, dialect: Any, args: Any, params: dict[str, Any]) -> None:  # noqa: ANN401  (SQLAlchemy's own)
        """SQLAlchemy is about to connect: give the address where it is ours to give."""
        if dialect.name != "postgresql":
            return
        if dialect in CONFIGURED or self.access.everywhere:
            lead(dialect, args, params, self.access.dsn)
        creator = params.get("async_creator_fn")  # env.py's own may take no arguments; that of engine_from does
        if dialect.driver == "asyncpg" and (
            creator is None or getattr(creator, "__module__", "") == "headstart.postgres.engine"
        ):
            params.setdefault("connection_class", ScriptConnection)
            if self.access.schema is not None:  # libpq has it from PGOPTIONS, which asyncpg does not read
                options = self.access.dsn.params["options"]
                params["server_settings"] = {"options": options, **params.get("server_settings", {})}

    def connected(self, dbapi: Any, record: Any) -> None:  # noqa: ANN401  (of any driver)
        """A connection was made: prove it, and prepare its session.

        Raises:
            UnsuitableServerError: it goes through a transaction pooler (22).
            ConfigurationError: its search path does not begin with the tenant's schema (10).
        """
        raw = getattr(dbapi, "driver_connection", dbapi)
        if not any(kind.__module__.startswith(_POSTGRES) for kind in type(dbapi).__mro__):
            return
        access = self.access
        cursor = dbapi.cursor()
        cursor.execute(self._proof)
        pid, user, schema, ours, locked = cursor.fetchone()
        if ours:
            if access.work_key is not None and _promised_pid(raw) not in {None, pid}:
                _refuse_transaction_pooler(dbapi, record, pid)
            if access.work_key is not None and not locked:  # cannot be: nobody takes it while the lock is held
                raise ConfigurationError("env.py's connection did not get the migration lock's second key")
            if access.schema not in {None, schema}:
                raise ConfigurationError(
                    f"env.py opens a connection that is not in the tenant's schema {access.schema!r}",
                    hint="let env.py take its URL from the configuration, or from DATABASE_URL without `options`",
                )
            cursor.execute(self._set)
            record.info["headstart"] = pid
            driver = "asyncpg" if hasattr(raw, "get_server_pid") else type(raw).__module__.partition(".")[0]
            self._port.send(Connected(backend=pid, user=user, schema=schema, driver=driver))
        cursor.close()
        dbapi.commit()


def _refuse_transaction_pooler(dbapi: Any, record: Any, pid: int) -> None:  # noqa: ANN401  (of any driver)
    """Refuse a connection through a pooler, unless it keeps its backend while another one works beside it."""
    unsuitable = UnsuitableServerError("env.py's own connection goes through a transaction pooler", hint=POOLER_HINT)
    if _AGAIN not in record.info:  # a `creator` of env.py's own
        raise unsuitable
    dbapi.commit()
    other = record.info[_AGAIN]()
    try:
        if _backend(other) == pid or _backend(dbapi) != pid:  # each in a transaction that is open from here on
            raise unsuitable
    finally:
        other.close()


def _backend(dbapi: Any) -> int:  # noqa: ANN401  (of any driver)
    cursor = dbapi.cursor()
    cursor.execute("select pg_catalog.pg_backend_pid()")
    (pid,) = cursor.fetchone()
    cursor.close()
    return int(pid)


def is_asyncpg(dbapi: object) -> bool:
    """Whether a connection is asyncpg's, below SQLAlchemy's own for it."""
    return hasattr(getattr(dbapi, "driver_connection", dbapi), "get_server_pid")


def _promised_pid(raw: object) -> int | None:
    """The backend's pid that the server has sent at connection start, where the driver has it; None elsewhere."""
    if hasattr(raw, "get_server_pid"):
        return int(raw.get_server_pid())
    pid = getattr(getattr(raw, "info", None), "backend_pid", None)
    return pid if isinstance(pid, int) else None


def _do_connect(dialect: Any, record: Any, args: Any, params: dict[str, Any]) -> None:  # noqa: ANN401
    for each in _TASK:
        each.connect(dialect, args, params)
    if record is not None:
        record.info[_AGAIN] = partial(dialect.connect, *args, **params)


def _connected(dbapi: Any, record: Any) -> None:  # noqa: ANN401  (of any driver)
    _OPEN[id(record)] = record
    for each in _TASK:
        each.connected(dbapi, record)
    record.info.pop(_AGAIN, None)  # it holds a password


def _closed(_dbapi: object, record: object) -> None:
    _OPEN.pop(id(record), None)


event.listen(Engine, "do_connect", _do_connect)
event.listen(Pool, "connect", _connected)
event.listen(Pool, "close", _closed)
