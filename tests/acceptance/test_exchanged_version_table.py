"""A version table that somebody puts in another's place while a revision runs: Alembic does not get to write it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from acceptance.checks import Session, ended, make_role, running, with_password
from acceptance.test_leftovers import SYNC
from headstart.worker.place import Guard
from support.postgres import database_of, identifier, psql, script
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import Postgres
    from support.process import Headstart
    from support.project import Project

PASSWORD = "not a secret"
MADE = (
    "create table {0}.alembic_version (version_num varchar(32) primary key);"
    " insert into {0}.alembic_version values ('a1');"
)
# The superuser's preparation, the search path, what `low` does first, and the schema in which its table is then.
WAYS = {
    "the schema's owner": ("create schema app authorization low;", "app", "drop table app.alembic_version;", "app"),
    "an earlier schema": ("create schema app; grant create, usage on schema app to low;", "app, public", "", "app"),
    "a schema of one's name": (
        "grant create on database {} to low;",
        '"$user", public',
        "create schema postgres;",
        "postgres",
    ),
}
TRAP = """
create table {schema}.alembic_version (version_num varchar(32)); insert into {schema}.alembic_version values ('a1');
create function {schema}.pwn() returns trigger language plpgsql as
    $$ begin execute 'alter role low createrole'; return new; end $$;
create trigger t before insert or update on {schema}.alembic_version for each row execute function {schema}.pwn();
grant usage on schema {schema} to public; grant all on {schema}.alembic_version to public;
"""
UNHURRIED = {"HEADSTART_BACKUP": "off", "HEADSTART_TABLE_LOCK_TIMEOUT": "30s"}
HAS_PWNED = "select rolcreaterole from pg_roles where rolname = 'low'"


@pytest.fixture
def low(any_server: Postgres, any_database: str) -> Iterator[str]:
    """The database, as an ordinary role."""
    make_role(any_server, "low", PASSWORD)
    yield with_password(any_database, PASSWORD, user="low")
    script(any_database, "drop owned by low cascade; drop role low")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
@pytest.mark.parametrize("way", WAYS)
def test_while_a_revision_runs(
    way: str, driver: str, project: Project, begin_headstart: Callable[..., Headstart], any_database: str, low: str
) -> None:
    """It is refused; nothing of the stranger's is executed, and nothing of the revision stays.

    To drop the table, its schema's owner has to wait until Alembic's transaction in which it was read has ended: that
    of the first revision.
    """
    prepared, path, exchange, schema = WAYS[way]
    name = identifier(database_of(any_database))
    script(any_database, prepared.format(name) + f"alter database {name} set search_path = {path}")
    script(any_database, MADE.format("app" if path == "app" else "public"))
    if driver != "asyncpg":
        project.env.write_text(SYNC.format(driver=driver), encoding="utf-8")
    before = ["b1"] if "drop" in exchange else []
    for each in ["a1", *before]:
        project.revision(each, "select 1")
    project.revision("b2", "create table public.b (id int)", "select pg_advisory_xact_lock(7)")
    with Session(any_database) as gate:
        gate.execute("begin; select pg_advisory_xact_lock(7)")
        process = begin_headstart("up", url=any_database, env=UNHURRIED)
        eventually(lambda: running(any_database, "^select pg_advisory_xact_lock"), "the revision is at work")
        script(low, exchange + TRAP.format(schema=schema))
        gate.execute("commit")
    last = ended(process.finish(), 60 if before else 21)
    assert (last["failed"], last["applied"]) == ("b2", before)
    assert f'"{schema}"."alembic_version", whose owner is low' in last["error"]
    assert psql(any_database, "select to_regclass('public.b')") == [(None,)]
    assert psql(any_database, f"select version_num from {schema}.alembic_version") == [("a1",)]
    assert psql(any_database, HAS_PWNED) == [(False,)]
    script(any_database, f"update {schema}.alembic_version set version_num = 'b2'")
    assert psql(any_database, HAS_PWNED) == [(True,)]


PLAIN = "create schema app; create schema late;"
# What is granted -> whether somebody else may put another table in the place of app.alembic_version.
GRANTED = {
    "": False,
    "alter schema app owner to low": True,
    "alter schema app owner to pg_database_owner": False,
    "create schema early; grant create on schema early to low": True,
    "create schema early authorization low": True,
    "create schema early; grant usage on schema early to low": False,
    "grant create on schema app to low": False,
    "grant create on schema late to public": False,
    "alter schema late owner to low": False,
    "grant create on database {} to low": True,
    "alter table app.alembic_version owner to low": True,
}


@pytest.mark.parametrize("granted", GRANTED)
def test_who_may(granted: str, any_database: str, low: str) -> None:
    """A revision is followed by another look only where somebody may have exchanged the table meanwhile."""
    name = identifier(database_of(any_database))
    script(any_database, PLAIN + MADE.format("app"))
    script(any_database, f"alter database {name} set search_path = early, app, late; {granted.format(name)}")
    assert low
    engine = sa.create_engine(any_database.replace("postgresql:", "postgresql+psycopg2:"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        guard = Guard(writing=True)
        guard.look(context)
        step = SimpleNamespace(migration_fn=list)
        guard.watch_step(step, context)  # type: ignore[arg-type]
    assert (step.migration_fn is not list) is GRANTED[granted]


def test_a_trigger_comes_too_late(any_database: str, low: str) -> None:
    """From the look to the commit nobody puts a trigger on a table that might be exchanged."""
    script(any_database, PLAIN + MADE.format("app") + "alter schema app owner to low")
    script(any_database, "grant all on app.alembic_version to low")
    script(low, "create function app.f() returns trigger language plpgsql as $$ begin return new; end $$")
    trigger = "create trigger t before update on app.alembic_version for each row execute function app.f()"
    engine = sa.create_engine(any_database.replace("postgresql:", "postgresql+psycopg2:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": "app"})
        Guard(writing=True).look(context)
        with pytest.raises(asyncpg.LockNotAvailableError):
            script(low, f"set lock_timeout = '100ms'; {trigger}")
    script(low, trigger)
