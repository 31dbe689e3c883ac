"""The ledger's table: how it is made, whose it is, and how one that an earlier version made is brought up to date.

All of it runs under any search path: every function, type, table and operator is qualified. It has no percent sign, so
that a driver which formats statements leaves it alone. Both hold for the statements of `writer` too.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.connection import ScriptConnection

LOCK_TIMEOUT: Final = "2s"
"""How long bringing it up to date may wait: nothing that a run needs hangs on it."""

_INDEX = "create index if not exists ledger_latest on headstart.ledger (history, revision, id);"
# A role without the privilege to create schemas may use one that was made for it: `if not exists` would refuse that.
_SCHEMA = """
if pg_catalog.to_regnamespace('headstart') is null then
    create schema headstart;
    comment on schema headstart is 'What Headstart has done to this database. No migration needs it.';
end if;
"""
_TABLE = """
create table headstart.ledger (
    id bigint generated always as identity primary key,
    at pg_catalog.timestamptz not null default pg_catalog.clock_timestamp(),
    history pg_catalog.text not null,
    action pg_catalog.text not null check (
        action operator(pg_catalog.=) any (array['applied', 'reverted', 'stamped', 'adopted']::pg_catalog.text[])),
    revision pg_catalog.text,
    follows pg_catalog.text[] not null,
    seconds double precision,
    sha256 pg_catalog.text,
    source pg_catalog.bytea,
    run_id pg_catalog.text not null,
    role pg_catalog.text not null default session_user,
    host pg_catalog.text not null,
    headstart pg_catalog.text not null,
    image pg_catalog.text,
    backup pg_catalog.text
);
comment on column headstart.ledger.history is 'The version table of the Alembic project, with its schema if it has one';
comment on column headstart.ledger.revision is 'Null where the database was stamped as holding none';
comment on column headstart.ledger.source is 'The revision file as it was applied, in the format of zlib';
"""
COLUMNS: Final = (
    "id int8 not null identity",
    "at timestamptz not null default clock_timestamp()",
    "history text not null",
    "action text not null",
    "revision text",
    "follows _text not null",
    "seconds float8",
    "sha256 text",
    "source bytea",
    "run_id text not null",
    "role text not null default SESSION_USER",
    "host text not null",
    "headstart text not null",
    "image text",
    "backup text",
)
"""The columns as `state` reads them from the catalog."""

# ALTER DEFAULT PRIVILEGES may have given rights to others, and a revision's source is nothing for them.
_REVOKE = """
execute coalesce((
    select pg_catalog.string_agg(pg_catalog.concat('revoke all on ', granted.name, ' from ',
        case when a.grantee operator(pg_catalog.=) 0::pg_catalog.oid then 'public'
        else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text) end, ' cascade'), '; ')
    from (
        select 'schema headstart', n.nspowner, n.nspacl
        from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) 'headstart'
        union all
        select pg_catalog.concat(case when c.relkind operator(pg_catalog.=) 'S' then 'sequence ' end,
            'headstart.', pg_catalog.quote_ident(c.relname::pg_catalog.text)), c.relowner, c.relacl
        from pg_catalog.pg_class c
        where c.oid operator(pg_catalog.=) pg_catalog.to_regclass('headstart.ledger')::pg_catalog.oid
        or c.oid operator(pg_catalog.=)
            pg_catalog.to_regclass(pg_catalog.pg_get_serial_sequence('headstart.ledger', 'id'))::pg_catalog.oid
    ) granted (name, owner, acl), pg_catalog.aclexplode(granted.acl) a
    where a.grantee operator(pg_catalog.<>) granted.owner
), '');
"""
# Only to a role whose rights the current one has: it has to go on writing.
_OWNER = """
begin
    execute coalesce((
        select pg_catalog.concat('alter schema headstart owner to ', o.name,
            '; alter table headstart.ledger owner to ', o.name)
        from pg_catalog.pg_class c, pg_catalog.pg_roles r, pg_catalog.quote_ident(r.rolname::pg_catalog.text) o (name)
        where c.oid operator(pg_catalog.=) {version_table}::pg_catalog.oid
        and r.oid operator(pg_catalog.=) c.relowner
        and r.rolname operator(pg_catalog.<>) current_user
        and pg_catalog.pg_has_role(r.oid, 'usage')
    ), '');
exception when others then null;
end;
"""


def creating(version_table: int | None) -> str:
    """A statement that makes the table where there is none.

    Args:
        version_table: OID of the version table, whose owner is to own the ledger as well; the current role owns what is
            made without, and where it may not give it away.
    """
    owner = "" if version_table is None else _OWNER.format(version_table=version_table)
    make = f"do $make$ begin {_SCHEMA}{_TABLE}{_INDEX}{owner}{_REVOKE} end $make$"
    # As a text, which the server parses only where it runs it.
    create = f"if pg_catalog.to_regclass('headstart.ledger') is null then execute $create$ {make} $create$; end if;"
    return f"do $headstart$ begin {create} end $headstart$"


async def create(connection: ScriptConnection, *, version_table: int | None = None) -> None:
    """Make the table now, if there is none: who may write it one beside the other cannot all make it with a row.

    Args:
        connection: not in a transaction.
        version_table: as for `creating`.
    """
    with contextlib.suppress(asyncpg.PostgresError):  # another was quicker, or each row will report the error
        await connection.execute(creating(version_table))


async def bring_up_to_date(connection: ScriptConnection, *, log: FilteringBoundLogger) -> None:
    """Give a table that an earlier version made its index, and take from others the rights that they have by default.

    Args:
        connection: not in a transaction.
        log: gets a warning if it cannot be done now.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute(f"do $headstart$ begin {_INDEX}{_REVOKE} end $headstart$")
    except asyncpg.PostgresError as error:
        log.warning(
            "ledger_not_updated",
            cause=str(error),
            sqlstate=error.sqlstate,
            hint="it works as it is, but reads slowly in a long history; the next run tries again",
        )
