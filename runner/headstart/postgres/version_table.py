"""Alembic's version table: found in the catalog, and neither read nor written before it is known to be harmless.

A view executes its owner's functions when it is read, a table with a trigger when it is written. So only an ordinary
table counts, and what a read or a write executes on our behalf has to belong to somebody whom we have reason to trust:
ourselves, a role that we are a member of, the owner of the database, or a superuser. That a superuser may act as any
role is no reason to trust them all.

`table_trust` has the judgement.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from headstart.errors import NotReadyError, RefusedError
from headstart.postgres.server import quote, read_schemas, who_locks
from headstart.postgres.table_trust import VersionTable, all_named, array, by_name, lock_of, look, refused

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection

LOCKED = 9.0
"""Seconds that a read may take: it is small, and takes longer only where another session has locked the table."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where env.py's own session finds the version table, or would make it.

    Args:
        table: its name.
        schema: its schema; None if the search path leads nowhere.
        configured: the schema that env.py gives to Alembic, if it gives one.
        oid: None while there is no such table.
        user: the session's current role.
    """

    table: str
    schema: str | None
    configured: str | None = None
    oid: int | None = None
    user: str = ""

    def is_like(self, other: Place) -> bool:
        """Whether it is the same table, made or not."""
        return (self.table, self.schema) == (other.table, other.schema)


async def _looked(connection: ScriptConnection, which: str, *, writing: bool = False) -> VersionTable | None:
    """`look`, in the supervisor's session."""
    asking = look(which, writing=writing)
    sql = next(asking)
    while True:
        rows = await connection.fetch(sql)
        try:
            sql = asking.send(rows)
        except StopIteration as found:
            table: VersionTable | None = found.value.table
            return table


async def find_version_table(
    connection: ScriptConnection, table: str, schema: str | None, *, writing: bool = False
) -> VersionTable | None:
    """Look a version table up in the catalog; None where there is none.

    Args:
        connection: ours.
        table: Alembic's `version_table`.
        schema: Alembic's `version_table_schema`; None is the first schema of the search path that has it.
        writing: whether it is to be written, too.

    Raises:
        RefusedError: that would execute code of a role that we have no reason to trust (21).
        ConfigurationError: it is not Alembic's (10).
    """
    schemas = connection.schemas if schema is None else (schema,)
    found = await _looked(connection, by_name(table, array(schemas)), writing=writing)
    if found is None and schema is None:
        await read_schemas(connection)
        found = await _looked(connection, by_name(table, array(connection.schemas)), writing=writing)
    return found


async def recorded_revisions(connection: ScriptConnection, table: str, schema: str | None) -> tuple[str, ...]:
    """What the version table holds, sorted; nothing where it does not exist.

    Arguments as for `find_version_table`.

    Raises:
        RefusedError: the role may not read the table, or reading it is not safe (21).
        ConfigurationError: it is not Alembic's (10).
    """
    found = await find_version_table(connection, table, schema)
    return () if found is None else await _read(connection, found)


async def is_any(connection: ScriptConnection) -> bool:
    """Whether there is anything at all that may be a version table, whatever its name and schema are."""
    query = "select exists(select from pg_catalog.pg_attribute a where a.attname = 'version_num' and not attisdropped)"
    return bool(await connection.fetchval(query))


async def revisions_in(
    connection: ScriptConnection, oid: int, table: str, schema: str | None
) -> tuple[str, ...] | None:
    """What the version table with this oid holds, sorted; None if it is gone.

    If it has another name by now, and there is a table of the old one, that is Alembic's.

    Args:
        connection: ours.
        oid: of the table.
        table: its name when it was found.
        schema: its schema then.

    Raises:
        RefusedError: the role may not read it, or reading the other is not safe (21).
        ConfigurationError: it is not Alembic's (10).
        NotReadyError: another session holds it locked (20).
    """
    found = await _looked(connection, f"c.oid operator(pg_catalog.=) '{oid}'::pg_catalog.oid")
    if found is None:
        return None
    other = None
    if (found.schema, found.name) != (schema, table):
        other = await find_version_table(connection, table, schema)
    return await _read(connection, other or found)


async def _read(connection: ScriptConnection, table: VersionTable) -> tuple[str, ...]:
    """Read a table. One of another's is locked and judged again before: it might be a view by now."""
    name = str(table)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if table.exposed:
                await stack.enter_async_context(connection.transaction())
                await connection.execute(lock_of(table, writing=False), timeout=LOCKED)
                await find_version_table(connection, table.name, table.schema)
            rows = await connection.fetch(f"select version_num from {name} order by 1", timeout=LOCKED)  # noqa: S608  (quoted)
    except (TimeoutError, asyncpg.LockNotAvailableError) as error:
        raise NotReadyError(
            f"another session holds the version table {name} locked, or the server does not answer",
            hint=who_locks(name),
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        cause = f"the role may not read the version table {name}: {error}"
        raise RefusedError(
            cause, hint=f"grant select on {name} to the role of DATABASE_URL", sqlstate="42501"
        ) from error
    except asyncpg.UndefinedTableError:
        return ()  # dropped since it was looked up
    return all_named(table, (row["version_num"] for row in rows))


async def require_write_privilege(connection: ScriptConnection, user: str, table: str, schema: str | None) -> None:
    """Refuse, before anything is touched, a role that may not write the version table, or not create it.

    Args:
        connection: ours.
        user: the role that is to write it.
        table: as for `find_version_table`.
        schema: as for `find_version_table`.

    Raises:
        RefusedError: with the GRANT that is missing, or with whose code a write would execute (21).
    """
    found = await find_version_table(connection, table, schema, writing=True)
    if found is not None:
        if not found.trusted and found.owner != user:
            raise refused(found, f"is not owned by {user}, by the owner of the database or by a superuser")
        name = str(found)
        allowed = await connection.fetchval(
            "select pg_catalog.bool_and(pg_catalog.has_table_privilege($1::pg_catalog.name, $2::pg_catalog.oid, one))"
            " from pg_catalog.unnest(array['select', 'insert', 'update', 'delete']) as one",
            user,
            found.oid,
        )
        remedy = f"grant select, insert, update, delete on {name} to {quote(user)}"
    else:
        where = schema or creation_schema(connection.schemas)
        name = quote(table) if where is None else f"{quote(where)}.{quote(table)}"
        oid = await connection.fetchval(
            "select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::pg_catalog.name", where
        )
        if oid is None:
            return  # a schema that env.py or the first revision makes
        allowed = await connection.fetchval(
            "select pg_catalog.has_schema_privilege($1::pg_catalog.name, $2::pg_catalog.oid, 'create')", user, oid
        )
        remedy = f"grant create on schema {quote(where or '')} to {quote(user)}"
    if not allowed:
        raise RefusedError(f"the role {user} may not write the version table {name}", hint=remedy, sqlstate="42501")


def creation_schema(schemas: tuple[str, ...]) -> str | None:
    """Where an object that is given no schema is made, with this search path."""
    return next((each for each in schemas if each != "pg_catalog" and not each.startswith("pg_temp_")), None)
