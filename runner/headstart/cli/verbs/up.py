"""`headstart up`: the main job. The program that it then becomes is `main`'s."""

from __future__ import annotations

from headstart.cli.arguments import CommandLine
from headstart.commands.up import up
from headstart.steps.run import Run


async def job(run: Run, _asked: CommandLine) -> None:
    """Bring the database to the target."""
    await up(run)
