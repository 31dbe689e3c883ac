"""`headstart backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.commands.backups import back_up

if TYPE_CHECKING:
    from headstart.cli.arguments import CommandLine
    from headstart.steps.run import Run


async def job(run: Run, _asked: CommandLine) -> None:
    """Take a backup now."""
    await back_up(run)
