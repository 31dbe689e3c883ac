"""A database that has something of everything, what is to be the same after a restore, and what stands beside it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from support.postgres import database_of, identifier, psql, script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run

VERSION_TABLE = "create table {0} (version_num varchar(32) not null primary key); insert into {0} values ('{1}');"

RICH = VERSION_TABLE.format("alembic_version", "a1b2") + (
    "create schema trading; create type trading.side as enum ('buy', 'sell');"
    "create table trading.orders (id serial primary key, side trading.side not null, price numeric check (price > 0),"
    " noted text collate \"C\", at timestamptz default '2026-01-02T03:04:05Z');"
    "insert into trading.orders (side, price, noted)"
    " select 'buy', n, e'line\\n\\\\ \\t é ' || n from generate_series(1, 500) n;"
    "create index on trading.orders (price) include (noted) where side = 'buy';"
    "create table fills (id int references trading.orders, part int) partition by range (part);"
    "create table fills_1 partition of fills for values from (0) to (10); insert into fills values (3, 4);"
    "create unlogged table scratch (id int); create sequence counter start 7; select nextval('counter');"
    "create view cheap as select * from trading.orders where price < 10;"
    "create materialized view total as select sum(price) from trading.orders;"
    "create function doubled(int) returns int language sql immutable as 'select $1 * 2';"
    "create index on trading.orders (doubled(id));"
    "select lo_from_bytea(4711, '\\x00ff10'); comment on large object 4711 is 'three bytes';"
)
"""Rows, a sequence, constraints, indexes, partitions, views, a function, a large object."""

SIGNAL = "go on"

STUCK = (
    "create function stuck() returns bool language plpgsql as $$ begin"
    " while current_database() like '%\\_restoring\\_%'"
    f" and not exists (select from pg_stat_activity where application_name = '{SIGNAL}')"
    " loop perform pg_sleep(0.02), pg_stat_clear_snapshot(); end loop; return true; end $$;"
    "create table slow (id int check (stuck())); insert into slow values (1);"
)
"""A table that cannot be restored until a session with the name SIGNAL is connected to the server."""


def content(url: str, bindir: Path) -> list[str]:
    """Everything in a database as pg_dump tells it: objects, owners, privileges, rows, large objects."""
    done = subprocess.run([bindir / "pg_dump", url], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def properties(server: Postgres, name: str) -> list[tuple[Any, ...]]:
    """What a database is beside its content: owner, encoding, locale, privileges, limit, settings, comment."""
    [(row,)] = psql(server.url(), "select to_jsonb(d)::text from pg_database d where datname = $1", name)
    same = re.sub(r'"(oid|datname|datminmxid|datfrozenxid|datcollversion|datacl)": (\[.*?\]|[^,}]+)', "", row)
    privileges = psql(
        server.url(),
        "select a.grantee::regrole::text, a.grantor::regrole::text, privilege_type, is_grantable"
        " from pg_database, aclexplode(datacl) a where datname = $1 order by 1, 3",
        name,
    )
    settings = psql(
        server.url(),
        "select setrole::regrole::text, one from pg_db_role_setting s join pg_database d on d.oid = setdatabase,"
        " unnest(setconfig) one where datname = $1 order by 1, 2",
        name,
    )
    comment = psql(
        server.url(), "select shobj_description(oid, 'pg_database') from pg_database where datname = $1", name
    )
    return [(same,), *privileges, *settings, *comment]


def beside(server: Postgres, live: str) -> list[str]:
    """The databases whose names begin as those do that restores of `live` make, without `live` itself."""
    stem = live.encode()[:31].decode(errors="ignore")
    query = "select datname::text from pg_database where starts_with(datname::text, $1) and datname <> $2 order by 1"
    found = [row[0] for row in psql(server.url(), query, f"{stem}", live)]
    return [name for name in found if re.search(r"_(restoring|restored|before_restore)_\d{8}T\d{6}Z$", name)]


def drop_all(server: Postgres, live: str) -> None:
    """Drop a database and what restores of it have made."""
    for name in (live, *beside(server, live)):
        server.drop_database(name)


def told(run: Run) -> dict[str, str]:
    """What `restore` printed, by the first word of each line."""
    lines = [line.partition("  ") for line in run.stdout.splitlines()]
    return {label: rest.strip() for label, _, rest in lines}


def unclaimed(server: Postgres, url: str) -> Sequence[tuple[Any, ...]]:
    """Sessions of ours, or of children of ours, that are still there."""
    query = (
        "select pid, application_name from pg_stat_activity where application_name like 'headstart%' and datname ~ $1"
    )
    return psql(server.url(), query, "^" + re.escape(database_of(url)))


def create(server: Postgres, name: str) -> str:
    """A database of any name, with what it takes for a backup in it."""
    url = server.create_database(name)
    script(url, RICH)
    return url


def settle(server: Postgres, name: str, owner: str, reader: str) -> None:
    """Give a database an owner, privileges, settings, a limit and a comment of its own."""
    quoted = identifier(name)
    script(
        server.url(),
        f"alter database {quoted} owner to {identifier(owner)};"
        f"revoke all on database {quoted} from public; grant connect on database {quoted} to {identifier(reader)}"
        " with grant option;"
        f'alter database {quoted} set search_path = "$user", trading, public, "with, comma";'
        f"alter database {quoted} set app.secret = E'its \\\\ value''s';"
        f"alter database {quoted} set default_transaction_read_only = off;"
        f"alter role {identifier(reader)} in database {quoted} set work_mem = '7MB';"
        f"alter database {quoted} connection limit 23;"
        f"comment on database {quoted} is E'prices;\\n\\\\x it''s'",
    )
