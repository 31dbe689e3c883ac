"""Alembic's own verbs. Those that change a database have the lock, backup and log of `up`."""

from __future__ import annotations

from headstart.cli import output
from headstart.cli.alembic_verbs import needs_database, run_alembic
from headstart.cli.arguments import CommandLine
from headstart.commands.stamp import stamp
from headstart.commands.up import downgrade, up
from headstart.steps.run import Run

__all__ = ["job", "needs_database"]


async def job(run: Run, asked: CommandLine) -> None:
    """Do what Alembic's verb is for. With `--sql`, print what Alembic would run."""
    alembic = asked.alembic or {}
    offline = bool(alembic.get("sql"))
    match "" if offline else asked.verb.name:
        case "upgrade":
            await up(run)
        case "downgrade":
            await downgrade(run)
        case "stamp":
            await stamp(run, alembic["revisions"], purge=alembic["purge"])
        case _:
            write = output.write_sql if offline else output.write
            await run_alembic(run, asked.verb.name, asked.arguments, database=needs_database(asked), write=write)
