"""What a backup reads from the database: its size, its tables, other dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import msgspec

from headstart.backup.dump import APPLICATION
from headstart.errors import BackupFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

SIZED = 600.0
"""Seconds that the server gets to say how large the database is: it looks at each of its files."""

# The tables whose data pg_dump writes for certain. Left out are those of extensions (dumped by it only where the
# extension asks for that), and other sessions' temporary ones. A table too few here is no harm, one too many would be.
_TABLES = """
select c.oid::pg_catalog.int8 as oid, pg_catalog.format('%I.%I', n.nspname, c.relname) as name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not exists (
    select from pg_catalog.pg_depend d
    where d.deptype = 'e'
      and (d.classid, d.objid) in ((c.tableoid, c.oid), (n.tableoid, n.oid)))
"""
_SIZE = "select pg_catalog.pg_database_size(pg_catalog.current_database())"
_ORPHANS = """
select pid, application_name, pg_catalog.pg_terminate_backend(pid) as ended
from pg_catalog.pg_stat_activity
where datname = pg_catalog.current_database() and usename = current_user and application_name like $1
"""
_OTHERS = """
select pid, usename::pg_catalog.text as role, client_addr::pg_catalog.text as client,
       backend_start::pg_catalog.text as since
from pg_catalog.pg_stat_activity where datname = pg_catalog.current_database() and application_name = 'pg_dump'
"""
_EXISTING = """
select c.oid::pg_catalog.int8 as oid from pg_catalog.pg_class c
where c.oid::pg_catalog.int8 = any($1::pg_catalog.int8[])
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The database before the dump: its size, its tables by oid, and which server it is on."""

    bytes: int
    tables: dict[int, str]
    system_identifier: str


async def read_facts(conn: asyncpg.Connection) -> Facts:
    """Read the facts that a backup needs.

    Raises:
        BackupFailedError: the role may not read them.
    """
    try:
        size = await conn.fetchval(_SIZE, timeout=SIZED)
        tables = {int(row["oid"]): str(row["name"]) for row in await conn.fetch(_TABLES)}
    except asyncpg.InsufficientPrivilegeError as error:
        message = f"the role may not look at the database: {error}"
        raise BackupFailedError(message, hint="grant it CONNECT on the database, or pg_read_all_stats") from error
    return Facts(bytes=int(size), tables=tables, system_identifier=await system_identifier(conn))


async def system_identifier(conn: asyncpg.Connection) -> str:
    """The identifier of the server; "" if the role may not read it."""
    try:
        return str(await conn.fetchval("select system_identifier from pg_catalog.pg_control_system()"))
    except asyncpg.InsufficientPrivilegeError:
        return ""


async def existing(conn: asyncpg.Connection, oids: Sequence[int]) -> list[int]:
    """The tables that still exist."""
    rows = await conn.fetch(_EXISTING, oids)
    return [int(row["oid"]) for row in rows]


async def end_orphans(conn: asyncpg.Connection, *, log: FilteringBoundLogger) -> None:
    """End dumps of ours whose run is dead: we hold the migration lock, so no living run has one.

    Such a dump goes on reading when its run was killed, and its locks would make the migration wait.
    """
    for row in await conn.fetch(_ORPHANS, f"{APPLICATION}:%"):
        log.warning("orphaned_dump_ended", pid=row["pid"], application_name=row["application_name"], ended=row["ended"])


async def warn_of_other_dumps(conn: asyncpg.Connection, *, log: FilteringBoundLogger) -> None:
    """Warn of other dumps: the locks of that dump make every ALTER TABLE wait until it is done."""
    for row in await conn.fetch(_OTHERS):
        log.warning(
            "other_dump_running", pid=row["pid"], role=row["role"], client=row["client"], backend_start=row["since"]
        )
