"""headstart from a program: `await headstart.up(settings)` gives the Outcome as a value."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

import msgspec
import pytest

import headstart
from acceptance.checks import path_of
from headstart.errors import ConfigurationError
from headstart.exits import Exit
from support.postgres import query
from support.project import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Postgres
    from support.project import Project


@pytest.fixture
def settings(
    project: Project, any_server: Postgres, any_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> headstart.Settings:
    """Settings for a project with two revisions and an empty database."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)")
    monkeypatch.setenv("PATH", path_of(any_server))
    return headstart.settings_from(
        {"DATABASE_URL": any_database, "HEADSTART_BACKUP_DIR": str(tmp_path / "backups")},
        {"ALEMBIC_CONFIG": str(project.ini)},
    )


async def test_outcome(settings: headstart.Settings, any_database: str) -> None:
    """The Outcome says what was applied, and how long each stage took."""
    outcome = await headstart.up(settings)
    assert outcome.ok
    assert outcome.exit is Exit.DONE
    assert [each.revision for each in outcome.applied] == ["a1", "b2"]
    assert (outcome.revision_before, outcome.revision_after) == ((), ("b2",))
    assert outcome.error is None
    assert outcome.seconds["total"] > 0
    again = await headstart.up(settings)
    assert again.ok
    assert again.applied == ()
    assert again.run_id != outcome.run_id
    assert recorded(any_database) == ["b2"]


async def test_failure_is_a_value(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """A failed revision is an Outcome too: what was applied, what failed, what is pending, and the backup."""
    await headstart.up(settings)
    project.revision("c3", "create table c (id int)")
    project.revision("d4", "select broken")
    project.revision("e5", "select 1")
    outcome = await headstart.up(settings)
    assert not outcome.ok
    assert outcome.exit is Exit.MIGRATION_FAILED
    assert [each.revision for each in outcome.applied] == ["c3"]
    assert (outcome.failed, outcome.pending) == ("d4", ("d4", "e5"))
    assert outcome.revision_after == ("c3",)
    assert outcome.backup
    assert outcome.context["sqlstate"] == "42703"
    assert msgspec.json.encode(outcome)


async def test_downgrade(settings: headstart.Settings, any_database: str) -> None:
    """`downgrade` takes the database to the settings' target."""
    await headstart.up(settings)
    outcome = await headstart.downgrade(msgspec.structs.replace(settings, target="a1"))
    assert outcome.ok
    assert recorded(any_database) == ["a1"]


async def test_beside_other_work(settings: headstart.Settings, any_database: str) -> None:
    """The caller's loop, signals and connections go on: nothing global is left changed."""
    before = (asyncio.run, logging.root.handlers[:], logging.root.level, signal.getsignal(signal.SIGTERM))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    outcome = await headstart.up(settings)
    ticking.cancel()
    assert outcome.ok
    assert ticks > 0
    after = (asyncio.run, logging.root.handlers[:], logging.root.level, signal.getsignal(signal.SIGTERM))
    assert after == before
    assert [row[0] for row in await query(any_database, "select version_num from alembic_version")] == ["b2"]
    sessions = "select count(*) from pg_stat_activity where application_name like 'headstart%' and datname = $1"
    assert (await query(any_database, sessions, any_database.rpartition("/")[2]))[0][0] == 0


def test_settings_problems() -> None:
    """What is wrong with the variables is one error with all the problems, each by its name."""
    with pytest.raises(ConfigurationError) as caught:
        headstart.settings_from({"HEADSTART_BACKUP": "maybe", "HEADSTART_LOG": "loud"})
    assert len(caught.value.problems) == 3
    assert os.environ.get("DATABASE_URL") is None
