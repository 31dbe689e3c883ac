"""Headstart from a program: the same jobs, awaited. The command line's process, its signals and exits stay away."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from headstart.commands.up import downgrade as take_down
from headstart.commands.up import up as bring_up
from headstart.errors import HeadstartError
from headstart.log import logger as logs
from headstart.settings.settings import Settings
from headstart.steps.attempt import conduct
from headstart.steps.outcome import Outcome
from headstart.steps.run import Run


async def up(settings: Settings, target: str | None = None, *, log: FilteringBoundLogger | None = None) -> Outcome:
    """Bring the database to the target: what `headstart up` does.

    A revision that fails is rolled back; those before it stay, and are in the outcome. Nothing is raised but a bug, and
    the cancellation of the caller.

    Args:
        settings: from `settings_from`, or made by hand.
        target: the revision to reach, for example `+1`; that of the settings when left out.
        log: a structlog logger; stderr in the form of `settings.log` when left out.

    Returns:
        What was applied, what failed, what is pending, and the backup that goes with it. A failure is a value too:
        look at `ok`, or at `exit`, which is the exit code that the command would have had.
    """
    return await _conduct(settings, bring_up, log, target)


async def downgrade(
    settings: Settings, target: str | None = None, *, log: FilteringBoundLogger | None = None
) -> Outcome:
    """Take the database down to the target (`-1`, `base`): what `headstart downgrade` does. Otherwise as `up`."""
    return await _conduct(settings, take_down, log, target)


async def current(settings: Settings, *, log: FilteringBoundLogger | None = None) -> tuple[str, ...]:
    """Ask which revisions the database records: none for an empty one, several with branches. No lock, no write.

    Args:
        settings: as for `up`; `wait_timeout` is how long the server may take to become ready.
        log: as for `up`.

    Raises:
        HeadstartError: it cannot be read; `exit` is the exit code that the command would have had, `hint` the remedy.
    """
    found: tuple[str, ...] = ()

    async def look(run: Run) -> None:
        nonlocal found
        from headstart.commands.history import current as recorded  # off the no-op path

        found = await recorded(replace(run, log=logs.quiet(run.log)))

    outcome = await _conduct(settings, look, log, quiet=True)
    if not outcome.ok:
        error = HeadstartError(outcome.error, hint=outcome.hint, **outcome.context)
        error.exit = outcome.exit
        raise error
    return found


async def wait_for_head(settings: Settings, *, log: FilteringBoundLogger | None = None) -> Outcome:
    """Wait until the database is at this history's head: what `headstart wait --for head` does. No lock, no write.

    What a service does before it serves, wherever it is that its migration runs.

    Args:
        settings: `wait_timeout` is for the server and the head together; 0 looks once.
        log: as for `up`.

    Returns:
        `ok` once it is there; otherwise `exit` is 20 and `context["pending"]` says what is missing, or another exit
        says why waiting would not help.
    """
    from headstart.commands.wait import wait_for_head as look_for_head  # off the no-op path

    return await _conduct(settings, look_for_head, log)


async def _conduct(
    settings: Settings,
    job: Callable[[Run], Awaitable[None]],
    log: FilteringBoundLogger | None,
    target: str | None = None,
    *,
    quiet: bool = False,
) -> Outcome:
    settings = settings if target is None else replace(settings, target=target)
    run_id = os.urandom(4).hex()
    cwd = str(Path.cwd())
    redact = settings.redactor(cwd)
    if log is None:
        stream = logs.stderr()
        log = logs.build(stream, json=logs.wants_json(settings.log, stream), run_id=run_id, redact=redact)
    run = Run(settings, log, run_id, environ=os.environ, cwd=cwd, redact=redact)
    return await conduct(run, job, quiet=quiet)
