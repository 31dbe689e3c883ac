"""Runs a user's env.py, unmodified, on our event loop and our connection.

A sync env.py works on the asyncpg dialect because it runs inside SQLAlchemy's greenlet; an async one calls
`asyncio.run`, which, while env.py runs, awaits on the loop that already runs. Alembic's manual, 'Tutorial: Editing
the env.py'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging.config
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import alembic.runtime.migration
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.util import await_only, greenlet_spawn

from headstart.alembic_bridge.heads import Heads
from headstart.ledger import SCHEMA
from headstart.log import bridge

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from structlog.typing import FilteringBoundLogger

    from headstart.alembic_bridge.workbench import Workbench

Feed = Callable[[Any, "MigrationContext"], Any]
"""What Alembic asks for the steps: (recorded revisions, context) -> steps. Alembic calls it `fn`."""


async def run_environment(
    config: Config,
    script: ScriptDirectory,
    feed: Feed,
    workbench: Workbench,
    *,
    log: FilteringBoundLogger,
    applied: Callable[..., None] | None = None,
    **options: Any,  # noqa: ANN401  (EnvironmentContext's own)
) -> None:
    """Run env.py so that it works on `workbench`, with a transaction per revision, whatever it asks for.

    Args:
        config: the user's.
        script: the user's.
        feed: gives the steps.
        workbench: serves its engines.
        log: gets what env.py logs and prints.
        applied: Alembic's `on_version_apply`: called inside each step's transaction, before its commit.
        options: for EnvironmentContext: tag, dont_mutate, purge.
    """
    environment = EnvironmentContext(config, script, fn=feed, **options)
    configure = environment.configure

    def ours(*args: Any, **given: Any) -> None:  # noqa: ANN401  (configure's own)
        if args:
            given |= dict(zip(("connection", "url", "dialect_name", "dialect_opts"), args, strict=False))
        if given.get("connection") is not None:
            workbench.prove(given["connection"])
        theirs = given.pop("on_version_apply", None) or ()
        callbacks = [
            *(theirs if isinstance(theirs, list | tuple | set) else (theirs,)),
            *([applied] if applied else []),
        ]
        configure(**{**_past_ledger(given), "transaction_per_migration": True, "on_version_apply": callbacks})

    # The instance's attribute: a subclass's method would not reach env.py through Alembic's proxy.
    environment.configure = ours  # type: ignore[method-assign]
    with bridge(log), hosted(), workbench.lending(), environment:
        try:
            await greenlet_spawn(script.run_env)
        except SystemExit as leaving:  # the user's code does not decide our exit code, least of all with a 0
            raise RuntimeError(f"it called sys.exit({leaving.code!r})").with_traceback(
                leaving.__traceback__
            ) from leaving


def _past_ledger(given: dict[str, Any]) -> dict[str, Any]:
    """What env.py configures, with our own schema left out of what autogenerate compares (`include_schemas`)."""
    theirs = given.get("include_name")

    def include_name(name: str | None, kind: str, parents: dict[str, Any]) -> bool:
        return (kind, name) != ("schema", SCHEMA) and (theirs is None or bool(theirs(name, kind, parents)))

    return {**given, "include_name": include_name}


@contextlib.contextmanager
def hosted() -> Iterator[None]:
    """While user code runs: no second event loop, and no logging set-up that would replace ours."""

    def run(main: Any, **_: object) -> Any:  # noqa: ANN401  (asyncio.run's signature)
        return await_only(main)

    def run_here(_self: object, awaitable: Any, **_: object) -> Any:  # noqa: ANN401  (a Runner's, a loop's)
        return await_only(awaitable)

    def leave_logging(*_: object, **__: object) -> None:
        """Our log stays as it is: asks no. 25, `fileConfig` mutes logging."""

    configure = EnvironmentContext.configure

    def passing_ledger(self: EnvironmentContext, *args: Any, **given: Any) -> None:  # noqa: ANN401  (configure's own)
        configure(self, *args, **_past_ledger(given))

    replaced: list[tuple[Any, str, Any]] = [
        (EnvironmentContext, "configure", passing_ledger),
        (alembic.runtime.migration, "HeadMaintainer", Heads),
        (asyncio, "run", run),
        (asyncio.Runner, "run", run_here),
        (asyncio.BaseEventLoop, "run_until_complete", run_here),
        (logging.config, "fileConfig", leave_logging),
        (logging.config, "dictConfig", leave_logging),
        (logging, "basicConfig", leave_logging),
    ]
    originals = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, stand_in in replaced:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(replaced, originals, strict=True):
            setattr(owner, name, original)
