"""An asyncpg connection, what it is connected to, and what its session is given.

Rests on the PostgreSQL manual: 'PostgreSQL Error Codes', 'Client Connection Defaults', 'Advisory Locks'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import msgspec

from headstart.diagnosis import POOLER_HINT, Diagnosis, NotYet, Verdict
from headstart.dsn import Dsn
from headstart.errors import ConfigurationError, NotReadyError, RefusedError, UnsuitableServerError
from headstart.script_connection import ScriptConnection

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

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


async def connect(dsn: Dsn, *, timeout: float, application_name: str) -> ScriptConnection:
    """Connect to the one host of `dsn`.

    Nothing is sent at start-up but the application's name and what the URL itself asks for: a pooler refuses more.

    Args:
        dsn: has one host; several are tried one after the other by the caller.
        timeout: seconds for the connection to be established.
        application_name: how pg_stat_activity shows us.
    """
    arguments: dict[str, Any] = dsn.asyncpg()
    settings = {**arguments.pop("server_settings", {}), "application_name": application_name}
    arguments["timeout"] = min(timeout, arguments.get("timeout") or timeout)
    connection: ScriptConnection = await asyncpg.connect(
        **arguments,
        server_settings=settings,
        statement_cache_size=0,
        connection_class=ScriptConnection,
    )
    return connection


async def identify(connection: ScriptConnection) -> Server:
    """Ask the server what it is: one query, on the target database."""
    row = await connection.fetchrow(
        "select current_setting('server_version') as version,"
        " current_setting('server_version_num')::int as version_num,"
        " current_database() as database, current_user::text as user, pg_is_in_recovery() as in_recovery,"
        " current_setting('transaction_read_only')::bool as read_only,"
        " current_setting('listen_addresses') <> '' or inet_server_addr() is not null as listens,"
        " pg_backend_pid() as backend_pid"
    )
    assert row is not None  # noqa: S101  (a select without FROM returns one row)
    return Server(**dict(row), direct=row["backend_pid"] == connection.get_server_pid())


def require_primary(server: Server, *, on_socket: bool) -> None:
    """Raise NotYet unless `server` is a primary that is there to stay.

    The official images initialise with a temporary server that listens on the Unix socket alone, then start the
    real one.
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
        cause = (
            "only a temporary server answers on the socket (listen_addresses is empty, as while an image initialises)"
        )
        raise NotYet(Diagnosis(Verdict.AGAIN, NotReadyError, cause))


async def refuse_transaction_pooler(
    connection: ScriptConnection, server: Server, dsn: Dsn, *, application_name: str
) -> None:
    """Raise UnsuitableServerError when sessions do not keep their backend.

    A session whose pid differs from the one promised at connecting goes through a pooler. A second connection
    then tells session pooling (harmless) from transaction pooling: there both may see the same backend, or ours
    changes.
    """
    if server.direct:
        return
    other = await connect(dsn, timeout=10, application_name=application_name)
    try:
        async with other.transaction():
            theirs = await other.fetchval("select pg_backend_pid()")
            ours = await connection.fetchval("select pg_backend_pid()")
    finally:
        await other.close()
    if ours == theirs or ours != server.backend_pid:
        raise UnsuitableServerError("the connection goes through a transaction pooler (PgBouncer?)", hint=POOLER_HINT)


async def prepare_session(
    connection: ScriptConnection,
    *,
    lock_timeout: float,
    statement_timeout: float,
    log: FilteringBoundLogger,
) -> None:
    """Give the session that migrates its settings, whatever the role's or database's defaults are.

    The keepalives and the connection check make the server notice within seconds that this process or its network has
    died, so that the lock does not outlive it (PostgreSQL manual, 'Connection Settings').

    Args:
        connection: ours; the settings last as long as it.
        lock_timeout: seconds that a statement may wait for a table lock; 0 is for ever.
        statement_timeout: seconds that a statement may take; 0 is for ever.
        log: told what the server does not know.
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
    names, values = list(settings), list(settings.values())
    query = "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as wanted(name, value)"
    await connection.fetch(query, names, values)
    try:
        await connection.execute("set client_connection_check_interval = '500ms'")
    except asyncpg.PostgresError as error:  # servers on some systems cannot check
        log.debug("setting_not_available", setting="client_connection_check_interval", sqlstate=error.sqlstate)
    if int(connection.get_server_version().major) >= 17:  # noqa: PLR2004  (the version that brought it)
        await connection.execute("set transaction_timeout = 0")


def milliseconds(seconds: float) -> str:
    """A duration as Postgres' settings take it; anything above zero stays above zero, since 0 means for ever."""
    return f"{max(round(seconds * 1000), 1 if seconds > 0 else 0)}ms"


async def recorded_revisions(connection: ScriptConnection, table: str, schema: str | None) -> tuple[str, ...]:
    """What the version table holds, sorted; nothing where it does not exist.

    Args:
        connection: ours.
        table: Alembic's `version_table`.
        schema: Alembic's `version_table_schema`; None follows the search path.

    Raises:
        RefusedError: the role may not read the table.
    """
    name = quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
    try:
        if await connection.fetchval("select to_regclass($1)", name) is None:
            return ()
        rows = await connection.fetch(f"select version_num from {name} order by 1")  # noqa: S608  (quoted identifiers)
    except asyncpg.InsufficientPrivilegeError as error:
        cause = f"the role may not read the version table {name}: {error}"
        raise RefusedError(
            cause, hint=f"grant select on {name} to the role of DATABASE_URL", sqlstate="42501"
        ) from error
    except asyncpg.UndefinedColumnError as error:
        cause = f"the table {name} has no column version_num: it is not Alembic's"
        raise ConfigurationError(cause, hint="set another version_table in env.py, or rename that table") from error
    return tuple(row["version_num"] for row in rows)


async def revisions_in(connection: ScriptConnection, oid: int) -> tuple[str, ...]:
    """STUB."""
    row = await connection.fetchrow("select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = $1", oid)
    if row is None:
        return ()
    return await recorded_revisions(connection, row[1], row[0])


class VersionTable(NamedTuple):
    """STUB."""

    oid: int
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


async def find_version_table(connection: ScriptConnection, table: str, schema: str | None) -> VersionTable | None:
    """STUB."""
    name = quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
    row = await connection.fetchrow("select c.oid::int8, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = to_regclass($1)", name)
    return None if row is None else VersionTable(*row)


def first_line(error: BaseException) -> str:
    """What the server said, without the DETAIL and HINT that asyncpg puts below it."""
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


async def holds_user_tables(connection: ScriptConnection, version_table: str) -> bool:
    """Whether there is anything to lose: a table, sequence or large object of the user's, Alembic's and ours aside."""
    return bool(
        await connection.fetchval(
            "select exists(select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'p', 'm', 'f', 'S')"
            " and n.nspname not like 'pg\\_%' and n.nspname not in ('information_schema', 'headstart')"
            " and c.relname <> $1 and not exists(select from pg_depend d where d.classid = 'pg_class'::regclass"
            " and d.objid = c.oid and d.deptype = 'e'))"
            " or exists(select from pg_largeobject_metadata)",
            version_table,
        )
    )


async def require_write_privilege(connection: ScriptConnection, server: Server, table: str, schema: str | None) -> None:
    """Refuse, before anything is touched, a role that may not write the version table, or not create it.

    Raises:
        RefusedError: with the GRANT that is missing (21).
    """
    name = quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
    if await connection.fetchval("select to_regclass($1) is not null", name):
        allowed = await connection.fetchval(
            "select has_table_privilege($1, 'insert') and has_table_privilege($1, 'update')"
            " and has_table_privilege($1, 'delete')",
            name,
        )
        remedy = f"grant select, insert, update, delete on {name} to {quote(server.user)}"
    else:
        where = schema or await connection.fetchval("select current_schema()")
        if where is None or not await connection.fetchval("select to_regnamespace($1) is not null", quote(where)):
            return  # a schema that env.py or the first revision makes
        allowed = await connection.fetchval("select has_schema_privilege($1, 'create')", where)
        remedy = f"grant create on schema {quote(where)} to {quote(server.user)}"
    if not allowed:
        raise RefusedError(
            f"the role {server.user} may not write the version table {name}", hint=remedy, sqlstate="42501"
        )
