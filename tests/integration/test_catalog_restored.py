"""The catalog of a database that was dumped and restored is that of the original, however Postgres spells it."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import asyncpg

from headstart.postgres import catalog
from support.postgres import script

if TYPE_CHECKING:
    from support.postgres import Postgres

# Comparisons whose spelling changes when Postgres reads its own, and their like, wherever an expression may stand.
SQL = r"""
create domain code as varchar(10) check (value in ('x', 'y'));
create table t (
    v varchar(20), v0 varchar, c char(3), x text, n numeric(10, 2), d date, a varchar[], k code,
    check (v in ('a', 'b''c', 'd, e')), check (v not in ('a', 'b]')), check (c in ('a', 'b')), check (x in ('a', 'b')),
    check (n in (1, -2)), check (n between -1 and 100), check (d in ('2020-01-01', '2020-01-02')),
    check (v like any (array['a%', 'b%'])), check (v in ('only')), check (v in (v0, 'a')), check (v in (x, 'a')),
    check (upper(v)::varchar(5) in ('a', 'b')), check (a && '{a,b}'), check (k in ('x', 'y')),
    check (case when v in ('a', 'b') then n > 0 else true end),
    g text generated always as (case when v0 in ('a', 'b') then 'x' else 'y' end) stored
);
create index on t (lower(v)) where v0 not in ('a', 'b');
create statistics s on (v in ('a', 'b')), n from t;
create view w as select v, count(*) filter (where v in ('a', 'b')) from t group by v having v not in ('z', 'y');
create materialized view m as select v from t where v in ('a', 'b') union all select x from t where x in ('a', 'b');
create policy p on t using (v in ('a', 'b')) with check (v in ('a', 'b'));
create function touched() returns trigger language plpgsql as 'begin return new; end';
create trigger tr before update on t for each row when (old.v in ('a', 'b')) execute function touched();
create rule r as on delete to w where old.v in ('a', 'b') do instead nothing;
create function f(varchar) returns boolean begin atomic select $1 in ('a', 'b'); end;
"""


def read(url: str) -> catalog.Catalog:
    """The catalog of a database."""

    async def reading() -> catalog.Catalog:
        connection = await asyncpg.connect(url)
        try:
            return await catalog.read(connection)
        finally:
            await connection.close()

    return asyncio.run(reading())


def test_a_restored_database_is_the_same(server: Postgres, database: str) -> None:
    """Nobody is told of a difference because a database has once been restored from a dump."""
    script(database, SQL)
    dump = subprocess.run(
        [server.bindir / "pg_dump", "--no-owner", database], capture_output=True, check=True, text=True
    ).stdout
    restored = server.create_database()
    subprocess.run(
        [server.bindir / "psql", "-qX", "-v", "ON_ERROR_STOP=1", restored], input=dump, check=True, text=True
    )
    original, after = read(database), read(restored)
    server.drop_database(restored)
    assert len(original) > 30
    assert catalog.differences(original, after) == []
