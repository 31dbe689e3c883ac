"""Whatever env.py is like, `up` leaves what `alembic upgrade head` leaves, and the other verbs agree with it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.dialects import postgresql

from support import process
from support.env_files import ENV_FILES, EnvFile, built, left_behind, prepared
from support.postgres import database_of, psql
from support.process import environment
from support.project import Project, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres
    from support.process import Run


@pytest.fixture
def twins(any_server: Postgres) -> Iterator[tuple[str, str]]:
    """The URLs of two databases that are alike: for Alembic, and for Headstart."""
    template = prepared(any_server)
    urls = any_server.create_database(template=template), any_server.create_database(template=template)
    yield urls
    for url in urls:
        any_server.drop_database(url)


@pytest.fixture(params=ENV_FILES)
def env_file(request: pytest.FixtureRequest) -> EnvFile:
    """Each env.py in turn."""
    return ENV_FILES[request.param]


def test_up(env_file: EnvFile, twins: tuple[str, str], tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """The same relations, owners and rows as with Alembic; then `up` has nothing to do, `status` and `wait` agree."""
    alembics, ours = twins
    project = built(tmp_path / "project", env_file)
    run = partial(succeeds, run_headstart, project, ours)
    alembic(project, env_file, alembics, "upgrade", "head")
    at_head(alembics, env_file)
    expected = left_behind(alembics)

    first = run("up")
    assert left_behind(ours) == expected, first
    assert (first.stdout, first.last["applied"]) == ("", ["a1", "b2", "c3"]), first
    assert set(env_file.prints) <= {line["message"] for line in first.events("script_output")}, first

    again = run("up")
    assert (again.last["applied"], again.last["revision_after"]) == ([], "c3"), again
    status = json.loads(run("status", "--exit-code", "--json").stdout)
    assert status["pending"] == [], status
    run("wait", "--for", "head")
    assert left_behind(ours) == expected, "what only looks has changed something"


def test_down(
    env_file: EnvFile, twins: tuple[str, str], any_server: Postgres, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """A database that Alembic has brought to head goes one revision down as with Alembic."""
    alembics, _ = twins
    project = built(tmp_path / "project", env_file)
    alembic(project, env_file, alembics, "upgrade", "head")
    ours = any_server.create_database(template=database_of(alembics))
    alembic(project, env_file, alembics, "downgrade", "-1")
    done = succeeds(run_headstart, project, ours, "downgrade", "-1")
    assert left_behind(ours) == left_behind(alembics), done
    assert recorded(ours, f"{env_file.schema}.alembic_version") == ["b2"]
    any_server.drop_database(ours)


WRITES = """\
import os
from alembic import context
from sqlalchemy import create_engine, text

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
with create_engine(url).connect() as connection:
    connection.execute(text("create schema if not exists app"))
    connection.commit()
    context.configure(connection=connection, version_table="app's versions"{more})
    with context.begin_transaction():
        context.run_migrations()
"""


def test_env_py_writes_first(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """What must not write cannot ask an env.py that writes on every run: what stands in it tells what is recorded."""
    project = built(tmp_path / "project", EnvFile(WRITES.format(more=', version_table_schema="app"')))
    run = partial(succeeds, run_headstart, project, any_database)
    assert json.loads(run("status", "--json").stdout)["pending"] == ["a1", "b2", "c3"]
    assert psql(any_database, "select to_regnamespace('app') is null") == [(True,)], "what only looks writes nothing"
    run("up")
    assert run("up").last["applied"] == []
    status = json.loads(run("status", "--exit-code", "--json").stdout)
    assert (status["revision"], status["pending"]) == ("c3", [])
    assert run("current").stdout.split() == ["c3", "(head)"]
    run("wait", "--for", "head")


PRESENT = {
    "schema": 'create schema if not exists "App" authorization current_user',
    "extension": "/* once */ CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog",
    "table": "create table if not exists audit (at text); create sequence if not exists public.numbers",
}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
@pytest.mark.parametrize("statement", PRESENT.values(), ids=PRESENT)
def test_env_py_creates_what_is_there(
    statement: str, driver: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """CREATE ... IF NOT EXISTS of what is there is no write, so such an env.py can be asked."""
    project = built(tmp_path / "project", EnvFile(CREATES[driver].format(statement=statement)))
    run = partial(succeeds, run_headstart, project, any_database)
    assert json.loads(run("status", "--json").stdout)["pending"] == ["a1", "b2", "c3"]
    early = run_headstart(
        *("wait", "--for", "head"), url=any_database, cwd=project.folder, env={"HEADSTART_WAIT_TIMEOUT": "1s"}
    )
    assert early.code == 20, early
    run("up")
    before = left_behind(any_database)
    status = json.loads(run("status", "--exit-code", "--json").stdout)
    assert (status["revision"], status["pending"]) == ("c3", [])
    assert run("current").stdout.split() == ["c3", "(head)"]
    run("wait", "--for", "head")
    assert run("up").last["applied"] == []
    assert left_behind(any_database) == before


CREATES = {
    driver: f"""\
import os
from alembic import context
from sqlalchemy import create_engine, text

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+{driver}:")
with create_engine(url).connect() as connection:
    connection.execute(text({{statement!r}}))
    connection.commit()
    context.configure(connection=connection, version_table_schema=connection.dialect.default_schema_name)
    with context.begin_transaction():
        context.run_migrations()
"""
    for driver in ("psycopg", "psycopg2")
} | {
    "asyncpg": """\
import asyncio, os
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        await connection.exec_driver_sql({statement!r})
        await connection.commit()
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(main())
"""
}


BY_THE_DRIVER = {
    "cursor": "raw = connection.connection.cursor(); raw.execute({statement!r}); connection.commit()",
    "raw connection": "raw = engine.raw_connection(); raw.cursor().execute({statement!r}); raw.commit(); raw.close()",
}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("line", BY_THE_DRIVER.values(), ids=BY_THE_DRIVER)
def test_env_py_writes_by_the_driver(
    line: str, driver: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """What env.py writes on the driver's own connection is a write too: it is asked under the lock."""
    env_file = CREATES[driver].replace(
        "with create_engine(url).connect()", "engine = create_engine(url)\nwith engine.connect()"
    )
    env_file = env_file.replace("connection.execute(text({statement!r}))\n    connection.commit()", line)
    project = built(tmp_path / "project", EnvFile(env_file.format(statement="create schema if not exists app")))
    run = partial(succeeds, run_headstart, project, any_database)
    assert run("up").last["revision_after"] == "c3"
    assert run("up").last["applied"] == []


PATHS = """\
import os
from alembic import context
from sqlalchemy import create_engine

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
with create_engine(url).{connects}() as connection:
    context.configure(connection=connection{more})
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(
    ("connects", "more", "by_alembic", "ours"),
    [
        ("connect", "", "other", "public"),
        ("connect", ", transaction_per_migration=True", "public", "public"),
        ("begin", "", "other", "other"),
    ],
    ids=["as a template", "one each", "env.py's own"],
)
def test_set_local(
    connects: str,
    more: str,
    by_alembic: str,
    ours: str,
    any_server: Postgres,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """SET LOCAL ends with the transaction: that of the revision, unless env.py holds one around all of them."""
    env_file = EnvFile(PATHS.format(connects=connects, more=more))
    project = Project(tmp_path / "project", template="generic")
    project.env.write_text(env_file.text, encoding="utf-8")
    project.revision("a1", "create schema other", "set local search_path to other, public")
    project.revision("b2", "create table t (id int)")
    schemas = {}
    for runner in ("alembic", "headstart"):
        url = any_server.create_database()
        if runner == "alembic":
            alembic(project, env_file, url, "upgrade", "head")
        else:
            succeeds(run_headstart, project, url, "up")
        [(schemas[runner],)] = psql(url, "select schemaname::text from pg_tables where tablename = 't'")
    assert schemas == {"alembic": by_alembic, "headstart": ours}


@pytest.mark.parametrize("template", ["generic", "async"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
@pytest.mark.parametrize("where", ["alembic.ini", "DATABASE_URL"])
def test_the_driver_that_is_named(
    where: str, driver: str, template: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """An engine of the configuration has the driver that its user names, where that fits the engine."""
    project = Project(tmp_path / "project", template=template)
    url = any_database.replace("postgresql:", f"postgresql+{driver}:")
    if where == "alembic.ini":
        text = project.ini.read_text(encoding="utf-8")
        named = f"postgresql+{driver}://app@db/app"
        project.ini.write_text(text.replace("driver://user:pass@localhost/dbname", named), encoding="utf-8")
        url = any_database
    project.revision("a1", body="print('driver', op.get_bind().dialect.driver)")
    fits = (driver != "asyncpg") if template == "generic" else (driver != "psycopg2")
    run = succeeds(run_headstart, project, url, "up")
    [used] = [line["message"] for line in run.events("script_output") if line["message"].startswith("driver")]
    default = "asyncpg" if template == "async" else postgresql.dialect.driver
    assert used.removesuffix("_async") == f"driver {driver if fits else default}"


def succeeds(run_headstart: RunHeadstart, project: Project, url: str, *words: str) -> Run:
    """Run headstart, and see that it exits with 0 and that its log has nothing but JSON lines."""
    done = run_headstart(*words, url=url, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert done.code == 0, done
    assert len(done.log) == len(done.stderr.splitlines()), done
    return done


def alembic(project: Project, env_file: EnvFile, url: str, *words: str) -> None:
    """Run Alembic's own command, with what its user would have in alembic.ini."""
    placeholder = "driver://user:pass@localhost/dbname"
    ini = project.ini.read_text(encoding="utf-8")
    assert placeholder in ini
    own = project.folder / "alembic-own.ini"
    address = url.replace("postgresql:", f"postgresql+{env_file.driver}:", 1).replace("%", "%%")
    own.write_text(ini.replace(placeholder, address), encoding="utf-8")
    done = process.alembic(
        *("--config", str(own)), *words, cwd=project.folder, env=environment(project.folder, {"DATABASE_URL": url})
    )
    assert done.code == 0, done
    own.unlink()


def at_head(url: str, env_file: EnvFile) -> None:
    """See that Alembic itself has done what this env.py is about: otherwise nothing is compared with nothing."""
    names = ("account", "alembic_version", "entry")
    owners = {(schema, name): owner for schema, name, _, owner, _ in left_behind(url).relations if name in names}
    assert owners == dict.fromkeys([(env_file.schema, name) for name in names], env_file.owner)
    assert recorded(url, f"{env_file.schema}.alembic_version") == ["c3"]
