"""A version table that another role made is refused before Alembic reads or writes it, by every verb and env.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended
from support.environments import MIGRATE, SYNC, environment
from support.postgres import psql, script
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunHeadstart, StartHeadstart

# What no rollback takes back.
CODE = """
create sequence public.harm;
grant usage on sequence public.harm to public;
create function public.pwn() returns text language sql volatile as $$
    select 'a1' || left(nextval('public.harm')::text, 0) $$;
create function public.pwn_row() returns trigger language plpgsql as $$
    begin perform public.pwn(); return new; end $$;
create function public.pwn_check(text) returns bool language sql as $$ select public.pwn() is not null $$;
alter function public.pwn() owner to low;
alter function public.pwn_row() owner to low;
alter function public.pwn_check(text) owner to low;
"""
NAMED = "alembic_version (version_num varchar(32) primary key)"
TABLE = f"create table public.{NAMED}"
VIEW = "create view public.alembic_version as select public.pwn() as version_num"
TRIGGER, EACH = (
    "create trigger t before insert or update or delete on",
    "for each row execute function public.pwn_row()",
)
DOMAIN = "create domain revision as varchar(32); alter domain revision owner to low"
CAST = """
create type app.code as (text text);
create function app.to_text(app.code) returns text language sql as 'select public.pwn()';
create cast (app.code as text) with function app.to_text;
create table app.alembic_version (version_num app.code);
insert into app.alembic_version values (row('a1'));
"""

ENV = """
url = URL.replace("postgresql:", "postgresql+{driver}:")
with create_engine(url, {engine}).connect() as connection:
    {before}
    context.configure(connection=connection, {arguments})
    with context.begin_transaction():
        {run}
"""


def env_py(
    *,
    driver: str = "psycopg2",
    engine: str = "poolclass=pool.NullPool",
    before: str = "pass",
    arguments: str = "target_metadata=sa.MetaData(), version_table='_'.join(['alembic', 'version'])",
    run: str = "context.run_migrations()",
) -> str:
    """An env.py that takes its URL from the environment and computes, so that it has to be asked."""
    return ENV.format(driver=driver, engine=engine, before=before, arguments=arguments, run=run)


ASKED = env_py()
WAYS = {
    "by the files": MIGRATE.replace("connection=connection", "connection, target_metadata=sa.MetaData()") + SYNC,
    "by env.py": ASKED,
    "psycopg": env_py(driver="psycopg"),
    "asyncpg": MIGRATE
    + """
async def main():
    async with create_async_engine(URL.replace("postgresql:", "postgresql+asyncpg:")).connect() as connection:
        await connection.run_sync(migrate)

asyncio.run(main())
""",
    "autocommit": env_py(engine="isolation_level='AUTOCOMMIT'"),
    "its own reading": env_py(run="context.get_context().get_current_revision(); context.run_migrations()"),
    "the migrations of Alembic's own context": env_py(run="context.get_context().run_migrations()"),
    "an error that is passed over": env_py(
        run="try:\n            context.run_migrations()\n        except Exception:\n            pass"
    ),
    "another schema": env_py(arguments="version_table_schema='pub' + 'lic'"),
    "a translated schema": env_py(
        before="connection = connection.execution_options(schema_translate_map={'app': 'public'})",
        arguments="version_table_schema='app'",
    ),
    "a search path that is set later": env_py(
        before="connection.execute(text('set search_path = pg_catalog')); connection.commit()",
        run="context.execute('set local search_path = public'); context.run_migrations()",
    ),
}
VERBS = [
    ["up"],
    ["status"],
    ["wait", "--for", "head"],
    ["doctor"],
    ["current"],
    ["history", "-i"],
    ["history", "-r", "current:"],
    ["show", "current"],
    ["upgrade", "head"],
    ["downgrade", "base"],
    ["stamp", "a1"],
    ["stamp", "--purge", "a1"],
    ["revision", "--autogenerate", "-m", "more"],
]
WRITERS = [["up"], ["upgrade", "head"], ["downgrade", "base"], ["stamp", "b2"], ["stamp", "--purge", "b2"]]


@pytest.fixture
def url(any_database: str) -> Iterator[str]:
    """A database in which the role `low`, which is nobody's member, may make things."""
    script(any_database, "create role low; grant create, usage on schema public to low")
    script(any_database, CODE)
    yield any_database
    script(any_database, "drop owned by low cascade; drop role low")


def by_low(url: str, sql: str) -> None:
    """Make something as the role `low`."""
    script(url, f"set role low; {sql}")


def executed(url: str) -> bool:
    """Whether the functions of `low` have been called by anybody."""
    return bool(psql(url, "select is_called from public.harm")[0][0])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("way", ["by the files", "by env.py"])
def test_no_verb_reads_a_view(way: str, verb: list[str], url: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Each verb that lets Alembic read the version table refuses a view in its place, in the same words."""
    by_low(url, VIEW)
    project = environment(tmp_path / "app", WAYS[way])
    run = run_headstart(*verb, url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    last = ended(run, 21)
    assert last["error"] == (
        'the version table "public"."alembic_version" cannot be trusted: it is not an ordinary table,'
        " and its owner is low"
    )
    assert "drop it" in last["hint"]
    assert not executed(url)
    if verb == ["status"]:
        assert bool(run.events("alembic_decides")) is (way == "by env.py")


@pytest.mark.parametrize("way", WAYS)
def test_no_env_py_reads_a_view(way: str, url: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """However env.py leads Alembic to its version table, that is looked at before."""
    by_low(url, VIEW)
    project = environment(tmp_path / "app", WAYS[way])
    for verb in (["current"], ["status"], ["up"]):
        last = ended(run_headstart(*verb, url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"}), 21)
        assert "is not an ordinary table" in last["error"]
        assert not executed(url)


@pytest.mark.parametrize("way", ["by the files", "by env.py", "psycopg", "asyncpg"])
def test_a_table_that_is_exchanged(
    way: str, url: str, tmp_path: Path, run_headstart: RunHeadstart, start_headstart: StartHeadstart
) -> None:
    """A table that may be read, and that its owner exchanges for a view when it has been looked at, is not read."""
    by_low(url, f"{TABLE}; insert into alembic_version values ('a1')")
    project = environment(tmp_path / "app", WAYS[way])
    with Session(url) as low:
        low.execute(f"set role low; begin; alter table alembic_version rename to other; {VIEW}")
        run = start_headstart("status", url=url, cwd=project.folder)
        waits = "select 1 from pg_locks where not granted and relation = 'alembic_version'::regclass"
        eventually(lambda: psql(url, waits), what="the read")
        low.execute("commit")
        assert ended(run.finish(), 21)["error"].startswith("the version table")
    assert not executed(url)


@pytest.mark.parametrize("verb", [["current"], ["status"], *WRITERS], ids=" ".join)
def test_a_function_is_no_column(verb: list[str], url: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """`alembic_version.version_num` would call a function of that name, where the table has no such column."""
    by_low(url, "create table alembic_version (other text); insert into alembic_version values ('a1')")
    by_low(url, "create function version_num(alembic_version) returns text language sql as 'select public.pwn()'")
    project = environment(tmp_path / "app", ASKED)
    last = ended(run_headstart(*verb, url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"}), 10)
    assert "has no column version_num of text" in last["error"]
    assert not executed(url)


@pytest.mark.parametrize("verb", WRITERS, ids=" ".join)
@pytest.mark.parametrize(
    ("ours", "theirs", "cause"),
    [
        (
            f"{TABLE}; grant trigger on alembic_version to low",
            f"{TRIGGER} alembic_version {EACH}",
            "pwn_row()",
        ),
        (
            f"{TABLE}; create table child () inherits (alembic_version); grant trigger on child to low",
            f"{TRIGGER} child {EACH}",
            "pwn_row()",
        ),
        (
            f"{TABLE}; alter table alembic_version add constraint c check (pwn_check(version_num))",
            "",
            "pwn_check(text)",
        ),
        (f"{TABLE}; alter table alembic_version add more text default pwn()", "", "pwn()"),
        (
            f"{DOMAIN}; create table alembic_version (version_num revision primary key)",
            "alter domain revision add constraint c check (pwn_check(value))",
            "pwn_check(text)",
        ),
        ("", f"{TABLE}; {TRIGGER} alembic_version {EACH}", "pwn_row()"),
    ],
    ids=["a trigger", "a trigger on a child", "a constraint", "a default", "a domain", "all of it is another role's"],
)
def test_nothing_is_written(
    ours: str, theirs: str, cause: str, verb: list[str], url: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """A table on which a write would execute another role's code is not written, whoever owns it."""
    script(url, ours or "select")
    by_low(url, theirs)
    script(url, "insert into alembic_version values ('a1'); alter sequence harm restart")
    project = environment(tmp_path / "app", ASKED)
    last = ended(run_headstart(*verb, url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"}), 21)
    assert f"would execute code of another role: function public.{cause} of low" in last["error"]
    assert not executed(url)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("types", [("varchar", "varchar"), ("name", "varchar"), ("varchar", "int")], ids=str)
def test_an_operator_on_the_search_path(
    types: tuple[str, str], way: str, url: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """What Alembic's and SQLAlchemy's `=` would take for Postgres' own is refused before anything is written."""
    left, right = types
    by_low(
        url,
        f"create function public.same({left}, {right}) returns bool language sql as 'select public.pwn() is not null';"
        f" create operator public.= (leftarg = {left}, rightarg = {right}, function = public.same)",
    )
    script(url, f"{TABLE}; insert into alembic_version values ('a1'); alter sequence harm restart")
    project = environment(tmp_path / "app", WAYS[way])
    last = ended(run_headstart("up", url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"}), 21)
    assert f"operator =({left}".replace("varchar", "character varying") in last["error"].replace("public.", "")
    assert not executed(url)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("verb", ["status", "up"])
@pytest.mark.parametrize(
    ("sql", "codes"),
    [
        ("create view app.alembic_version as select pwn() as version_num", {"status": 21, "up": 21}),
        (CAST, {"status": 10, "up": 10}),
        (f"create table app.{NAMED}; {TRIGGER} app.alembic_version {EACH}", {"status": 0, "up": 21}),
    ],
    ids=["a view", "a type", "a trigger"],
)
def test_tenants(
    sql: str, codes: dict[str, int], verb: str, asked: bool, url: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """In a tenant's own schema it is the same, also where all of them are looked at together."""
    script(url, "create schema app authorization low")
    by_low(url, sql)
    project = environment(tmp_path / "app", ASKED if asked else WAYS["by the files"])
    (project.folder / "tenants.txt").write_text("app\n", encoding="utf-8")
    env = {"HEADSTART_BACKUP": "off", "HEADSTART_TENANTS_FILE": "tenants.txt"}
    run = run_headstart("tenants", verb, url=url, cwd=project.folder, env=env)
    assert run.code == codes[verb], run
    assert not executed(url)
