"""Alembic's version table: found in the catalog, and neither read nor written before it is known to be harmless.

A view executes its owner's functions when it is read, a table with a trigger when it is written. So only an ordinary
table counts, and what a read or a write executes on our behalf has to belong to somebody whom we have reason to trust:
ourselves, a role that we are a member of, the owner of the database, or a superuser. That a superuser may act as any
role is no reason to trust them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import msgspec

from headstart.errors import ConfigurationError, NotReadyError, RefusedError
from headstart.postgres.server import quote, read_schemas, who_locks

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection

LOCKED = 9.0
"""Seconds that a read may take: it is small, and takes longer only where another session has locked the table."""

_TRUSTED = """
with recursive trusted(oid) as (
    select r.oid from pg_catalog.pg_roles r where r.rolname in (session_user, current_user)
    union
    select m.roleid from pg_catalog.pg_auth_members m join trusted t on t.oid = m.member
), owner(oid) as (
    select t.oid from trusted t
    union
    select r.oid from pg_catalog.pg_roles r where r.rolsuper
    union
    select d.datdba from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
)
"""
_FIND = """
select c.oid::pg_catalog.int8 as oid, n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text as owner,
       c.relkind in ('r', 'p') as is_table, c.relhasrules as has_rules,
       pg_catalog.pg_get_userbyid(c.relowner) in (session_user, current_user) as ours,
       pg_catalog.pg_has_role(c.relowner, 'member') as member
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relname = $1::pg_catalog.name and n.nspname = any($2::pg_catalog.text[])
order by pg_catalog.array_position($2::pg_catalog.text[], n.nspname::pg_catalog.text) limit 1
"""
# Of a table that somebody else owns.
_STRANGE = f"""
{_TRUSTED}
select c.relowner in (select o.oid from owner o) as trusted, c.relrowsecurity as has_policies,
       exists(select from pg_catalog.pg_inherits i where i.inhparent = c.oid) as has_children
from pg_catalog.pg_class c where c.oid = $1::pg_catalog.oid
"""  # noqa: S608  (constants)

# What the owner of the table, or of a function that somebody has put on it, makes a write to it execute.
_EXECUTES = f"""
{_TRUSTED}, theirs(oid) as (
    select c.oid from pg_catalog.pg_class c
    where c.oid = $1::pg_catalog.oid and c.relowner not in (select o.oid from owner o)
)
select 'trigger ' || t.tgname as what, p.proowner as owner
from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
where t.tgrelid = $1::pg_catalog.oid and not t.tgisinternal and p.proowner not in (select o.oid from owner o)
union all
select 'constraint ' || k.conname, null from pg_catalog.pg_constraint k join theirs on theirs.oid = k.conrelid
where k.contype not in ('p', 'u', 'n')
union all
select 'expression of a column', null from pg_catalog.pg_attrdef d join theirs on theirs.oid = d.adrelid
union all
select 'expression of an index', null from pg_catalog.pg_index i join theirs on theirs.oid = i.indrelid
where i.indexprs is not null or i.indpred is not null
"""  # noqa: S608  (constants)


class VersionTable(msgspec.Struct, frozen=True):
    """A version table that may be read."""

    oid: int
    schema: str
    name: str
    owner: str
    trusted: bool
    """Whether we, or roles that we may act as, own it, or else the owner of the database or a superuser does."""

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


async def find_version_table(connection: ScriptConnection, table: str, schema: str | None) -> VersionTable | None:
    """Look a version table up in the catalog; None where there is none.

    Args:
        connection: ours.
        table: Alembic's `version_table`.
        schema: Alembic's `version_table_schema`; None is the first schema of the search path that has it.

    Raises:
        RefusedError: to read it would execute code of a role that we have no reason to trust (21).
    """
    row = await connection.fetchrow(_FIND, table, connection.schemas if schema is None else (schema,))
    if row is None and schema is None:
        await read_schemas(connection)
        row = await connection.fetchrow(_FIND, table, connection.schemas)
    if row is None:
        return None
    found = VersionTable(row["oid"], row["schema"], row["name"], row["owner"], row["ours"] or row["member"])
    if not row["is_table"]:
        raise _refused(found, "is not an ordinary table")
    if row["has_rules"]:
        raise _refused(found, "has rules")
    strange = None if row["ours"] else await connection.fetchrow(_STRANGE, found.oid)
    if strange is None:
        return found
    if not strange["trusted"] and (strange["has_policies"] or strange["has_children"]):
        has = "row security policies" if strange["has_policies"] else "inheritance children"
        raise _refused(found, f"has {has}")
    return msgspec.structs.replace(found, trusted=found.trusted or strange["trusted"])


def _refused(found: VersionTable, cause: str) -> RefusedError:
    return RefusedError(
        f"the version table {found} cannot be trusted: it {cause}, and its owner is {found.owner}",
        hint=f"see who created it. If it is not yours, drop it; if it is, let the database's owner own it:"
        f" alter table {found} owner to ...",
        owner=found.owner,
    )


async def refuse_triggers(connection: ScriptConnection, found: VersionTable) -> None:
    """Refuse to write a table if that would execute functions of somebody whom we have no reason to trust.

    Args:
        connection: ours.
        found: the table.

    Raises:
        RefusedError: it has such a trigger, constraint, default or index (21).
    """
    rows = await connection.fetch(_EXECUTES, found.oid)
    if rows:
        named = ", ".join(row["what"] for row in rows)
        raise RefusedError(
            f"a write to the version table {found} (owner {found.owner}) would execute code of another role: {named}",
            hint=f"see who made it, and drop it or the table: \\d {found} in psql shows it",
            owner=found.owner,
        )


async def recorded_revisions(connection: ScriptConnection, table: str, schema: str | None) -> tuple[str, ...]:
    """What the version table holds, sorted; nothing where it does not exist.

    Arguments as for `find_version_table`.

    Raises:
        RefusedError: the role may not read the table, or reading it is not safe (21).
        ConfigurationError: it is not Alembic's (10).
    """
    found = await find_version_table(connection, table, schema)
    return () if found is None else await _read(connection, str(found))


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
    found = await connection.fetchrow(
        "select n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name from pg_catalog.pg_class c"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where c.oid = $1::pg_catalog.oid and c.relkind in ('r', 'p')",
        oid,
    )
    if found is None:
        return None
    other = None
    if (found["schema"], found["name"]) != (schema, table):
        other = await find_version_table(connection, table, schema)
    return await _read(connection, str(other or f"{quote(found['schema'])}.{quote(found['name'])}"))


async def _read(connection: ScriptConnection, name: str) -> tuple[str, ...]:
    try:
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
    except asyncpg.UndefinedColumnError as error:
        cause = f"the table {name} has no column version_num: it is not Alembic's"
        raise ConfigurationError(cause, hint="set another version_table in env.py, or rename that table") from error
    except asyncpg.UndefinedTableError:
        return ()  # dropped since it was looked up
    return tuple(row["version_num"] for row in rows)


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
    found = await find_version_table(connection, table, schema)
    if found is not None:
        if not found.trusted and found.owner != user:
            raise _refused(found, f"is not owned by {user}, by the owner of the database or by a superuser")
        await refuse_triggers(connection, found)
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
