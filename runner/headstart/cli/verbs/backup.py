"""`headstart backup`."""

from __future__ import annotations

from headstart.cli.arguments import CommandLine
from headstart.commands.backups import back_up
from headstart.steps.run import Run


async def job(run: Run, _asked: CommandLine) -> None:
    """Take a backup now."""
    await back_up(run)
