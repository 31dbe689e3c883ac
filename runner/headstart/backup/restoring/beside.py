"""The new database beside the live one: its name, how it is made, compared, and dropped if that fails.

Three names, each the live database's with a suffix: `app_restoring_20260131T120000Z` while pg_restore works,
`app_restored_...` once it is complete, and `app_before_restore_...` for what had the name before an exchange. Only the
first is ever dropped.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from headstart.backup.database import end_orphans
from headstart.backup.restoring import patient
from headstart.backup.restoring.pg_restore import APPLICATION
from headstart.backup.restoring.shape import OWNER, PROVIDERS
from headstart.errors import RefusedError, RestoreFailedError
from headstart.postgres.server import first_line, quote

if TYPE_CHECKING:
    from datetime import datetime

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.manifest import Manifest
    from headstart.backup.restoring.patient import Another
    from headstart.backup.restoring.shape import Property, Shape
    from headstart.postgres.connection import ScriptConnection

#: Postgres cuts a name at this many bytes (NAMEDATALEN - 1).
LONGEST = 63
_STAMP = "%Y%m%dT%H%M%SZ"

_FACTS = """
select r.rolsuper as superuser, r.rolcreatedb as createdb, current_user::pg_catalog.text as role,
       pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text as owner,
       coalesce(pg_catalog.pg_has_role(d.datdba, 'USAGE'), true) as owns
from pg_catalog.pg_roles r left join pg_catalog.pg_database d on d.datname = $1
where r.rolname = current_user
"""
_NAMES = "select datname from pg_catalog.pg_database"
_TABLES = """
select pg_catalog.count(*) as all, pg_catalog.count(*) filter (where not exists (
    select from pg_catalog.pg_depend d
    where d.deptype = 'e'
      and (d.classid, d.objid) in ((c.tableoid, c.oid), (n.tableoid, n.oid)))) as own
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""
_VERSION_TABLES = """
select n.nspname as schema, c.relname as table
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attname = 'version_num' and a.attnum > 0 and not a.attisdropped
  and a.atttypid in ('pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.text'::pg_catalog.regtype)
  and c.relkind in ('r', 'p') and not c.relhasrules and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""
_MOST_REVISIONS = 1000

Recorded = dict[str, tuple[str, ...]]
"""The rows of version tables, by their names in SQL."""

_NOT_PERMITTED = "42501"


class Names(NamedTuple):
    """The names of the databases of one restore."""

    restoring: str
    restored: str
    before: str


def names(live: str, moment: datetime) -> Names:
    """The three names for a restore that begins at a moment: each with a suffix, and cut so that all of it fits."""
    stamp = moment.astimezone(UTC).strftime(_STAMP)
    suffixes = [f"_{kind}_{stamp}" for kind in ("restoring", "restored", "before_restore")]
    return Names(*(_cut(live, LONGEST - len(suffix)) + suffix for suffix in suffixes))


def is_ours(name: str, live: str) -> bool:
    """Whether a name is one that a restore of `live` gives to a database that is not complete."""
    return re.fullmatch(re.escape(_stem(live)) + r"_restoring_\d{8}T\d{6}Z", name) is not None


def key(live: str) -> int:
    """The advisory lock of a restore of `live`, taken in the database that we work from."""
    digest = blake2b(f"headstart restore of {_stem(live)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _stem(live: str) -> str:
    return _cut(live, LONGEST - len("_restoring_20260131T120000Z"))


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


# -- before -----------------------------------------------------------------------------------------------------------


async def require_privileges(conn: asyncpg.Connection, live: str) -> bool:
    """Refuse, before anything is done, a role that may not create a database or give it the live one's owner.

    Returns:
        Whether the live database is there.

    Raises:
        RefusedError: with the statement to run (21).
    """
    facts = await conn.fetchrow(_FACTS, live)
    assert facts is not None  # noqa: S101  (we are logged in with that role)
    if not facts["superuser"]:
        if not facts["createdb"]:
            raise RefusedError(
                f"the role {facts['role']} may not create databases, which a restore needs",
                hint=f"alter role {quote(facts['role'])} createdb",
                sqlstate=_NOT_PERMITTED,
            )
        if not facts["owns"]:
            raise RefusedError(
                f"the database {live} belongs to {facts['owner']}, and the role {facts['role']} is no member of that",
                hint=f"grant {quote(facts['owner'])} to {quote(facts['role'])}",
                sqlstate=_NOT_PERMITTED,
            )
    return facts["owner"] is not None


async def free_names(conn: asyncpg.Connection, live: str, moment: datetime) -> Names:
    """Names that no database has: those of the moment, or of one a few seconds later."""
    taken = {row["datname"] for row in await conn.fetch(_NAMES)}
    while taken & set(found := names(live, moment)):
        moment += timedelta(seconds=1)
    return found


async def sweep(conn: ScriptConnection, live: str, another: Another, *, log: FilteringBoundLogger) -> None:
    """Drop what killed restores of this database have left. The caller holds the lock `key(live)`.

    A pg_restore whose run is dead is ended. A database to which anybody else is connected stays, and so does one whose
    end takes too long. `another` opens a session that asks meanwhile whether the server is still there.
    """
    for name in [row["datname"] for row in await conn.fetch(_NAMES) if is_ours(row["datname"], live)]:
        try:
            for orphan in await end_orphans(conn, name, APPLICATION):
                log.warning("orphaned_restore_ended", pid=orphan["pid"], database=name)
            await patient.execute(conn, f"drop database if exists {quote(name)}", another)
        except (TimeoutError, asyncpg.PostgresError) as error:
            state = getattr(error, "sqlstate", None)
            log.warning("partial_database_kept", database=name, cause=first_line(error), sqlstate=state)
        else:
            log.info("partial_database_dropped", database=name)


async def create(
    conn: ScriptConnection, name: str, shape: Shape, another: Another, *, there: bool, log: FilteringBoundLogger
) -> None:
    """Create the database in the shape of the live one; `there`: which exists, so that its owner has to own this one.

    `another` as for `sweep`.

    Raises:
        RefusedError: the role may not (21).
        RestoreFailedError: the server could not, or not in time (41).
    """
    options = shape.options
    if conn.get_server_version().major < PROVIDERS:  # a newer pg_dump names the only one that there is
        options = options.replace(" LOCALE_PROVIDER = libc", "")
    try:
        await patient.execute(conn, f"create database {quote(name)} {options}", another)
    except asyncpg.InsufficientPrivilegeError as error:
        raise RefusedError(
            f"the server refused: {first_line(error)}",
            hint="grant what is missing, or be a superuser",
            sqlstate=error.sqlstate,
        ) from error
    except (TimeoutError, asyncpg.PostgresError) as error:
        raise RestoreFailedError(
            f"the database {name} could not be created: {first_line(error)}",
            hint="correct what the server reports, then restore again",
            sqlstate=getattr(error, "sqlstate", None),
        ) from error
    for each in shape.properties:
        if each.early and not await _apply(conn, name, each, log=log) and each.label == OWNER and there:
            await discard(conn, name, another, log=log)
            raise RefusedError(
                "the role may not give the restored database the owner of the live one",
                hint="grant it that owner's role (with the right to SET ROLE), or be a superuser",
            )


async def finish(conn: ScriptConnection, found: Names, shape: Shape, *, log: FilteringBoundLogger) -> list[str]:
    """Give the restored database the other properties of the live one, and the name of a complete one.

    Returns:
        What could not be taken over.
    """
    missing = [
        each.label
        for each in shape.properties
        if not each.early and not await _apply(conn, found.restoring, each, log=log)
    ]
    await conn.execute(f"alter database {quote(found.restoring)} rename to {quote(found.restored)}")
    return missing


async def _apply(conn: ScriptConnection, name: str, each: Property, *, log: FilteringBoundLogger) -> bool:
    """Run a statement; what the role may not do is a warning, because the data counts for more in an emergency."""
    try:
        await conn.execute(each.on(name))
    except asyncpg.PostgresError as error:  # its text may hold the value
        log.warning("property_not_restored", database=name, property=each.label, sqlstate=error.sqlstate)
        return False
    return True


async def discard(conn: ScriptConnection, name: str, another: Another, *, log: FilteringBoundLogger) -> None:
    """Drop an incomplete database of ours. If that fails, the next restore drops it."""
    try:
        await patient.execute(conn, f"drop database if exists {quote(name)} with (force)", another)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.warning("partial_database_kept", database=name, cause=first_line(error) or type(error).__name__)
    else:
        log.info("partial_database_dropped", database=name)


# -- compare ----------------------------------------------------------------------------------------------------------


async def compare(conn: ScriptConnection, manifest: Manifest) -> Recorded:
    """Compare the restored database with the manifest: the number of tables, and the revisions that it records.

    Returns:
        The version tables with the revisions: those that record nothing but what the manifest says, since an app may
        have a column of that name, too. A tenant has one each.

    Raises:
        RestoreFailedError: it is not what was backed up (41).
    """
    counted = await conn.fetchrow(_TABLES)
    assert counted is not None  # noqa: S101  (count gives a row)
    # Of an extension's tables pg_dump takes only those that the extension asks it to.
    if not counted["own"] <= manifest.tables <= counted["all"]:
        raise RestoreFailedError(
            f"the restored database has {counted['all']} tables, the backup has those of {manifest.tables}",
            hint="take another backup to restore, and report this",
            tables=counted["all"],
        )
    wanted = set(manifest.revision_before)
    there = await recorded(conn)
    found = {name: rows for name, rows in there.items() if rows and wanted.issuperset(rows)}
    if missing := sorted(wanted - set(revisions_in(found))):
        usual = revisions_in({name: rows for name, rows in there.items() if name.endswith('."alembic_version"')})
        raise RestoreFailedError(
            f"the restored database records {', '.join(usual) or 'no revision'}, not {', '.join(missing)}",
            hint="take another backup to restore, and report this",
            revision_expected=list(manifest.revision_before),
        )
    return found


async def recorded(conn: ScriptConnection) -> Recorded:
    """What stands in every table that may be Alembic's: a project may have given its own another name."""
    found: Recorded = {}
    for row in await conn.fetch(_VERSION_TABLES):
        name = f"{quote(row['schema'])}.{quote(row['table'])}"
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            rows = await conn.fetch(f"select version_num from {name} limit {_MOST_REVISIONS}")  # noqa: S608
            found[name] = tuple(str(each["version_num"]) for each in rows)
    return found


def revisions_in(tables: Recorded) -> tuple[str, ...]:
    """The revisions of all of these tables."""
    return tuple(sorted({each for rows in tables.values() for each in rows}))
