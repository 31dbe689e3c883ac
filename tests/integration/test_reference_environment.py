"""An env.py of three lines: `headstart.environment.configure`, under Alembic's own command and under Headstart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import headstart
from headstart.postgres.connection import ScriptConnection
from support.postgres import database_of, psql, script
from support.project import Project, recorded
from support.reference import COMPARES_CHECKS, INI, ROOT, clone, history

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres

ENV = """
import sqlalchemy as sa
from headstart import environment

metadata = sa.MetaData()
sa.Table("a", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.CheckConstraint("id > 0", name="a_positive"))
sa.Table("b", metadata, sa.Column("id", sa.Integer), schema="Other Side")
sa.Table("c", metadata, sa.Column("at", sa.Date))
environment.configure(metadata{options})
"""
TABLES = """
create schema "Other Side";
create table a (id serial primary key, constraint a_positive check (id > 0));
create table "Other Side".b (id int);
create table c (at date) partition by range (at);
create table c_2025 partition of c for values from ('2025-01-01') to ('2026-01-01');
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose env.py calls the helper, with one revision of several statements."""
    project = Project(tmp_path)
    project.env.write_text(ENV.format(options=""), encoding="utf-8")
    project.revision("a1", TABLES, undo=['drop table a, c, "Other Side".b; drop schema "Other Side"'])
    return project


def stock(project: Project, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the stock command in the project's folder."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "PG", "HEADSTART_"))
    }
    argv = [sys.executable, "-m", "alembic", *args]
    return subprocess.run(
        argv, cwd=project.folder, env={**clean, **env}, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_reference_project_has_three_lines() -> None:
    """What env.py holds beside its docstring is two imports and one call."""
    text = (ROOT / "migrations" / "env.py").read_text(encoding="utf-8")
    lines = [line for line in text.partition('"""\n')[2].splitlines() if line]
    assert lines == [
        "from headstart import environment",
        "from migrations.schema import metadata",
        "environment.configure(metadata)",
    ]


@pytest.mark.parametrize("variable", ["DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_URL_FILE", "PG"])
def test_any_address(project: Project, any_server: Postgres, any_database: str, tmp_path: Path, variable: str) -> None:
    """Stock Alembic finds the database by each variable that Headstart reads, over a socket too, and up and down."""
    file = tmp_path / "url"
    file.write_text(any_database, encoding="utf-8")
    socket = any_server.url(database_of(any_database), unix=True)
    env = {
        "DATABASE_URL": {"DATABASE_URL": socket.replace("postgresql:", "postgres:")},
        "DATABASE_DIRECT_URL": {
            "DATABASE_DIRECT_URL": any_database,
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        },
        "DATABASE_URL_FILE": {"DATABASE_URL_FILE": str(file)},
        "PG": {"PGSERVICE": "here", "PGSERVICEFILE": str(tmp_path / "service")},
    }[variable]
    (tmp_path / "service").write_text(service(any_database), encoding="utf-8")
    for args, found in ((("upgrade", "head"), ["a1"]), (("downgrade", "base"), []), (("upgrade", "head"), ["a1"])):
        done = stock(project, *args, **env)
        assert done.returncode == 0, done.stderr
        assert recorded(any_database) == found


def service(url: str) -> str:
    """Give a service file for a URL."""
    parts = sa.make_url(url)
    return (
        f"[here]\nhost={parts.host}\nport={parts.port}\ndbname={parts.database}\n"
        f"user={parts.username}\npassword={parts.password}\n"
    )


@pytest.mark.parametrize(("env", "said"), [({}, "DATABASE_URL"), ({"DATABASE_URL": "mysql://me:secret@h/d"}, "mysql")])
def test_an_address_that_is_none(project: Project, env: dict[str, str], said: str) -> None:
    """Without an address, or with one of another kind, there is one line that says so, without traceback or secret."""
    done = stock(project, "current", **env)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert said in text
    assert "Traceback" not in text
    assert "secret" not in text


def test_offline(project: Project) -> None:
    """SQL is written without an address, one transaction a revision, and a per cent sign stays one."""
    project.revision("b2", "insert into a values (7 % 4)", undo=["delete from a"])
    done = stock(project, "upgrade", "head", "--sql")
    assert done.returncode == 0, done.stderr
    assert "7 % 4" in done.stdout
    assert done.stdout.count("COMMIT;") == 2


def test_a_transaction_for_each_revision(project: Project, any_database: str) -> None:
    """What precedes a revision that fails stays, and is recorded."""
    project.revision("b2", "create table late (id int)", "select 1 / 0")
    done = stock(project, "upgrade", "head", DATABASE_URL=any_database)
    assert done.returncode != 0
    assert (recorded(any_database), psql(any_database, "select to_regclass('late')")) == (["a1"], [(None,)])


def test_under_headstart(project: Project, run_headstart: RunHeadstart, any_database: str) -> None:
    """Headstart gives it the address, sees without a lock that nothing is pending, and generates nothing."""
    run = run_headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 0, run
    assert len(run.events("env_connected")) >= 1
    again = run_headstart("up", url=any_database)
    assert (again.code, again.last["applied"]) == (0, [])
    assert not again.events("lock_obtained")
    made = run_headstart("revision", "--autogenerate", "-m", "nothing", url=any_database)
    assert made.code == 0, made
    assert [path.name for path in project.versions.glob("*.py")] == ["a1.py"]


@pytest.mark.parametrize(
    "change",
    [
        'alter table "Other Side".b add column more int',
        'create table "Other Side".more (id int)',
        "alter table c add column more int",
        pytest.param(
            "alter table a drop constraint a_positive",
            marks=pytest.mark.skipif(not COMPARES_CHECKS, reason="this Alembic compares no CHECKs"),
        ),
    ],
)
def test_differences_are_found(project: Project, any_database: str, change: str) -> None:
    """`alembic check` sees what differs in each of the metadata's schemas, CHECK constraints included."""
    assert stock(project, "upgrade", "head", DATABASE_URL=any_database).returncode == 0
    done = stock(project, "check", DATABASE_URL=any_database)
    assert (done.returncode, done.stdout.strip()) == (0, "No new upgrade operations detected."), done.stderr
    script(any_database, change)
    assert stock(project, "check", DATABASE_URL=any_database).returncode != 0


def test_what_is_not_the_metadatas(project: Project, any_database: str) -> None:
    """Other schemas, Headstart's own, partitions, and what an extension made are no differences."""
    assert stock(project, "upgrade", "head", DATABASE_URL=any_database).returncode == 0
    script(
        any_database,
        "create schema elsewhere; create table elsewhere.a (id int);"
        "create schema headstart; create table headstart.ledger (id int);"
        "create table c_2026 partition of c for values from ('2026-01-01') to ('2027-01-01');"
        "create extension if not exists plpgsql; create table of_extension (id int);"
        "alter extension plpgsql add table of_extension",
    )
    done = stock(project, "check", DATABASE_URL=any_database)
    assert (done.returncode, done.stdout.strip()) == (0, "No new upgrade operations detected."), done.stderr


def test_options_of_its_own(project: Project, run_headstart: RunHeadstart, any_database: str) -> None:
    """An env.py may give options of Alembic's; what it leaves out is left out, and its version table is used."""
    options = ', version_table="of_ours", include_name=lambda name, kind, parents: name != "spare"'
    project.env.write_text(ENV.format(options=options), encoding="utf-8")
    run = run_headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 0, run
    assert recorded(any_database, "of_ours") == ["a1"]
    assert run_headstart("up", url=any_database).last["applied"] == []
    script(any_database, 'create table spare (id int); create table "Other Side".spare (id int)')
    done = stock(project, "check", DATABASE_URL=any_database)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_given_connection(any_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may hand its connection in: all happens on it, in its transaction, and no address is needed."""
    for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    target = "20250811_083729154"  # an index is built concurrently after it, which no transaction allows
    config = Config(INI)

    def upgrade(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, target)

    async def run(*, keep: bool) -> list[str]:
        engine = headstart.engine_from(
            {"DATABASE_URL": any_database}, connect_args={"connection_class": ScriptConnection}
        )
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
            rows = await connection.execute(sa.text("select version_num from alembic_version"))
            found = list(rows.scalars())
            await (connection.commit() if keep else connection.rollback())
        await engine.dispose()
        return found

    assert asyncio.run(run(keep=True)) == [target]
    assert recorded(any_database) == [target]


@pytest.mark.parametrize("kind", ["Engine", "AsyncEngine"])
def test_a_given_engine(project: Project, any_database: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A program may hand in its engine, of either kind, as pytest-alembic does; it can be used again afterwards."""
    for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    project.versions.joinpath("a1.py").unlink()
    project.revision("b1", "create table a (id int primary key)", undo=["drop table a"], down=None)
    config = Config(project.ini)
    engine: sa.Engine | AsyncEngine
    if kind == "Engine":
        engine = sa.create_engine(any_database.replace("postgresql:", "postgresql+psycopg2:"))
    else:
        engine = create_async_engine(any_database.replace("postgresql:", "postgresql+asyncpg:"))
    config.attributes["connection"] = engine
    for _ in range(2):
        command.upgrade(config, "head")
        assert recorded(any_database) == ["b1"]
        command.downgrade(config, "base")
        assert recorded(any_database) == []
    if isinstance(engine, sa.Engine):
        engine.dispose()


def test_by_the_reference_project_itself(any_server: Postgres, run_headstart: RunHeadstart) -> None:
    """Headstart goes on where stock Alembic stopped half-way, and then finds nothing to do, without a lock."""
    with clone(any_server, "20250414_081206519") as url:
        run = run_headstart("up", url=url, cwd=ROOT, env={"HEADSTART_BACKUP": "off"})
        assert run.code == 0, run
        ids = history()
        assert run.last["applied"] == ids[ids.index("20250414_081206519") + 1 :]
        again = run_headstart("up", url=url, cwd=ROOT)
        assert (again.code, again.last["applied"]) == (0, [])
        assert not again.events("lock_obtained")
