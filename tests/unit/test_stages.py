"""What it means that a stage of a run fails: one table, and every stage is in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import structlog
from msgspec.structs import replace

from headstart.errors import NotReadyError
from headstart.log.secret import Redactor
from headstart.settings.dsn import Dsn
from headstart.settings.settings import Settings
from headstart.steps.attempt import attempt
from headstart.steps.record import AppliedRevision
from headstart.steps.run import Run
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IN_VAIN = "it has not come"
SETTINGS = Settings(dsn=Dsn(hosts=(("127.0.0.1", 5432),), user="u", password=None, database="d"))
# stage -> the exit code where the deadline passes in it, where the connection is lost, where the server refuses a query
CODES: dict[Stage, tuple[int, int, int]] = {
    Stage.START: (20, 20, 21),
    Stage.WAIT: (20, 20, 21),
    Stage.COMPARE: (20, 20, 21),
    Stage.LOAD: (10, 10, 10),
    Stage.LOCK: (30, 30, 30),
    Stage.BACKUP: (40, 40, 40),
    Stage.UPGRADE: (60, 63, 60),
    Stage.DOWNGRADE: (60, 63, 60),
    Stage.STAMP: (60, 63, 60),
    Stage.VERIFY: (20, 20, 21),
    Stage.CHECK: (41, 41, 41),
    Stage.RESTORE: (41, 41, 41),
    Stage.EXCHANGE: (41, 41, 41),
    Stage.REPAIR: (60, 63, 60),
    Stage.REPLAY: (20, 20, 21),
    Stage.DRIFT: (20, 20, 21),
    Stage.REBUILD: (20, 20, 21),
}


async def ended(
    stage: Stage, job: Callable[[], Awaitable[Any]], *, deadline: float | None = None, applied: bool = False
) -> int:
    """The exit code of a run whose job fails in a stage, before or after it has applied a revision."""
    run = Run(
        replace(SETTINGS, deadline=deadline), structlog.get_logger(), "test", environ={}, cwd="/", redact=Redactor(())
    )

    async def in_stage(given: Run) -> None:
        given.record.applied += [AppliedRevision(revision="a1", seconds=0.1)] if applied else []
        with given.record.timed(stage):
            await job()

    error = await attempt(run, in_stage)
    assert error is not None
    assert stage.value in error.message or error.message == IN_VAIN
    return int(error.exit)


def test_every_stage_has_its_codes() -> None:
    """None is forgotten."""
    assert set(CODES) == set(Stage)


async def lose() -> None:
    """The connection is gone."""
    raise ConnectionResetError


async def refuse() -> None:
    """The server says no."""
    raise asyncpg.InsufficientPrivilegeError("permission denied for table a")


async def wait_in_vain() -> None:
    """Something that is waited for does not come, in whatever stage."""
    raise NotReadyError(IN_VAIN)


@pytest.mark.parametrize("stage", CODES)
async def test_not_ready_is_not_ready(stage: Stage) -> None:
    """As long as nothing was changed."""
    assert await ended(stage, wait_in_vain) == 20


@pytest.mark.parametrize("stage", CODES)
async def test_codes(stage: Stage) -> None:
    """By the deadline, by a lost connection, by what the server says."""
    found = (
        await ended(stage, lambda: asyncio.sleep(60), deadline=0.01),
        await ended(stage, lose),
        await ended(stage, refuse),
    )
    assert found == CODES[stage]


@pytest.mark.parametrize("stage", CODES)
async def test_nothing_is_called_untouched_that_was_not(stage: Stage) -> None:
    """Once a revision has been applied, no stage's failure has a code that says `untouched`."""
    for code in (
        await ended(stage, wait_in_vain, applied=True),
        await ended(stage, lambda: asyncio.sleep(60), deadline=0.01, applied=True),
        await ended(stage, lose, applied=True),
        await ended(stage, refuse, applied=True),
    ):
        assert code in {60, 61, 63}
