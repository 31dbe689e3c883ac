"""The ledger's table on real servers: what makes it, what writes it, and what is refused in its place."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg
import psycopg2  # type: ignore[import-untyped]
import pytest
import structlog
from structlog.testing import capture_logs

from acceptance.checks import make_role, with_password
from headstart import ledger
from headstart.history.graph import Revision
from headstart.ledger import read, source, state, trust
from headstart.ledger.source import as_applied, require_unedited
from headstart.ledger.state import examine, prepare
from headstart.ledger.table import bring_up_to_date, create
from headstart.ledger.writer import Writer, complete
from headstart.postgres.connection import ScriptConnection
from support.postgres import psql, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from integration.conftest import Connect
    from support.postgres import Postgres

LOG: Any = structlog.get_logger()
HISTORY = "alembic_version"
NAME = "a name with %s, 'quotes', \\backslashes, :colons, $1, {braces} and \u00fcmlauts"
PASSWORD = "s3cret"
ANOTHERS = "the schema headstart belongs to the role mallory, which is not trusted"

# As earlier versions made it.
OLDER = """
create schema headstart;
create table headstart.ledger (
    id bigint generated always as identity primary key, at timestamptz not null default clock_timestamp(),
    history text not null, action text not null check (action in ('applied', 'reverted', 'stamped', 'adopted')),
    revision text, follows text[] not null, seconds double precision, sha256 text, source bytea, run_id text not null,
    role text not null default session_user, host text not null, headstart text not null, image text, backup text
)"""
OWNERS = """
select c.relowner::regrole::text, n.nspowner::regrole::text from pg_class c
join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'headstart' and c.relkind <> 'i'
"""
RIGHTS = """
select distinct 'readonly' from pg_class c, aclexplode(c.relacl) a
where c.relnamespace = 'headstart'::regnamespace and a.grantee <> c.relowner
union all select 'readonly' from pg_namespace n, aclexplode(n.nspacl) a
where n.nspname = 'headstart' and a.grantee <> n.nspowner
"""


def writer(**named: Any) -> Writer:
    """A writer with everything that a driver might misread."""
    return Writer(HISTORY, run_id="ab12", **{"image": NAME, "backup": NAME, **named})


def by_psycopg2(url: str, *statements: str | tuple[str, ...]) -> list[str]:
    """Run statements in one transaction as SQLAlchemy does, with and without parameters; what the server noted."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        flat = [one for each in statements for one in ([each] if isinstance(each, str) else each)]
        for at, statement in enumerate(flat):
            cursor.execute(statement, *([()] if at % 2 else []))
    connection.close()
    return list(connection.notices)


async def ours(connect: Connect, url: str) -> Any:
    """A connection such as the supervisor has."""
    return await connect(url, connection_class=ScriptConnection)


def rows(url: str) -> list[tuple[Any, ...]]:
    """What is recorded."""
    return psql(url, "select action, revision, follows, image from headstart.ledger order by id")


async def version_table(url: str) -> int:
    """The OID of a version table that is made."""
    script(url, "create table alembic_version (version_num text)")
    ((oid,),) = psql(url, "select 'alembic_version'::regclass::oid::int8")
    return int(oid)


def name_of(url: str) -> str:
    """The database's name."""
    return url.rpartition("/")[2]


class TestWriting:
    """The statement that records a revision, on env.py's own connection."""

    def test_by_psycopg2(self, database: str) -> None:
        """The first row makes the table; nothing in a row is misread, with parameters or without."""
        record = writer().record
        held = b"x = '%s'"
        by_psycopg2(database, record("applied", "a1"), record("applied", NAME, follows=["a1"], source=held))
        assert rows(database) == [("applied", "a1", [], NAME), ("applied", NAME, ["a1"], NAME)]
        ((source,),) = psql(database, "select source from headstart.ledger where source is not null")
        assert zlib.decompress(source) == held

    async def test_by_asyncpg(self, database: str, connect: Connect) -> None:
        """The same by asyncpg."""
        connection = await connect(database)
        async with connection.transaction():
            for action in ("applied", "reverted"):
                await connection.execute(";".join(writer().record(action, "a1")))
        assert rows(database) == [("applied", "a1", [], NAME), ("reverted", "a1", [], NAME)]

    def test_no_percent_sign(self) -> None:
        """A driver that formats statements finds nothing to format."""
        assert "%" not in "".join(writer(version_table=1).record("applied", NAME, follows=[NAME]))

    def test_all_at_once(self, any_database: str) -> None:
        """One row for each of several revisions."""
        each = [Revision(id=i, down=(), path=f"/{i}.py") for i in ("a1", "b2")]
        by_psycopg2(any_database, writer().record_all("stamped", each), writer().record("stamped", None))
        assert [row[:2] for row in rows(any_database)] == [("stamped", "a1"), ("stamped", "b2"), ("stamped", None)]

    async def test_what_is_missing_is_counted(self, any_database: str, connect: Connect) -> None:
        """The log says how many rows of a run have not arrived."""
        connection = await ours(connect, any_database)
        by_psycopg2(any_database, writer().record("applied", "a1"))
        with capture_logs() as logged:
            await complete(connection, "ab12", expected=1, log=LOG)
            await complete(connection, "ab12", expected=2, log=LOG)
        assert [(each["event"], each["expected"], each["found"]) for each in logged] == [("ledger_incomplete", 2, 1)]


# What hides PostgreSQL's own where it comes first on the search path. A call is seen even if its error is caught, since
# a sequence is not rolled back.
SHADOWS = """
create schema evil;
create sequence evil.canary;
create function evil.caught() returns bool language plpgsql as $$
begin perform pg_catalog.nextval('evil.canary'); raise exception 'shadowed'; end $$;
do $$
declare
    body text := $b$ language plpgsql as 'begin perform evil.caught(); end'$b$;
    one record;
begin
    for one in
        select p.proname, p.proretset, p.prorettype::regtype as gives,
            array_to_string(array(select format_type(t, null) from unnest(p.proargtypes) t), ', ') as takes
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.proname = any ('{%s}')
    loop
        begin
            execute format('create function evil.%I(%s) returns %s %s', one.proname, one.takes,
                case when one.proretset then 'setof' end, one.gives) || body;
        exception when others then null;  -- a type that PL/pgSQL does not take
        end;
    end loop;
    execute 'create function evil.concat(variadic "char"[]) returns text' || body;
    execute 'create function evil.concat(variadic text[]) returns text' || body;
    for one in
        select o.oid, o.oprname, o.oprleft::regtype as l, o.oprright::regtype as r, o.oprresult::regtype as gives
        from pg_operator o where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprkind = 'b'
        and o.oprname = any ('{=,<>,>,<,<=,>=,||}') and o.oprleft = any (
            '{text,name,oid,bool,"char",int4,int2,int8,text[],anyarray,anycompatiblearray,anynonarray}'::regtype[])
    loop
        execute format('create function evil.op%s(%s, %s) returns %s', one.oid, one.l, one.r, one.gives) || body;
        execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.op%s)',
            one.oprname, one.l, one.r, one.oid);
    end loop;
    for one in select c.relname from pg_class c where c.relnamespace = 'pg_catalog'::regnamespace
        and c.relname in ('pg_class', 'pg_namespace', 'pg_roles', 'pg_auth_members', 'pg_database', 'pg_trigger',
            'pg_rewrite', 'pg_depend', 'pg_attribute', 'pg_attrdef', 'pg_index', 'pg_inherits', 'pg_publication',
            'pg_publication_namespace', 'pg_language', 'pg_type')
    loop
        execute format('create view evil.%I as select where evil.caught()', one.relname);
    end loop;
end $$;
create type evil.text as enum (); create type evil.timestamptz as enum (); create type evil.bytea as enum ();
create type evil.oid as enum (); create type evil.name as enum (); create type evil.regclass as enum ();
create type evil.regnamespace as enum ();
"""
CAUGHT = "select last_value, is_called from evil.canary"
HIDDEN = [
    "select to_regclass('x')",
    "select * from pg_class",
    "select concat('a', 'b')",
    "select 'a'::pg_catalog.text = 'b'",
    "select current_user = 'me'",
    "select 'x'::text",
]


class TestSearchPath:
    """env.py's search path rules, whatever is on it."""

    async def test_shadows(self, server: Postgres, database: str, connect: Connect) -> None:
        """Nothing of ours calls a function or operator, or uses a type or table, that hides one of PostgreSQL's."""
        make_role(server, "owning")
        oid = await version_table(database)
        script(
            database,
            f"alter table alembic_version owner to owning; grant create on database {name_of(database)} to owning",
        )
        statement = writer(version_table=oid).record("applied", "a1", follows=[NAME])
        queries = [state._FACTS, trust._OURS, trust._UNREADABLE, source._SOURCES]
        called = set(re.findall(r"(\w+)\(", "".join([*statement, *queries]))) - {"concat"}
        assert len(called) > 20, called
        script(database, SHADOWS.replace("%s", ",".join(sorted(called)), 1))
        path = "set search_path = evil, pg_catalog"
        for hidden in HIDDEN:  # they work
            with pytest.raises(psycopg2.Error, match=r"shadowed|enum"):
                by_psycopg2(database, path, hidden)
        script(database, "alter sequence evil.canary restart")

        assert by_psycopg2(database, path, statement, statement) == []
        assert psql(database, OWNERS) == [("owning", "owning")] * 2
        connection = await ours(connect, database)
        await connection.execute(path)
        with capture_logs() as logged:
            assert await state.prepare(connection, mode="auto", log=LOG, version_table=oid)
            await create(connection, version_table=oid)
            await bring_up_to_date(connection, log=LOG)
            await complete(connection, "ab12", expected=2, log=LOG, version_table=oid)
        assert logged == []
        assert await ledger.unreadable(connection, version_table=oid) == ""
        await connection.execute(f"{path}, public")  # where the version table, whose owner is trusted, is found by name
        assert await ledger.applied(connection, HISTORY) == {}
        assert set(await ledger.entries(connection, HISTORY)) == {"a1"}
        assert len(await ledger.rows(connection, HISTORY)) == 2
        assert await as_applied(connection, HISTORY, ["a1"]) == {}
        assert psql(database, CAUGHT) == [(1, False)]


class TestOwner:
    """Whose it is, and who may read it."""

    @pytest.mark.parametrize("role", ["postgres", "migrating"])
    async def test_the_version_tables_owner(self, server: Postgres, database: str, role: str) -> None:
        """Where the version table has another owner, whose rights we have, the ledger has the same."""
        make_role(server, "owning", PASSWORD)
        make_role(server, "migrating", PASSWORD, "in role owning")
        oid = await version_table(database)
        script(
            database,
            "alter table alembic_version owner to owning;"
            f"grant create on database {name_of(database)} to owning, migrating",
        )
        url = database if role == "postgres" else with_password(database, PASSWORD, user=role)
        assert by_psycopg2(url, writer(version_table=oid).record("applied", "a1")) == []
        assert psql(database, OWNERS) == [("owning", "owning")] * 2
        assert by_psycopg2(url, writer(version_table=oid).record("applied", "b2")) == []
        by_psycopg2(with_password(database, PASSWORD, user="owning"), writer().record("applied", "c3"))
        assert len(rows(database)) == 3

    async def test_an_owner_that_may_not_have_it(self, any_server: Postgres, any_database: str) -> None:
        """A role that may not give the schema away keeps it, and the row is written."""
        make_role(any_server, "owning", PASSWORD)
        make_role(any_server, "migrating", PASSWORD, "in role owning")
        oid = await version_table(any_database)
        script(
            any_database, "alter table alembic_version owner to owning; create schema headstart authorization migrating"
        )
        url = with_password(any_database, PASSWORD, user="migrating")
        assert by_psycopg2(url, writer(version_table=oid).record("applied", "a1")) == []
        assert psql(any_database, OWNERS) == [("migrating", "migrating")] * 2

    @pytest.mark.parametrize("older", [False, True])
    async def test_rights_by_default(
        self, any_server: Postgres, any_database: str, connect: Connect, older: bool
    ) -> None:
        """What default privileges give to others, they do not get of the ledger; of an older one it is taken."""
        make_role(any_server, "readonly", PASSWORD)
        script(
            any_database,
            "".join(
                f"alter default privileges grant {what} to readonly, public;"
                for what in ("select, insert on tables", "usage on sequences", "usage on schemas")
            ),
        )
        connection = await ours(connect, any_database)
        if older:
            script(any_database, OLDER)
            assert psql(any_database, RIGHTS) != []
            assert await prepare(connection, mode="auto", log=LOG)
        assert by_psycopg2(any_database, writer().record("applied", "a1")) == []
        assert psql(any_database, RIGHTS) == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            psql(with_password(any_database, PASSWORD, user="readonly"), "select from headstart.ledger")

    async def test_rights_that_were_given_stay(self, any_server: Postgres, any_database: str, connect: Connect) -> None:
        """What somebody has granted on a ledger of today is not taken away."""
        make_role(any_server, "readonly", PASSWORD)
        connection = await ours(connect, any_database)
        await create(connection)
        script(
            any_database, "grant usage on schema headstart to readonly; grant select on headstart.ledger to readonly"
        )
        assert await prepare(connection, mode="auto", log=LOG)
        url = with_password(any_database, PASSWORD, user="readonly")
        assert await ledger.rows(await ours(connect, url), HISTORY) == []
        assert await ledger.unreadable(await ours(connect, url)) == ""


class TestOlder:
    """A table that an earlier version made."""

    async def test_it_gets_its_index(self, database: str, connect: Connect) -> None:
        """Once, by whoever owns it; what it holds stays."""
        script(database, f"{OLDER}; {'; '.join(writer().record('applied', 'a1'))}")
        connection = await ours(connect, database)
        found = await examine(connection, mode="auto")
        assert (found.writes, found.older) == (True, True)
        assert await prepare(connection, mode="auto", log=LOG)
        assert not (await examine(connection, mode="auto")).older
        assert set(await ledger.entries(connection, HISTORY)) == {"a1"}

    async def test_a_lock_only_warns(self, any_database: str, connect: Connect) -> None:
        """Somebody who reads it for long keeps it as it is: the run goes on, and the log says so."""
        script(any_database, OLDER)
        reader = await connect(any_database)
        async with reader.transaction():
            await reader.execute("lock table headstart.ledger in row exclusive mode")
            with capture_logs() as logged:
                assert await prepare(await ours(connect, any_database), mode="auto", log=LOG)
        assert [(each["event"], each["sqlstate"]) for each in logged] == [("ledger_not_updated", "55P03")]


class TestState:
    """Whether it is to be written."""

    async def test_nothing_there(self, database: str, connect: Connect) -> None:
        """A role that may make it writes it."""
        found = await examine(await ours(connect, database), mode="auto")
        assert (found.writes, found.cause, found.older) == (True, "", False)

    async def test_off(self, any_database: str, connect: Connect) -> None:
        """The setting says so: that is no warning."""
        found = await examine(await ours(connect, any_database), mode="off")
        assert (found.writes, found.wanted, found.cause) == (False, True, "HEADSTART_LEDGER is off")

    async def test_published(self, database: str, connect: Connect) -> None:
        """A publication of all tables, or of its schema, would replicate it; one of other tables would not."""
        script(database, "create table t (id int); create publication one for table t")
        connection = await ours(connect, database)
        assert (await examine(connection, mode="auto")).writes
        wholes = ["for all tables"]
        if int(connection.get_server_version().major) >= 15:
            script(database, "create schema headstart")
            wholes.append("for tables in schema headstart")
        for whole in wholes:
            script(database, f"create publication whole {whole}")
            found = await examine(connection, mode="auto")
            assert (found.writes, found.wanted) == (False, True)
            assert "the publication whole would replicate it" in found.cause
            script(database, "drop publication whole")
        assert (await examine(connection, mode="auto")).writes

    async def test_roles(self, any_server: Postgres, any_database: str, connect: Connect) -> None:
        """A role that may neither write nor make it is named no ledger; another role may be asked for."""
        make_role(any_server, "modest", PASSWORD)
        connection = await ours(connect, with_password(any_database, PASSWORD, user="modest"))
        found = await examine(connection, mode="auto")
        assert (found.writes, found.wanted) == (False, False)
        assert "may neither write" in found.cause
        assert (await examine(connection, mode="auto", role="postgres")).writes
        assert not (await examine(await ours(connect, any_database), mode="auto", role="modest")).writes
        with capture_logs() as logged:
            assert not await prepare(connection, mode="auto", log=LOG)
        assert [(each["event"], each["log_level"]) for each in logged] == [("ledger_not_written", "warning")]

    async def test_without_plpgsql(self, any_database: str, connect: Connect) -> None:
        """A DO block needs the language, and would fail without it."""
        script(any_database, "drop extension plpgsql")
        assert not (await examine(await ours(connect, any_database), mode="auto")).writes


def foreign(make: str) -> str:
    """An older table of ours, and what makes it another's."""
    return f"{OLDER}; {make}"


FUNCTION = "create function f() returns text language plpgsql as $$ begin raise 'run'; end $$;"
FOREIGN = {
    "view": ("create schema headstart; create view headstart.ledger as select 1 as id", "no ordinary table"),
    "partitioned": (
        "create schema headstart; create table headstart.ledger (id int) partition by list (id)",
        "no ordinary table",
    ),
    "rule": (foreign("create rule r as on insert to headstart.ledger do also notify x"), "has rules"),
    "row security": (foreign("alter table headstart.ledger enable row level security"), "has row security"),
    "a parent": (foreign("create table p (); alter table headstart.ledger inherit p"), "no ordinary table"),
    "a child": (foreign("create table c () inherits (headstart.ledger)"), "no ordinary table"),
    "other columns": ("create schema headstart; create table headstart.ledger (id int)", "other columns"),
    "a domain": (
        foreign("create domain d as text; alter table headstart.ledger alter history type d"),
        "other columns: 'history",
    ),
    "another default": (foreign("alter table headstart.ledger alter at set default now()"), "other columns: 'at"),
    "a default of theirs": (
        foreign(f"{FUNCTION} alter table headstart.ledger alter role set default f()"),
        "calls functions",
    ),
    "a check of theirs": (foreign(f"{FUNCTION} alter table headstart.ledger add check (f() = 'x')"), "calls functions"),
    "an index of theirs": (
        foreign(
            "create function g(text) returns text language sql immutable as 'select $1';"
            "create index on headstart.ledger (g(run_id))"
        ),
        "calls functions",
    ),
    "a trigger": (
        foreign(
            "create function f() returns trigger language plpgsql as $$ begin raise 'run'; end $$;"
            "create trigger t before insert on headstart.ledger for each row execute function f()"
        ),
        "has triggers",
    ),
}


class TestForeign:
    """What stands in its place, and is not ours."""

    @pytest.mark.parametrize(("made", "cause"), FOREIGN.values(), ids=FOREIGN)
    async def test_shape(self, database: str, connect: Connect, made: str, cause: str) -> None:
        """A table that is not as we make it is not written; a view, say, is not read either."""
        script(database, made)
        connection = await ours(connect, database)
        found = await examine(connection, mode="auto")
        assert not found.writes
        assert cause in found.cause
        if cause in {"no ordinary table", "has rules", "has row security"}:
            assert cause in str(await ledger.unreadable(connection))
            assert await ledger.rows(connection, HISTORY) == []

    async def test_an_owner_who_is_not_trusted(self, any_server: Postgres, any_database: str, connect: Connect) -> None:
        """Whoever may make a schema can make ours before us: a superuser, too, leaves it alone, and never runs it."""
        make_role(any_server, "mallory", PASSWORD)
        script(any_database, f"grant create on database {name_of(any_database)} to mallory")
        theirs = with_password(any_database, PASSWORD, user="mallory")
        connection = await ours(connect, any_database)
        script(theirs, "create schema headstart; grant all on schema headstart to public")
        assert "schema headstart belongs to the role mallory" in (await examine(connection, mode="auto")).cause
        script(
            theirs,
            "create function headstart.f() returns text language plpgsql as $$ begin raise 'run'; end $$;"
            "create view headstart.ledger as select 1::bigint as id, headstart.f() as history;"
            "grant all on headstart.ledger to public",
        )
        for _ in ("view", "table"):
            found = await examine(connection, mode="auto")
            assert not found.writes
            assert "belongs to the role mallory" in found.cause
            assert await ledger.rows(connection, HISTORY) == []
            assert await ledger.applied(connection, HISTORY) == {}
            script(theirs, f"drop schema headstart cascade; {OLDER}; grant all on headstart.ledger to public")

    TRUST: ClassVar[dict[str, Callable[[str], str]]] = {
        "a member": lambda _: "grant mallory to migrating",
        "a member of a member": lambda _: "create role between; grant mallory to between; grant between to migrating",
        "the database's owner": lambda name: f"alter database {name} owner to mallory",
        "a superuser": lambda _: "alter role mallory superuser",
        "the version table's owner": lambda _: "alter table alembic_version owner to mallory",
    }

    @pytest.mark.parametrize("trust", TRUST.values(), ids=TRUST)
    async def test_whom_we_trust(
        self, any_server: Postgres, any_database: str, connect: Connect, trust: Callable[[str], str]
    ) -> None:
        """A role of ours, and whoever could change what we migrate anyway."""
        for role in ("mallory", "migrating"):
            script(any_server.url(), f"drop role if exists {role}")
            make_role(any_server, role, PASSWORD)
        script(any_server.url(), "drop role if exists between")
        script(
            any_database,
            f"{OLDER}; create index ledger_latest on headstart.ledger (history, revision, id);"
            "alter schema headstart owner to mallory; alter table headstart.ledger owner to mallory;"
            "grant usage on schema headstart to migrating; grant insert, select on headstart.ledger to migrating",
        )
        oid = await version_table(any_database)
        connection = await ours(connect, with_password(any_database, PASSWORD, user="migrating"))
        assert not (await examine(connection, mode="auto", version_table=oid)).writes
        script(any_database, trust(name_of(any_database)))
        assert (await examine(connection, mode="auto", version_table=oid)).writes
        for given in (oid, "alembic_version", "public.alembic_version"):
            assert await ledger.unreadable(connection, version_table=given) == ""
        assert await ledger.unreadable(connection, version_table="headstart.alembic_version") == (
            "" if trust is not self.TRUST["the version table's owner"] else ANOTHERS
        )


class TestReading:
    """What a no-op and `history` ask it."""

    async def test_the_index_is_used(self, database: str, connect: Connect) -> None:
        """Rows of other histories cost nothing: three revisions among 300,000 are found by the index."""
        connection = await ours(connect, database)
        await create(connection)
        script(
            database,
            "insert into headstart.ledger (history, action, revision, follows, sha256, run_id, host, headstart)"
            " select n || '.' || 'alembic_version', 'applied', 'r' || n, '{}', 'abc', 'run', 'host', '1'"
            " from generate_series(1, 300000) n",
        )
        script(
            database,
            "insert into headstart.ledger (history, action, revision, follows, sha256, run_id, host, headstart)"
            f" select '{HISTORY}', 'applied', 'r' || n, '{{}}', 'abc', 'run', 'host', '1' from generate_series(1, 3) n",
        )
        for query in (read._APPLIED, read._ENTRIES):
            for prepared in ("select 1", "analyze headstart.ledger"):
                await connection.execute(prepared)
                plan = await connection.fetch(f"explain {query.replace('$1', repr(HISTORY))}")
                text = "\n".join(row[0] for row in plan)
                assert "using ledger_latest" in text or "on ledger_latest" in text, text
                assert "Seq Scan" not in text, text
        assert await ledger.applied(connection, HISTORY) == {"r1": "abc", "r2": "abc", "r3": "abc"}

    async def test_the_last_of_each_revision_counts(self, database: str, connect: Connect) -> None:
        """Applied, reverted and applied again: what came last is so."""
        connection = await ours(connect, database)
        for action, revision in (("applied", "a1"), ("applied", "b2"), ("reverted", "b2"), ("stamped", None)):
            await connection.execute(";".join(writer().record(action, revision)))
        assert set(await ledger.entries(connection, HISTORY)) == {"a1"}
        await connection.execute(";".join(writer().record("applied", "b2")))
        assert set(await ledger.entries(connection, HISTORY)) == {"a1", "b2"}

    @pytest.mark.parametrize(
        "source",
        [
            pytest.param(b"no zlib", id="no zlib"),
            pytest.param(zlib.compress(b"x = 1")[:-3], id="cut off"),
            pytest.param(zlib.compress(b" " * (16 * 1024 * 1024 + 1)), id="too large"),
        ],
    )
    async def test_a_source_that_cannot_be_read(
        self, any_database: str, connect: Connect, tmp_path: Path, source: bytes
    ) -> None:
        """Nothing is claimed of it, least of all an edit."""
        connection = await ours(connect, any_database)
        await connection.execute(";".join(writer().record("applied", "a1")))
        psql(any_database, "update headstart.ledger set source = $1, sha256 = 'other'", source)
        assert await as_applied(connection, HISTORY, ["a1"]) == {"a1": None}
        path = tmp_path / "a1.py"
        path.write_text("x = 2")
        await require_unedited(connection, HISTORY, {"a1": str(path)}, {"a1": "other"}, ["a1"])
