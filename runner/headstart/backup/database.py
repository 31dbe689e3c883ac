"""What a backup reads from the database: its size, its tables, other dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import msgspec

from headstart.backup.dump import LET_READ
from headstart.errors import BackupFailedError
from headstart.log.printable import first_and_last

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SIZED = 600.0
"""Seconds that the server gets to say how large the database is: it looks at each of its files."""

# The tables whose data pg_dump writes for certain. Left out are those of extensions (dumped by it only where the
# extension asks for that), and other sessions' temporary ones. A table too few here is no harm, one too many would be.
_OWN = """
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not exists (
    select from pg_catalog.pg_depend d
    where d.deptype = 'e'
      and (d.classid, d.objid) in ((c.tableoid, c.oid), (n.tableoid, n.oid)))
"""
_TABLES = f"""
select c.oid::pg_catalog.int8 as oid, pg_catalog.format('%I.%I', n.nspname, c.relname) as name
{_OWN} and c.relkind = 'r'
"""
# pg_dump locks each table, reads each sequence, and turns row security off, which the server may refuse.
_KEPT_FROM_US = f"""
select case c.relkind when 'S' then 'sequence ' else 'table ' end
    || pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
  pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select') as readable
{_OWN} and c.relkind in ('r', 'p', 'S')
  and (not pg_catalog.has_schema_privilege(n.oid, 'usage') or not pg_catalog.has_table_privilege(c.oid, 'select')
    or c.relkind = 'r' and pg_catalog.row_security_active(c.oid))
order by 1
"""
_SIZE = "select pg_catalog.pg_database_size(pg_catalog.current_database())"
_ORPHANS = """
select pid, application_name, pg_catalog.pg_terminate_backend(pid) as ended
from pg_catalog.pg_stat_activity
where datname = $1 and usename = current_user and application_name like $2
"""
_OTHERS = """
select pid, usename::pg_catalog.text as role, client_addr::pg_catalog.text as client,
       backend_start::pg_catalog.text as since
from pg_catalog.pg_stat_activity where datname = pg_catalog.current_database() and application_name = 'pg_dump'
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The database before the dump: its size, its tables by oid, and which server it is on."""

    bytes: int
    tables: dict[int, str]
    system_identifier: str


async def read_facts(conn: asyncpg.Connection) -> Facts:
    """Read the facts that a backup needs.

    Raises:
        BackupFailedError: the role may not read them, or not all of the tables.
    """
    try:
        size = await conn.fetchval(_SIZE, timeout=SIZED)
        there = await tables(conn)
        kept = await conn.fetch(_KEPT_FROM_US)
    except asyncpg.InsufficientPrivilegeError as error:
        message = f"the role may not look at the database: {error}"
        raise BackupFailedError(message, hint="grant it CONNECT on the database, or pg_read_all_stats") from error
    if unreadable := [row["name"] for row in kept if not row["readable"]]:
        role = await conn.fetchval("select pg_catalog.quote_ident(current_user)")
        raise BackupFailedError(f"the role may not read {first_and_last(unreadable)}", hint=LET_READ.format(role=role))
    if hidden := [row["name"] for row in kept]:
        message = (
            f"row-level security hides rows of {first_and_last(hidden)} from the role, so a dump would not be complete"
        )
        hint = "run with the table's owner or with a role that has BYPASSRLS"
        raise BackupFailedError(message, hint=hint)
    return Facts(bytes=int(size), tables=there, system_identifier=await system_identifier(conn))


async def system_identifier(conn: asyncpg.Connection) -> str:
    """The identifier of the server; "" if the role may not read it."""
    try:
        return str(await conn.fetchval("select system_identifier from pg_catalog.pg_control_system()"))
    except asyncpg.InsufficientPrivilegeError:
        return ""


async def tables(conn: asyncpg.Connection) -> dict[int, str]:
    """The names of the tables that there are, by oid."""
    return {int(row["oid"]): str(row["name"]) for row in await conn.fetch(_TABLES)}


async def end_orphans(conn: asyncpg.Connection, database: str, application: str) -> list[asyncpg.Record]:
    """End the sessions that children of a dead run have in a database, and return them.

    Such a child goes on when its run was killed, and its locks would make others wait. The caller holds the lock that a
    living run would have.

    Args:
        conn: to the server.
        database: its name.
        application: the beginning of the children's application name.
    """
    return list(await conn.fetch(_ORPHANS, database, f"{application}:%"))


async def warn_of_other_dumps(conn: asyncpg.Connection, *, log: FilteringBoundLogger) -> None:
    """Warn of other dumps: the locks of that dump make every ALTER TABLE wait until it is done."""
    for row in await conn.fetch(_OTHERS):
        log.warning(
            "other_dump_running", pid=row["pid"], role=row["role"], client=row["client"], backend_start=row["since"]
        )
