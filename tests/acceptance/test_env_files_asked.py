"""An env.py that writes beside the migrations leaves it once, where they are run; to ask it leaves nothing."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.env_files import HEAD, EnvFile, built, left_behind
from support.postgres import psql, script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunHeadstart
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
