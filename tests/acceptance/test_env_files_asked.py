"""An env.py that writes beside the migrations leaves it once, where they are run; to ask it leaves nothing."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.env_files import HEAD, EnvFile, built, left_behind
from support.postgres import psql, script
from support.process import alembic, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres
    from support.process import Run

OFF = {"HEADSTART_BACKUP": "off"}
LOG = "create table runs (at int)"
INSERT = "text('insert into runs values (1)')"

BEFORE = f"""\
engine = create_engine(address("{{driver}}"))
with engine.begin() as connection:
    connection.execute({INSERT})
with engine.connect() as connection:
    migrate(connection)
"""
ASYNCHRONOUS = f"""\
async def main():
    engine = create_async_engine(address("asyncpg"))
    async with engine.begin() as connection:
        await connection.execute({INSERT})
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(main())
"""
SAME = f"""\
with create_engine(address("{{driver}}")).connect() as connection:
    connection.execute({INSERT})
    connection.commit()
    migrate(connection)
"""
AFTER = f"""\
engine = create_engine(address("{{driver}}"))
with engine.connect() as connection:
    migrate(connection)
with engine.begin() as connection:
    connection.execute({INSERT})
"""
INSIDE = f"""\
with create_engine(address("{{driver}}")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
        connection.execute({INSERT})
"""
ORM = """\
from sqlalchemy.orm import Session

engine = create_engine(address("{driver}"))
with Session(engine) as session:
    session.execute(text("insert into runs values (1)"))
    session.commit()
with engine.connect() as connection:
    migrate(connection)
"""
WRITES = {
    **{
        f"{name}, {driver}": text.format(driver=driver)
        for driver in ("psycopg2", "psycopg")
        for name, text in {"before": BEFORE, "same": SAME, "after": AFTER, "inside": INSIDE, "orm": ORM}.items()
    },
    "before, asyncpg": ASYNCHRONOUS,
}


@pytest.mark.parametrize("way", WRITES)
def test_writes_once(way: str, any_database: str, tmp_path: Path, headstart: Callable[..., Run]) -> None:
    """Only the run of env.py that migrates leaves what it writes; a backup that fails comes before it."""
    project = built(tmp_path / "project", EnvFile(HEAD + WRITES[way]))
    script(any_database, LOG)
    run = partial(headstart, url=any_database, cwd=project.folder)
    soon = {**OFF, "HEADSTART_WAIT_TIMEOUT": "1s"}
    blocked = tmp_path / "a file"
    blocked.write_text("", encoding="utf-8")
    assert json.loads(run("status", "--json").stdout)["pending"] == ["a1", "b2", "c3"]
    assert run("wait", "--for", "head", env=soon).code == 20
    assert run("current").code == 0
    ended(run("up", env={"HEADSTART_BACKUP": "always", "HEADSTART_BACKUP_DIR": str(blocked)}), 40)
    assert psql(any_database, "select count(*) from runs") == [(0,)]
    assert ended(run("up", env=OFF), 0)["applied"] == ["a1", "b2", "c3"]
    assert psql(any_database, "select count(*) from runs") == [(1,)]
    before = left_behind(any_database)
    assert ended(run("up", env=OFF), 0)["applied"] == []
    status = json.loads(run("status", "--exit-code", "--json").stdout)
    assert (status["revision"], status["pending"]) == ("c3", [])
    assert run("wait", "--for", "head", env=soon).code == 0
    assert run("current").stdout.split() == ["c3", "(head)"]
    assert left_behind(any_database) == before


def test_another_s_version_table(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that writes first is asked where its version table is: one of that name may be another project's."""
    project = built(tmp_path / "project", EnvFile(HEAD + SAME.format(driver="psycopg2")))
    script(
        any_database,
        f"{LOG}; create schema other; create table other.alembic_version (version_num text);"
        " insert into other.alembic_version values ('c3')",
    )
    looked = run_headstart("status", "--json", url=any_database, cwd=project.folder)
    assert json.loads(looked.stdout)["pending"] == ["a1", "b2", "c3"]


INSISTS = {
    "AUTOCOMMIT": f"""\
with create_engine(address("psycopg2"), isolation_level="AUTOCOMMIT").connect() as connection:
    connection.execute({INSERT})
""",
    "a COMMIT of its own": f"""\
with create_engine(address("psycopg2")).connect() as connection:
    connection.execute({INSERT})
    connection.execute(text("commit"))
""",
    "reads it elsewhere": f"""\
engine = create_engine(address("psycopg2"))
with engine.begin() as connection:
    connection.execute({INSERT})
with engine.connect() as connection:
    assert connection.scalar(text("select count(*) from runs")) > 0
""",
    "waits for itself": """\
engine = create_engine(address("psycopg2"), poolclass=pool.NullPool)
first, second = engine.connect(), engine.connect()
first.execute(text("lock table runs; insert into runs values (1)"))
first.commit()
second.execute(text("insert into runs values (1)"))
second.commit()
first.close()
second.close()
""",
}
MIGRATES = """\
with create_engine(address("psycopg2")).connect() as connection:
    migrate(connection)
"""


@pytest.mark.parametrize("way", INSISTS)
def test_insists_on_committing(way: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """What cannot be asked without its committing something is asked under the lock, and said to write."""
    project = built(tmp_path / "project", EnvFile(HEAD + INSISTS[way] + MIGRATES))
    script(any_database, LOG)
    run = partial(
        run_headstart, url=any_database, cwd=project.folder, env={**OFF, "HEADSTART_TABLE_LOCK_TIMEOUT": "1s"}
    )
    assert json.loads(run("status", "--json").stdout)["pending"] == ["a1", "b2", "c3"]
    assert psql(any_database, "select count(*) from runs") == [(0,)]
    first = run("up")
    assert ended(first, 0)["applied"] == ["a1", "b2", "c3"]
    assert len(first.events("env_writes")) == 1, first
    assert ended(run("up"), 0)["applied"] == []
    rows = psql(any_database, "select count(*) from runs")
    code = 0 if way == "reads it elsewhere" else 10  # by now there is something to read
    for verb in (("status",), ("wait", "--for", "head")):
        looked = run(*verb)
        assert (looked.code, "version_table_schema" in looked.stderr) == (code, code == 10), looked
    assert psql(any_database, "select count(*) from runs") == rows


FIRST = "create table account (id serial primary key, name text)"  # as a1 makes it
BRIDGED = """\
with create_engine(address("psycopg2")).connect() as connection:
    connection.execute(text("update alembic_version set version_num = 'a1' where version_num = 'old'"))
    connection.commit()
    migrate(connection)
"""
ADOPTED = """\
with create_engine(address("psycopg2")).connect() as connection:
    connection.execute(text("create table if not exists alembic_version (version_num varchar(32) not null)"))
    connection.execute(text("insert into alembic_version select 'a1' where not exists (select from alembic_version)"))
    connection.commit()
    migrate(connection)
"""
REGISTERED = """\
engine = create_engine(address("psycopg2"), poolclass=pool.NullPool)
with engine.begin() as connection:
    connection.execute(text("create table if not exists registry (name text)"))
    connection.execute(text("insert into registry select 'public' where not exists (select from registry)"))
with engine.connect() as other:
    found = other.execute(text("select to_regclass('registry')")).scalar()
    names = other.execute(text("select name from registry")).scalars().all() if found else []
for _ in names:
    with engine.connect() as connection:
        migrate(connection)
"""
WAITING = """\
engine = create_engine(address("psycopg2"), poolclass=pool.NullPool)
with engine.connect() as one, engine.connect() as other:
    one.execute(text("create schema if not exists made"))
    one.commit()
    other.execute(text("set lock_timeout = 0"))
    other.execute(text("create schema if not exists made"))
    other.commit()
    migrate(other)
"""


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (BRIDGED, "create table alembic_version (version_num varchar(32)); insert into alembic_version values ('old')"),
        (ADOPTED, "select"),
        (REGISTERED, "select"),
        (WAITING, "select"),
    ],
    ids=["it writes the version", "it makes the version table", "it reads what it has written", "it waits for itself"],
)
def test_what_has_to_be_committed(
    text: str, before: str, any_database: str, any_server: Postgres, tmp_path: Path, headstart: Callable[..., Run]
) -> None:
    """An env.py that needs what it has committed is asked under the lock, where it may; the end is Alembic's."""
    project = built(tmp_path / "project", EnvFile(HEAD + text))
    twin = any_server.create_database()
    for url in (any_database, twin):
        script(url, before)
        script(url, FIRST if "'a1'" in text else "select")
    environ = environment(tmp_path, {"DATABASE_URL": twin})
    assert alembic("upgrade", "head", env=environ, cwd=project.folder).code == 0
    last = ended(headstart("up", url=any_database, cwd=project.folder, env=OFF), 0)
    assert last["revision_after"] == "c3"
    assert left_behind(any_database) == left_behind(twin)
    ended(headstart("up", url=any_database, cwd=project.folder, env=OFF), 0)
    any_server.drop_database(twin)


def test_an_engine_of_its_own_making(any_database: str, tmp_path: Path, headstart: Callable[..., Run]) -> None:
    """A driver that is missing is named, also where a function of the project's has the name of SQLAlchemy's."""
    text = (
        "import sqlalchemy\n\n\ndef create_engine(place):\n    return sqlalchemy.create_engine(place)\n\n\n"
        'with create_engine(address("pg8000")).connect() as connection:\n    migrate(connection)\n'
    )
    project = built(tmp_path / "project", EnvFile(HEAD + text))
    last = ended(headstart("up", url=any_database, cwd=project.folder, env=OFF), 10)
    assert "pip install" in last["hint"]
