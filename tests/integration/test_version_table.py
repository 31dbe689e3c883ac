"""Whose version table it is, and what a look at it or a write to it would execute."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

import headstart
from headstart.errors import RefusedError
from headstart.postgres import version_table
from headstart.postgres.server import close, connect, holds_user_tables
from support.postgres import database_of, identifier, psql, script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from headstart.postgres.connection import ScriptConnection
    from support.postgres import Postgres

PASSWORD = "not a secret"
TABLE = "create table {}alembic_version (version_num varchar(32) primary key)"
POLICY = (
    "alter table low.alembic_version enable row level security; grant select on low.alembic_version to public;"
    " create policy p on low.alembic_version using (low.pwn() is not null)"
)
CODE = """
create table public.harm (at timestamptz default now());
grant insert on public.harm to public;
create function {schema}.pwn() returns text security invoker language plpgsql as $$
begin insert into public.harm default values; return 'a1'; end $$;
create function {schema}.pwn_row() returns trigger language plpgsql as $$
begin insert into public.harm default values; return new; end $$;
create function {schema}.pwn_check(text) returns bool immutable language plpgsql as $$
begin insert into public.harm default values; return true; end $$;
alter function {schema}.pwn() owner to low;
alter function {schema}.pwn_row() owner to low;
alter function {schema}.pwn_check(text) owner to low;
"""


@asynccontextmanager
async def session(url: str, user: str | None = None) -> AsyncIterator[ScriptConnection]:
    """A session of ours, as the superuser or as a role."""
    given = {"DATABASE_URL": url} if user is None else {"DATABASE_URL": url, "HEADSTART_BACKUP": "off"}
    dsn = headstart.settings_from(given).dsn
    if user is not None:
        host, port = dsn.hosts[0]
        address = f"postgresql://{user}:{PASSWORD.replace(' ', '%20')}@{host}:{port}/{dsn.database}"
        dsn = headstart.settings_from({"DATABASE_URL": address}).dsn
    connection = await connect(dsn, timeout=10, application_name="headstart test")
    try:
        yield connection
    finally:
        await close(connection)


@pytest.fixture
def url(server: Postgres, database: str) -> Iterator[str]:
    """A database in which the role `low`, which is nobody's member, may make things in a schema of its own."""
    roles = ("low", "migrator", "onlooker")
    for role in roles:
        script(server.url(), f"create role {role} login password '{PASSWORD}'")
    script(database, "create schema low authorization low; grant all on schema low, public to migrator")
    script(database, f"alter database {identifier(database_of(database))} set search_path = low, public")
    yield database
    for role in roles:
        script(database, f"drop owned by {role} cascade; drop role {role}")


def by(url: str, role: str, sql: str) -> None:
    """Run statements as a role."""
    script(url, f"set role {role}; {sql}")


@pytest.mark.parametrize("user", [None, "migrator"])
@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("create view low.alembic_version as select low.pwn() as version_num", "not an ordinary table"),
        (
            "create materialized view low.alembic_version as select 'a1'::text as version_num",
            "not an ordinary table",
        ),
        ("create sequence low.alembic_version", "not an ordinary table"),
        (
            f"{TABLE.format('low.')}; create rule r as on insert to low.alembic_version do also select low.pwn()",
            "has rules",
        ),
        (
            f"{TABLE.format('low.')}; {POLICY}",
            r"a read of .* would execute code of another role: function low.pwn\(\) of low",
        ),
        (
            f"{TABLE.format('low.')}; create table low.child () inherits (low.alembic_version)",
            "inheritance children",
        ),
    ],
)
async def test_what_is_not_read(url: str, sql: str, cause: str, user: str | None) -> None:
    """What would execute its owner's code, or fetch rows from elsewhere, is refused by name, and not touched."""
    script(url, CODE.format(schema="low"))
    by(url, "low", f"{sql}; grant usage on schema low to public")
    async with session(url, user) as connection:
        with pytest.raises(RefusedError, match=cause) as refused:
            await version_table.recorded_revisions(connection, "alembic_version", None)
    assert "owner is low" in refused.value.message
    assert '"low"."alembic_version"' in refused.value.message
    assert psql(url, "select count(*) from harm") == [(0,)]


@pytest.mark.parametrize("user", [None, "migrator"])
@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("create trigger t before insert on {} for each row execute function low.pwn_row()", "low.pwn_row"),
        ("alter table {} add constraint c check (low.pwn_check(version_num))", "low.pwn_check"),
        ("alter table {} add column more text default low.pwn()", "low.pwn"),
        ("create index on {} ((low.pwn_check(version_num)))", "low.pwn_check"),
    ],
)
async def test_what_is_not_written(url: str, sql: str, cause: str, user: str | None) -> None:
    """A table of somebody else's on which a write would execute that role's code is read, and refused for a write."""
    script(url, CODE.format(schema="low"))
    by(url, "low", f"{TABLE.format('low.')}; {sql.format('low.alembic_version')}")
    by(url, "low", "grant all on low.alembic_version to public; grant usage on schema low to public")
    async with session(url, user) as connection:
        assert await version_table.recorded_revisions(connection, "alembic_version", None) == ()
        with pytest.raises(RefusedError, match=f"a write to .*: function {cause}.* of low"):
            await version_table.require_write_privilege(connection, user or "postgres", "alembic_version", None)
    assert psql(url, "select count(*) from harm") == [(0,)]


# What is on the migrator's own table, each a way of its own to a function of `low`.
HIDDEN = {
    "nothing": "select",
    "a trigger": "create trigger t before insert on alembic_version for each row execute function low.row()",
    "WHEN of a trigger": "create trigger t before insert on alembic_version for each row"
    " when (low.f(new.version_num) > 0) execute function ours()",
    "a default": "alter table alembic_version add more int;"
    " alter table alembic_version alter more set default low.f('')",
    "a generated column": "alter table alembic_version add more int generated always as (low.f(version_num)) stored",
    "a CHECK": "alter table alembic_version add check (low.f(version_num) > 0)",
    "an operator": "alter table alembic_version add check (version_num operator(public.<<<) '')",
    "a function's body": "alter table alembic_version add check (atomic(version_num) > 0)",
    "a domain": "create domain word as varchar check (low.f(value) > 0);"
    " alter table alembic_version alter version_num type word",
    "a domain of domains": "create domain word as varchar check (low.f(value) > 0); create domain more as word;"
    " alter table alembic_version alter version_num type more",
    "a domain in a composite type": "create domain word as varchar check (low.f(value) > 0);"
    " create type pair as (one int, two word);"
    " alter table alembic_version add more pair;"
    " alter table alembic_version alter more set default row(1, 'x'::varchar)::pair",
    "an index": "create index on alembic_version (low.f(version_num))",
    "WHERE of an index": "create index on alembic_version (version_num) where low.f(version_num) > 0",
    "an operator class": "create index on alembic_version (version_num public.hidden_ops)",
    "a partition's key": "drop table alembic_version;"
    " create table alembic_version (version_num varchar) partition by range (low.f(version_num));"
    " create table part partition of alembic_version default",
    "a partition's CHECK": "drop table alembic_version;"
    " create table alembic_version (version_num varchar) partition by range (version_num);"
    " create table part partition of alembic_version default; alter table part add check (low.f(version_num) > 0)",
    "a policy": "create policy p on alembic_version using (low.f(version_num) > 0)",
    "a view in a policy": "create view seen as select low.f('') as it; grant select on seen to migrator;"
    " create policy p on alembic_version using (exists (select from seen where it > 0))",
}
FUNCTIONS = """
create function low.f(text) returns int immutable language plpgsql as $$ begin raise 'run as %', current_user; end $$;
create function low.row() returns trigger language plpgsql as $$ begin raise 'run as %', current_user; end $$;
create function low.less(text, text) returns bool immutable language plpgsql
    as $$ begin raise 'run as %', current_user; end $$;
create function low.order(text, text) returns int immutable language plpgsql
    as $$ begin raise 'run as %', current_user; end $$;
alter function low.f(text) owner to low; alter function low.row() owner to low;
alter function low.less(text, text) owner to low; alter function low.order(text, text) owner to low;
create operator public.<<< (leftarg = text, rightarg = text, function = low.less);
create operator class public.hidden_ops for type text using btree as operator 1 <, operator 2 <=, operator 3 =,
    operator 4 >=, operator 5 >, function 1 low.order(text, text);
create function public.ours() returns trigger language plpgsql as $$ begin return new; end $$;
create function public.atomic(text) returns int begin atomic select low.f($1); end;
alter database {database} set search_path = public;
"""


@pytest.mark.parametrize("way", HIDDEN)
async def test_what_is_hidden(url: str, way: str) -> None:
    """On a table whose owner is trusted, code of somebody else's is found behind whatever leads to it."""
    script(url, FUNCTIONS.format(database=identifier(database_of(url))) + "grant usage on schema low to migrator")
    script(url, f"{TABLE.format('public.')}; {HIDDEN[way]}")
    script(url, "alter table alembic_version owner to migrator")
    if "policy" in way:
        script(url, "alter table alembic_version enable row level security, force row level security")
    if "policy" in way or way == "nothing":
        script(url, "set session_replication_role = replica; insert into alembic_version values ('a1')")
    async with session(url, "migrator") as connection:

        async def read() -> None:
            await version_table.recorded_revisions(connection, "alembic_version", None)

        async def written() -> None:
            await version_table.require_write_privilege(connection, "migrator", "alembic_version", None)

        async def write() -> None:
            await connection.execute("insert into public.alembic_version values ('b2'), ('c3')")

        if way == "nothing":
            await read()
            await written()
            await write()
            return
        with pytest.raises(RefusedError, match=r"(function|operator) (low|public)\..* of low"):
            await written()
        if "policy" in way:
            with pytest.raises(RefusedError, match=r"function low.f\(text\) of low"):
                await read()
            with pytest.raises(asyncpg.RaiseError, match="run as migrator"):
                await connection.fetch("select version_num from public.alembic_version")
        else:
            await read()
        with pytest.raises(asyncpg.RaiseError, match="run as migrator"):
            await write()


async def test_a_trigger_of_somebody_elses_on_our_own_table(url: str) -> None:
    """A role that was granted TRIGGER on our table makes it one that we do not write."""
    script(url, CODE.format(schema="public"))
    by(url, "migrator", TABLE.format("public.") + "; grant trigger on public.alembic_version to low")
    by(url, "low", "create trigger t before insert on public.alembic_version for each row execute function pwn_row()")
    async with session(url, "migrator") as connection:
        with pytest.raises(RefusedError, match=r"pwn_row\(\) of low"):
            await version_table.require_write_privilege(connection, "migrator", "alembic_version", "public")


@pytest.mark.parametrize("owner", ["migrator", "the database's owner", "a superuser", "a role of ours"])
async def test_whom_we_trust(url: str, owner: str) -> None:
    """A table, with whatever is on it, of ourselves, a role of ours, the database's owner or a superuser is written."""
    role = {"migrator": "migrator", "a superuser": "postgres"}.get(owner, "low")
    script(url, CODE.format(schema="public") + f"alter function public.pwn_row() owner to {role}")
    script(url, f"{TABLE.format('public.')}; alter table public.alembic_version owner to {role}")
    script(url, "create trigger t before insert on alembic_version for each row execute function pwn_row()")
    script(url, "grant all on alembic_version to migrator; insert into alembic_version values ('a1')")
    if owner == "the database's owner":
        script(url, f"alter database {identifier(database_of(url))} owner to low")
    if owner == "a role of ours":
        script(url, "grant low to migrator")
    async with session(url, "migrator") as connection:
        await version_table.require_write_privilege(connection, "migrator", "alembic_version", None)
        assert await version_table.recorded_revisions(connection, "alembic_version", None) == ("a1",)
    script(url, f"alter database {identifier(database_of(url))} owner to postgres")


async def test_a_reader_of_somebody_elses_table(url: str) -> None:
    """A role that may only read sees what an ordinary table of the migrator's records."""
    by(url, "migrator", f"{TABLE.format('public.')}; insert into public.alembic_version values ('a1')")
    by(url, "migrator", "grant select on public.alembic_version to onlooker")
    async with session(url, "onlooker") as connection:
        found = await version_table.find_version_table(connection, "alembic_version", None)
        assert found is not None
        assert (found.schema, found.name, found.owner, found.trusted) == (
            "public",
            "alembic_version",
            "migrator",
            False,
        )
        assert await version_table.recorded_revisions(connection, "alembic_version", None) == ("a1",)
        with pytest.raises(RefusedError, match="not owned by onlooker"):
            await version_table.require_write_privilege(connection, "onlooker", "alembic_version", None)


async def test_by_oid(url: str) -> None:
    """The same table is read by its oid after it was renamed or moved; None once it is gone."""
    script(url, f"{TABLE.format('public.')}; insert into alembic_version values ('b2'), ('a1')")
    async with session(url) as connection:
        found = await version_table.find_version_table(connection, "alembic_version", None)
        assert found is not None
        assert await version_table.revisions_in(connection, found.oid, "alembic_version", "public") == ("a1", "b2")
        script(url, "alter table alembic_version rename to was_here; alter table was_here set schema low")
        assert await version_table.revisions_in(connection, found.oid, "alembic_version", "public") == ("a1", "b2")
        script(url, "drop table low.was_here")
        assert await version_table.revisions_in(connection, found.oid, "alembic_version", "public") is None


async def test_the_first_of_the_search_path(url: str) -> None:
    """Of two tables of that name the one counts that comes first in the search path, or the one in the given schema."""
    script(url, f"{TABLE.format('public.')}; {TABLE.format('low.')}; insert into low.alembic_version values ('low')")
    async with session(url) as connection:
        assert await version_table.recorded_revisions(connection, "alembic_version", None) == ("low",)
        assert await version_table.recorded_revisions(connection, "alembic_version", "public") == ()
        assert await version_table.recorded_revisions(connection, "alembic_version", "none") == ()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", False),
        ("create function public.f() returns int language sql as 'select 1'", True),
        ("create view public.v as select 1 as one", True),
        ("create type public.mood as enum ('good')", True),
        ("create type public.pair as (a int, b int)", True),
        ("create domain public.positive as int check (value > 0)", True),
        ("create type public.span as range (subtype = int4)", True),
        ("create sequence public.s", True),
        ("create table public.t ()", True),
        (TABLE.format("public."), False),
        ("create schema headstart; create table headstart.ledger (id int)", False),
        ("create extension plpgsql", False),
        ("select lo_create(0)", True),
    ],
)
async def test_what_there_is_to_lose(any_database: str, sql: str, expected: bool) -> None:
    """Functions, views and types are worth a backup too; the version table, the ledger and extensions are not."""
    script(any_database, f"drop extension plpgsql; {sql}" if "extension" in sql else sql)
    async with session(any_database) as connection:
        assert await holds_user_tables(connection, "alembic_version") is expected
