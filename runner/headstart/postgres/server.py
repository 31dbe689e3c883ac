"""An asyncpg connection, what it is connected to, and what its session is given.

Rests on the PostgreSQL manual: 'PostgreSQL Error Codes', 'Client Connection Defaults', 'Advisory Locks'.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import msgspec

from headstart.errors import NotReadyError, UnsuitableServerError
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.diagnosis import POOLER_HINT, Diagnosis, NotYet, Verdict
from headstart.settings.dsn import Dsn

SEARCH_PATH = "pg_catalog, pg_temp"
"""Of our own sessions. `pg_temp` comes last because it would come first if it were not named."""

_SCHEMAS = "select pg_catalog.current_schemas(true)::pg_catalog.text[]"
# A session that a pooler may give to others afterwards keeps its search path: there, the setting ends with this query.
_ARRIVE = f"""
with own as materialized ({_SCHEMAS} as schemas)
select own.schemas, pg_catalog.set_config('search_path', '{SEARCH_PATH}',
    pg_catalog.pg_backend_pid() operator(pg_catalog.<>) $1::pg_catalog.int4)
from own
"""  # noqa: S608  (constants)

OLDEST_SERVER = 14
"""The oldest major version that migrations are run on: the oldest that the Postgres project still maintains."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What answered: one database on one server, and our session there."""

    version: str
    version_num: int
    database: str
    user: str
    in_recovery: bool
    read_only: bool
    listens: bool
    backend_pid: int
    direct: bool
    """False when the session's pid is not the one that the connection was promised: a pooler stands between."""


async def connect(
    dsn: Dsn, *, timeout: float, application_name: str, command_timeout: float | None = None
) -> ScriptConnection:
    """Open a session of our own: its search path is `pg_catalog, pg_temp`, so that nobody else's names are found first.

    What the search path would have been is in `connection.schemas`. (PostgreSQL manual, 'Writing SECURITY DEFINER
    Functions Safely'.)

    Args:
        dsn: has one host; several are tried one after the other by the caller.
        timeout: seconds for the connection to be established, and for its first query.
        application_name: how pg_stat_activity shows us.
        command_timeout: seconds that each query may take; None is for ever.
    """
    connection = await open_connection(
        dsn, timeout=timeout, application_name=application_name, command_timeout=command_timeout
    )
    try:
        row = await connection.fetchrow(_ARRIVE, connection.get_server_pid(), timeout=timeout)
        assert row is not None  # noqa: S101  (the query returns one row)
        connection.schemas = tuple(row["schemas"])
    except BaseException:
        connection.terminate()
        raise
    return connection


async def open_connection(
    dsn: Dsn, *, timeout: float, application_name: str, command_timeout: float | None = None
) -> ScriptConnection:
    """Connect to the one host of `dsn`, with the search path that the role, the database or the URL gives.

    Nothing is sent at start-up but the application's name and what the URL itself asks for: a pooler refuses more.
    Arguments as for `connect`.
    """
    arguments: dict[str, Any] = dsn.asyncpg()
    settings = {**arguments.pop("server_settings", {}), "application_name": application_name}
    arguments["timeout"] = min(timeout, arguments.get("timeout") or timeout)
    connection: ScriptConnection = await asyncpg.connect(
        **arguments,
        command_timeout=command_timeout,
        server_settings=settings,
        statement_cache_size=0,
        connection_class=ScriptConnection,
    )
    return connection


async def read_schemas(connection: ScriptConnection) -> None:
    """Read again which schemas the session's own search path finds: one that it names may have been created since."""
    async with connection.transaction():
        await connection.execute("set local search_path to default")
        connection.schemas = tuple(await connection.fetchval(_SCHEMAS))
        await connection.execute(f"set local search_path = {SEARCH_PATH}")


async def identify(connection: ScriptConnection) -> Server:
    """Ask the server what it is: one query, on the target database."""
    row = await connection.fetchrow(
        "select pg_catalog.current_setting('server_version') as version,"
        " pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as version_num,"
        " pg_catalog.current_database()::pg_catalog.text as database, current_user::pg_catalog.text as user,"
        " pg_catalog.pg_is_in_recovery() as in_recovery,"
        " pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool as read_only,"
        " pg_catalog.current_setting('listen_addresses') operator(pg_catalog.<>) ''"
        " or pg_catalog.inet_server_addr() is not null"
        " or exists (select from pg_catalog.pg_settings where name operator(pg_catalog.=) 'listen_addresses'"
        " and source operator(pg_catalog.<>) 'command line') as listens,"
        " pg_catalog.pg_backend_pid() as backend_pid"
    )
    assert row is not None  # noqa: S101  (a select without FROM returns one row)
    return Server(**dict(row), direct=row["backend_pid"] == connection.get_server_pid())


def require_primary(server: Server, *, on_socket: bool) -> None:
    """Raise NotYet unless `server` is a primary that is there to stay.

    The official images initialise with a temporary server that listens on the Unix socket alone, by its command line,
    then start the real one. A server whose configuration says so is there to stay.
    """
    if server.version_num < OLDEST_SERVER * 10000:
        cause = f"the server is PostgreSQL {server.version}; Headstart needs {OLDEST_SERVER} or later"
        raise NotYet(Diagnosis(Verdict.STOP, UnsuitableServerError, cause, "upgrade the server"))
    if server.in_recovery:
        cause = "the server is a read-only standby (in recovery)"
        hint = "point DATABASE_URL at the primary, or list all hosts in it"
        raise NotYet(Diagnosis(Verdict.GRACE, UnsuitableServerError, cause, hint))
    if server.read_only:
        cause = "the server's sessions are read-only (default_transaction_read_only is on)"
        hint = "connect to a writable primary, or lift default_transaction_read_only for this role and database"
        raise NotYet(Diagnosis(Verdict.GRACE, UnsuitableServerError, cause, hint))
    if on_socket and not server.listens:
        cause = "only a temporary server answers: on the socket, as while an image initialises (-c listen_addresses='')"
        raise NotYet(Diagnosis(Verdict.AGAIN, NotReadyError, cause))


async def refuse_transaction_pooler(
    connection: ScriptConnection, server: Server, dsn: Dsn, *, application_name: str
) -> None:
    """Raise UnsuitableServerError when sessions do not keep their backend.

    A session whose pid differs from the one promised at connecting goes through a pooler. A second connection
    then distinguishes session pooling (harmless) from transaction pooling: there both may see the same backend, or ours
    changes.
    """
    if server.direct:
        return
    other = await connect(dsn, timeout=10, application_name=application_name)
    try:
        async with other.transaction():
            theirs = await other.fetchval("select pg_catalog.pg_backend_pid()")
            ours = await connection.fetchval("select pg_catalog.pg_backend_pid()")
    finally:
        await other.close()
    if ours == theirs or ours != server.backend_pid:
        raise UnsuitableServerError("the connection goes through a transaction pooler (PgBouncer?)", hint=POOLER_HINT)
    await connection.execute(f"set search_path = {SEARCH_PATH}")  # the session is ours for as long as it lasts


_SET = """
select pg_catalog.set_config(name, value, false)
from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
    as wanted(name, value)
"""


async def prepare_session(
    connection: ScriptConnection,
    *,
    lock_timeout: float,
    statement_timeout: float,
) -> None:
    """Give the session that migrates its settings, whatever the role's or database's defaults are.

    The keepalives, the user timeout (for data that nobody acknowledges) and the connection check make the server notice
    that this process or its network has died, so that the lock does not outlive it (PostgreSQL manual, 'Connection
    Settings').

    Args:
        connection: ours; the settings last as long as it.
        lock_timeout: seconds that a statement may wait for a table lock; 0 is for ever.
        statement_timeout: seconds that a statement may take; 0 is for ever.
    """
    settings = {
        "lock_timeout": milliseconds(lock_timeout),
        "statement_timeout": milliseconds(statement_timeout),
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
        "tcp_keepalives_idle": "3",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
    }
    await connection.fetch(_SET, list(settings), list(settings.values()))
    for name, value in (("client_connection_check_interval", "500ms"), ("tcp_user_timeout", "30s")):
        with contextlib.suppress(asyncpg.PostgresError):  # servers on some systems cannot
            await connection.execute(f"set {name} = '{value}'")
    if int(connection.get_server_version().major) >= 17:  # noqa: PLR2004  (the version that brought it)
        await connection.execute("set transaction_timeout = 0")


_WHO_LOCKS = (
    "see who: select pid, application_name, query from pg_catalog.pg_stat_activity where pid in (select pid from"
    " pg_catalog.pg_locks where granted and relation = TABLE::pg_catalog.regclass);"
    " wait until it has ended, or end it with select pg_terminate_backend(pid); then run again"
)


def who_locks(table: str) -> str:
    """What to type where a table cannot be read for a lock; the name is quoted as SQL needs it."""
    return _WHO_LOCKS.replace("TABLE", literal(table))


def milliseconds(seconds: float) -> str:
    """A duration as Postgres' settings take it; anything above zero stays above zero, since 0 means for ever."""
    return f"{max(round(seconds * 1000), 1 if seconds > 0 else 0)}ms"


def first_line(error: BaseException) -> str:
    """The server's message, without the DETAIL and HINT that asyncpg puts below it."""
    return str(error).partition("\n")[0]


def quote(identifier: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, quoted, whatever `standard_conforming_strings` is."""
    quoted = "'" + text.replace("'", "''") + "'"
    return quoted if "\\" not in text else " E" + quoted.replace("\\", "\\\\")


async def close(connection: ScriptConnection | None) -> None:
    """Close without ever raising or hanging: what is being closed may be broken already."""
    if connection is None or connection.is_closed():
        return
    try:
        await asyncio.wait_for(connection.close(), timeout=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        connection.terminate()


_HOLDS = r"""
with own as materialized (
    select n.oid from pg_catalog.pg_namespace n
    where n.nspname not like 'pg\_%' and n.nspname not in ('information_schema', 'headstart')
), thing as (
    select c.tableoid as class, c.oid from pg_catalog.pg_class c join own on own.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm', 'f', 'S', 'v', 'c') and c.relname <> $1
    union all
    select p.tableoid, p.oid from pg_catalog.pg_proc p join own on own.oid = p.pronamespace
    union all
    select t.tableoid, t.oid from pg_catalog.pg_type t join own on own.oid = t.typnamespace
    where t.typtype in ('e', 'd', 'r')
)
select exists(select from pg_catalog.pg_largeobject_metadata) or exists(
    select from thing where not exists(
        select from pg_catalog.pg_depend d
        where d.classid = thing.class and d.objid = thing.oid
          and (d.deptype = 'e' or d.deptype = 'i' and d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
    )
)
"""
"""Left out are the version table, our ledger, extensions' own things and the constructors of range types."""


async def holds_user_tables(connection: ScriptConnection, version_table: str) -> bool:
    """Whether there is anything to lose: a table, sequence, view, function, type or large object of the user's."""
    return bool(await connection.fetchval(_HOLDS, version_table))
