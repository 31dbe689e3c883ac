"""`headstart stamp`: Alembic's words, with the lock and log of `up`."""

from __future__ import annotations

from headstart.cli import alembic_verbs
from headstart.cli.alembic_verbs import needs_database
from headstart.cli.arguments import CommandLine
from headstart.commands.stamp import stamp
from headstart.steps.run import Run

__all__ = ["job", "needs_database"]


async def job(run: Run, asked: CommandLine) -> None:
    """Record revisions without running them. With `--sql`, print what Alembic would run."""
    alembic = asked.alembic or {}
    if alembic["sql"]:
        await alembic_verbs.job(run, asked)
    else:
        await stamp(run, alembic["revisions"], purge=alembic["purge"])
