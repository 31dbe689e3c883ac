"""`headstart downgrade`: Alembic's words, with the lock, backup and log of `up`."""

from __future__ import annotations

from headstart.cli import alembic_verbs
from headstart.cli.alembic_verbs import needs_database
from headstart.cli.arguments import CommandLine
from headstart.commands.up import downgrade
from headstart.steps.run import Run

__all__ = ["job", "needs_database"]


async def job(run: Run, asked: CommandLine) -> None:
    """Revert to a revision. With `--sql`, print what Alembic would run."""
    if asked.alembic is not None and asked.alembic["sql"]:
        await alembic_verbs.job(run, asked)
    else:
        await downgrade(run)
