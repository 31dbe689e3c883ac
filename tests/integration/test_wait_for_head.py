"""`await headstart.wait_for_head(settings)`: what a service does before it serves."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

import headstart
from headstart.errors.exits import Exit
from support.postgres import psql
from support.project import Project, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Postgres


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with two revisions."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)")
    return project


@pytest.fixture
def settings(project: Project, any_database: str, tmp_path: Path) -> headstart.Settings:
    """Look once, at an empty database."""
    return headstart.settings_from(
        {"DATABASE_URL": any_database, "HEADSTART_WAIT_TIMEOUT": "0", "HEADSTART_BACKUP": "off"},
        {"ALEMBIC_CONFIG": str(project.ini)},
    )


async def test_once(settings: headstart.Settings, any_database: str) -> None:
    """Without time to wait it looks once: a database that is behind is a value, and untouched."""
    before = fingerprint(any_database)
    began = time.monotonic()
    outcome = await headstart.wait_for_head(settings)
    assert time.monotonic() - began < 5
    assert not outcome.ok
    assert outcome.exit is Exit.NOT_READY
    assert outcome.context["pending"] == ["a1", "b2"]
    assert "2 revisions are pending" in str(outcome.error)
    assert fingerprint(any_database) == before
    assert (await headstart.up(settings)).ok
    there = await headstart.wait_for_head(settings)
    assert there.ok
    assert there.revision_after == ("b2",)


async def test_until_another_has_migrated(settings: headstart.Settings) -> None:
    """It waits while the migration runs elsewhere, and returns once that is done."""
    waiting = asyncio.create_task(headstart.wait_for_head(msgspec.structs.replace(settings, wait_timeout=30)))
    behind = await headstart.wait_for_head(settings)  # the other has looked by now, too
    assert not behind.ok
    assert not waiting.done()
    assert (await headstart.up(settings)).ok
    assert (await waiting).ok


async def test_what_waiting_would_not_help(
    settings: headstart.Settings, any_server: Postgres, any_database: str
) -> None:
    """A wrong password ends it at once; so does a database that this history does not know."""
    wrong = any_database.replace(any_server.password, "wrong")
    refused = headstart.settings_from({"DATABASE_URL": wrong}, {"ALEMBIC_CONFIG": settings.config})
    assert (await headstart.wait_for_head(refused)).exit is Exit.REFUSED
    await headstart.up(settings)
    psql(any_database, "update alembic_version set version_num = 'z9'")
    unknown = await headstart.wait_for_head(msgspec.structs.replace(settings, wait_timeout=30))
    assert unknown.exit is Exit.DATABASE_UNKNOWN


async def test_nothing_is_left_open(settings: headstart.Settings, any_database: str) -> None:
    """No session stays behind, whether it was there or not."""
    await headstart.wait_for_head(settings)
    sessions = "select count(*) from pg_stat_activity where application_name like 'headstart%' and datname = $1"
    assert psql(any_database, sessions, any_database.rpartition("/")[2]) == [(0,)]
