"""Reads rows of the ledger, where it can be trusted.

A role that may create a schema can put anything in the ledger's place: a view that runs code, for example. So it is
read only if it is an ordinary table that belongs to a trusted role.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from headstart.errors import NotReadyError
from headstart.postgres.server import who_locks

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection

SCHEMA = "headstart"
"""Autogenerate, and the question whether a database holds anything of the user's, pass over it."""

LARGEST_SOURCE: Final = 16 * 1024 * 1024
"""Bytes of a revision file. The source of a larger one is neither kept nor read."""

LOCKED = 5.0
"""Seconds that a read may take: it is small, and takes longer only where another session has locked the table."""

VersionTable: TypeAlias = int | str | None
"""The project's version table, whose owner is trusted too: its OID, or `key` of it."""

# Whoever is trusted could do to the project's own tables what they could do by the ledger. A superuser is a member of
# every role as far as has_role goes: so memberships are looked up.
TRUSTED: Final = """
ours (oid) as (
    select r.oid from pg_catalog.pg_roles r
    where r.rolname operator(pg_catalog.=) current_user or r.rolname operator(pg_catalog.=) session_user
    union
    select m.roleid from pg_catalog.pg_auth_members m join ours on m.member operator(pg_catalog.=) ours.oid
), trusted (oid) as (
    select ours.oid from ours
    union all select r.oid from pg_catalog.pg_roles r
        where r.rolsuper or r.rolname operator(pg_catalog.=) 'pg_database_owner'
    union all select d.datdba from pg_catalog.pg_database d
        where d.datname operator(pg_catalog.=) pg_catalog.current_database()
    union all select v.relowner from pg_catalog.pg_class v where v.oid operator(pg_catalog.=) $1::pg_catalog.oid
    union all select v.relowner from pg_catalog.pg_class v
        join pg_catalog.pg_namespace s on s.oid operator(pg_catalog.=) v.relnamespace
        where v.relname operator(pg_catalog.=) $2::pg_catalog.text::pg_catalog.name
        and case when $3::pg_catalog.text is null then pg_catalog.pg_table_is_visible(v.oid)
            else s.nspname operator(pg_catalog.=) $3::pg_catalog.text::pg_catalog.name end
)"""
"""Takes what `place` gives."""
FOREIGN: Final = """case
    when not exists (select from trusted t where t.oid operator(pg_catalog.=) n.nspowner) then pg_catalog.concat(
        'the schema headstart belongs to the role ', pg_catalog.pg_get_userbyid(n.nspowner), ', which is not trusted')
    when not exists (select from trusted t where t.oid operator(pg_catalog.=) c.relowner) then pg_catalog.concat(
        'headstart.ledger belongs to the role ', pg_catalog.pg_get_userbyid(c.relowner), ', which is not trusted')
    when c.relkind operator(pg_catalog.<>) 'r' or c.relispartition or exists (
        select from pg_catalog.pg_inherits i where i.inhrelid operator(pg_catalog.=) c.oid
        or i.inhparent operator(pg_catalog.=) c.oid)
    then 'headstart.ledger is no ordinary table'
    when exists (select from pg_catalog.pg_rewrite r where r.ev_class operator(pg_catalog.=) c.oid)
    then 'headstart.ledger has rules'
    when c.relrowsecurity then 'headstart.ledger has row security'
end"""
"""Why it is not ours, of `n` and `c` in pg_namespace and pg_class; null if it is."""

# Asked of the catalog: to_regclass fails where the role may not use the schema. The usual answer first: planning the
# whole question takes longer than all other queries of a no-op.
_OURS = """select pg_catalog.pg_get_userbyid(n.nspowner) operator(pg_catalog.=) current_user
    and pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) current_user
    and c.relkind operator(pg_catalog.=) 'r' and not c.relispartition and not c.relhassubclass and not c.relhasrules
    and not c.relrowsecurity
    and not exists (select from pg_catalog.pg_inherits i where i.inhrelid operator(pg_catalog.=) c.oid)
    and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where n.nspname operator(pg_catalog.=) 'headstart' and c.relname operator(pg_catalog.=) 'ledger'
"""
_UNREADABLE = f"""with recursive {TRUSTED}
select coalesce({FOREIGN}, case when pg_catalog.has_schema_privilege(n.oid, 'usage')
    and pg_catalog.has_table_privilege(c.oid, 'select') then '' else 'the role may not read headstart.ledger' end)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where n.nspname operator(pg_catalog.=) 'headstart' and c.relname operator(pg_catalog.=) 'ledger'
"""  # noqa: S608  (constants)


class LedgerLockedError(NotReadyError):
    """Another session holds the ledger locked: its rows are not known now. No migration needs it."""


async def fetch(
    connection: ScriptConnection,
    query: str,
    *arguments: object,
    version_table: VersionTable = None,
    timeout: float = LOCKED,
) -> list[asyncpg.Record]:
    """Rows; none where there is no ledger, or where `unreadable` has a reason not to read it.

    Args:
        connection: to the database.
        query: of headstart.ledger.
        arguments: of the query.
        version_table: of the project.
        timeout: seconds that it may take.

    Raises:
        LedgerLockedError: it cannot be read now.
    """
    if await unreadable(connection, version_table=version_table) != "":
        return []
    try:
        return list(await connection.fetch(query, *arguments, timeout=timeout))
    except (TimeoutError, asyncpg.LockNotAvailableError) as error:
        raise LedgerLockedError(
            "another session holds headstart.ledger locked",
            hint=who_locks("headstart.ledger"),
        ) from error


async def unreadable(connection: ScriptConnection, *, version_table: VersionTable = None) -> str | None:
    """Why the ledger is not read: `` if it is read, None if there is none. Arguments as for `fetch`."""
    ours = await connection.fetchval(_OURS)
    if ours is None:
        return None
    return "" if ours else str(await connection.fetchval(_UNREADABLE, *place(version_table)))


def place(version_table: VersionTable) -> tuple[int | None, str | None, str | None]:
    """The OID of a version table, or its name and schema, as `TRUSTED` takes them."""
    if version_table is None or isinstance(version_table, int):
        return version_table, None, None
    schema, _, table = version_table.rpartition(".")
    return None, table, schema or None
