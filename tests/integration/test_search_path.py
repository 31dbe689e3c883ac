"""Somebody's schema comes first in the search path, full of impostors: none of them is ever used by us."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

import headstart
from headstart.backup import database as backup_database
from headstart.backup.dump import APPLICATION
from headstart.log import logger as logs
from headstart.postgres import activity, blockers, catalog, indexes, lock, readiness, version_table
from headstart.postgres.server import (
    SEARCH_PATH,
    close,
    connect,
    holds_user_tables,
    identify,
    prepare_session,
    read_schemas,
)
from headstart.worker.place import Guard
from support.postgres import script
from support.project import Project
from support.shadows import SCHEMA, shadow, used

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from conftest import RunHeadstart
    from headstart.postgres.readiness import Ready
    from support.postgres import Postgres


@pytest.fixture
def log() -> FilteringBoundLogger:
    """A log that nobody reads."""
    return logs.build(io.StringIO(), json=True, run_id="test", redact=str)


@pytest.fixture
async def ready(database: str, log: FilteringBoundLogger) -> AsyncIterator[Ready]:
    """A session of ours in a database whose search path begins with impostors."""
    script(database, "create table alembic_version (version_num varchar(32) primary key)")
    shadow(database)
    dsn = headstart.settings_from({"DATABASE_URL": database}).dsn
    ready = await readiness.wait_until_ready(dsn, timeout=10, application_name="headstart test", log=log)
    yield ready
    await close(ready.connection)


async def test_the_impostors_leave_traces(database: str) -> None:
    """A session that is not careful meets an impostor of each kind, whatever becomes of its transaction."""
    shadow(database)
    connection = await asyncpg.connect(database)
    for sql in (
        "select pg_backend_pid()",
        "select 'a'::text",
        "select oid from pg_class",
        "select 1::pg_catalog.int4 = 2",
    ):
        async with asyncio.timeout(10):
            try:
                async with connection.transaction(readonly=False):
                    await connection.fetch(sql)
                    raise RuntimeError
            except RuntimeError:
                pass
    await connection.close()
    assert {"=", "pg_backend_pid", "pg_class", "text"} <= set(used(database))


async def test_none_is_used(ready: Ready, database: str, log: FilteringBoundLogger) -> None:
    """Looking, locking, watching and reading the catalog use Postgres' own names."""
    connection = ready.connection
    assert connection.schemas == (SCHEMA, "pg_catalog", "public")
    await identify(connection)
    await prepare_session(connection, lock_timeout=1, statement_timeout=0)
    await holds_user_tables(connection, "alembic_version")
    await version_table.recorded_revisions(connection, "alembic_version", None)
    await version_table.require_write_privilege(connection, ready.server.user, "alembic_version", None)
    found = await version_table.find_version_table(connection, "alembic_version", "public")
    assert found is not None
    await version_table.revisions_in(connection, found.oid, "alembic_version", "public")
    async with lock.migration_lock(connection, timeout=5, log=log):
        assert await lock.holders(connection)
    await blockers.blockers(connection, connection.get_server_pid())
    await activity.progress_of(connection, connection.get_server_pid())
    await indexes.invalid_indexes(connection)
    await catalog.read(connection, grants=True, order=True)
    facts = await backup_database.read_facts(connection)
    assert await backup_database.tables(connection) == facts.tables
    await backup_database.end_orphans(connection, ready.server.database, APPLICATION)
    await backup_database.warn_of_other_dumps(connection, log=log)
    assert used(database) == []


def test_none_is_used_by_the_verbs(
    any_server: Postgres, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """`up` with nothing to do, `wait`, `status`, `doctor` and `backup` use Postgres' own names."""
    project = Project(tmp_path / "app")
    project.revision("a1", "create table a (id int)")
    assert run_headstart("up", url=any_database, cwd=project.folder).code == 0
    shadow(any_database)
    for verb in (["up"], ["wait", "--for", "head"], ["status", "--json"], ["doctor"], ["backup"]):
        run = run_headstart(
            *verb, url=any_database, cwd=project.folder, env={"PATH": f"{any_server.bindir}:/usr/bin:/bin"}
        )
        assert run.code == 0, run
    assert used(any_database) == []


async def test_a_path_that_is_given(any_database: str) -> None:
    """The path of the role, the database or the URL is kept, and the session has its own."""
    script(any_database, "create schema app; create schema later")
    url = f"{any_database}?options=-csearch_path%3Dapp,none,later,public"
    dsn = headstart.settings_from({"DATABASE_URL": url}).dsn
    connection = await connect(dsn, timeout=10, application_name="headstart test")
    seen = []
    try:
        seen.append((list(connection.schemas), await connection.fetchval("show search_path")))
        script(any_database, "create schema none")
        await read_schemas(connection)
        seen.append((list(connection.schemas), await connection.fetchval("show search_path")))
    finally:
        await close(connection)
    assert seen == [
        (["pg_catalog", "app", "later", "public"], SEARCH_PATH),
        (["pg_catalog", "app", "none", "later", "public"], SEARCH_PATH),
    ]


@pytest.mark.parametrize("named", [None, "public"])
def test_the_look_at_the_version_table_uses_none(named: str | None, database: str) -> None:
    """What is asked before Alembic reads is asked in env.py's session, and by Postgres' own names."""
    script(database, "create table alembic_version (version_num varchar(32) primary key)")
    shadow(database)
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg2:"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": named})
        before = used(database)
        place = Guard(writing=True).look(context)
    assert used(database) == before
    assert (place.schema, place.oid is not None) == ("public", True)
