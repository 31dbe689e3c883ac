"""The schema file runs in a session of its own, beside the one that holds the migration lock."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart.errors import InterruptedMigrationError, LockNotObtainedError, MigrationFailedError
from headstart.log import logger as logs
from headstart.log.secret import Redactor
from headstart.postgres.lock import migration_lock
from headstart.settings.machine import settings_from
from headstart.steps.connect import connected, locked
from headstart.steps.run import Run
from headstart.steps.schema_file import AtHand, SchemaFile
from headstart.steps.schema_load import load
from support.postgres import psql
from support.waiting import soon

if TYPE_CHECKING:
    from integration.conftest import Connect

GATE = 4711
BODY = f"""
create table public.alembic_version (version_num varchar(32) primary key);
create table public.a (id int);
select pg_advisory_xact_lock({GATE});
"""
TABLES = "select count(*) from pg_class where relname in ('a', 'alembic_version')"
AT_THE_GATE = f"select pid from pg_locks where locktype = 'advisory' and objid = {GATE} and not granted"


@pytest.fixture
def run(any_database: str, tmp_path: Path) -> Run:
    """A run that keeps no backup, and does not wait for a lock."""
    settings = settings_from({"DATABASE_URL": any_database, "HEADSTART_LOCK_TIMEOUT": "0"})
    log = logs.build(io.StringIO(), json=True, run_id="test", redact=str)
    return Run(settings, log, "test", environ=dict(os.environ), cwd=str(tmp_path), redact=Redactor(()))


async def loaded(run: Run, body: str) -> None:
    """Load a file under the migration lock."""
    file = SchemaFile.of(body, AtHand(("a1",), [], "alembic_version"))
    async with connected(run) as ready, locked(run, ready):
        await load(run, ready, file, [], path=Path("schema.sql"))


async def test_nobody_gets_in_while_it_runs(run: Run, any_database: str, connect: Connect) -> None:
    """If the lock's session is lost, nothing is kept, and no other runner gets in while the file's session lives."""
    gate = await connect(any_database)
    await gate.execute(f"select pg_advisory_lock({GATE})")
    loading = asyncio.create_task(loaded(run, BODY))
    await soon(lambda: psql(any_database, AT_THE_GATE), "the file is at work")
    async with connected(run) as other:
        with pytest.raises(LockNotObtainedError):
            async with migration_lock(other.connection, timeout=0, log=run.log):
                pass
    [(pid,)] = psql(any_database, AT_THE_GATE)
    lost = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'"
    psql(any_database, f"{lost} and granted and objid <> {GATE} and pid <> {pid}")
    with pytest.raises(InterruptedMigrationError):
        await loading
    await gate.execute(f"select pg_advisory_unlock({GATE})")
    assert psql(any_database, TABLES) == [(0,)]


async def test_what_it_sets_and_records(run: Run, any_database: str) -> None:
    """The version table is filled where the file has made it, and a failure names the statement."""
    with pytest.raises(MigrationFailedError, match=r"create table public\.a .*nothing of it was kept"):
        await loaded(run, BODY + "create table public.a (id int);")
    assert psql(any_database, TABLES) == [(0,)]
    await loaded(run, BODY)
    assert psql(any_database, "select version_num from public.alembic_version") == [("a1",)]
