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
from support.postgres import psql, query
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from support.postgres import Postgres
    from support.project import Project


@pytest.fixture
def settings(
    project: Project, any_server: Postgres, any_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> headstart.Settings:
    """Settings for a project with two revisions and an empty database."""
    project.revision("a1", "create table a (id int)", undo=["drop table a"])
    project.revision("b2", "create table b (id int)", undo=["drop table b"])
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


async def test_a_failure_is_rolled_back(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """Nothing of the revision that failed stays; corrected, it is applied by the next call in the same process."""
    broken = project.revision("c3", "create table c (id int)", "insert into c values ('x')")
    outcome = await headstart.up(settings)
    assert (outcome.failed, outcome.revision_after) == ("c3", ("b2",))
    assert [there(any_database, name) for name in "bc"] == [True, False]
    broken.write_text(broken.read_text(encoding="utf-8").replace("values ('x')", "values (42)"), encoding="utf-8")
    assert (await headstart.up(settings)).ok
    assert [tuple(row) for row in await query(any_database, "select id from c")] == [(42,)]
    assert await headstart.current(settings) == ("c3",)


async def test_downgrade(settings: headstart.Settings, any_database: str) -> None:
    """`downgrade` takes the database to the settings' target, or to one that is given, as Alembic writes it."""
    await headstart.up(settings)
    outcome = await headstart.downgrade(msgspec.structs.replace(settings, target="a1"))
    assert outcome.ok
    assert recorded(any_database) == ["a1"]
    assert (await headstart.up(settings, "+1")).revision_after == ("b2",)
    assert (await headstart.downgrade(settings, "-1")).revision_after == ("a1",)
    assert (await headstart.downgrade(settings, "base")).revision_after == ()
    assert recorded(any_database) == []


async def test_a_downgrade_that_fails(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """A downgrade that fails is rolled back as well, and its outcome says where the database is."""
    project.revision("c3", "create table c (id int)", undo=["drop table c", "drop table no_such_table"])
    await headstart.up(settings)
    outcome = await headstart.downgrade(settings, "b2")
    assert (outcome.exit, outcome.failed) == (Exit.MIGRATION_FAILED, "c3")
    assert outcome.revision_after == ("c3",) == tuple(recorded(any_database))
    assert there(any_database, "c")


async def test_current(settings: headstart.Settings, project: Project, any_database: str) -> None:
    """`current` is what the database records: nothing at first, one revision, or a branch's several."""
    before = fingerprint(any_database)
    assert await headstart.current(settings) == ()
    assert fingerprint(any_database) == before
    await headstart.up(settings)
    assert await headstart.current(settings) == ("b2",)
    project.revision("c3", "select 1", down="b2")
    project.revision("d4", "select 1", down="b2")
    await headstart.up(settings, "heads")
    assert await headstart.current(settings) == ("c3", "d4")


async def test_current_of_a_table_that_only_env_py_knows(
    settings: headstart.Settings, project: Project, any_database: str
) -> None:
    """Where env.py computes the version table's name, it is asked, and nothing is written."""
    text = project.env.read_text(encoding="utf-8")
    text = text.replace("target_metadata=target_metadata", "target_metadata=target_metadata, version_table=name")
    project.env.write_text(text, encoding="utf-8")
    project.in_env("name = '_'.join(['our', 'versions'])")
    await headstart.up(settings)
    before = fingerprint(any_database)
    assert await headstart.current(settings) == ("b2",)
    assert recorded(any_database, "our_versions") == ["b2"]
    assert fingerprint(any_database) == before


@pytest.mark.parametrize("ask", [headstart.up, headstart.downgrade, headstart.wait_for_head])
async def test_no_server_is_a_value(ask: Callable[..., Awaitable[headstart.Outcome]], project: Project) -> None:
    """Without a server nothing is raised either: the outcome says so, without the password."""
    project.revision("a1", "create table a (id int)")
    outcome = await ask(_nowhere(project))
    assert outcome.exit is Exit.NOT_READY
    assert outcome.hint
    assert "t0psecret" not in repr(outcome)


async def test_current_cannot_be_told(project: Project) -> None:
    """`current` raises what an Outcome would say: the exit, a line of cause, a line of remedy, no password."""
    project.revision("a1", "create table a (id int)")
    with pytest.raises(headstart.HeadstartError) as caught:
        await headstart.current(_nowhere(project))
    assert caught.value.exit is Exit.NOT_READY
    assert caught.value.hint
    assert "t0psecret" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


def there(url: str, table: str) -> bool:
    """Whether a database has a table."""
    return psql(url, "select to_regclass($1) is not null", table) == [(True,)]


def _nowhere(project: Project) -> headstart.Settings:
    """Settings for a server that is not there."""
    return headstart.settings_from(
        {"DATABASE_URL": "postgresql://app:t0psecret@127.0.0.1:1/app", "HEADSTART_WAIT_TIMEOUT": "200ms"},
        {"ALEMBIC_CONFIG": str(project.ini)},
    )


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
