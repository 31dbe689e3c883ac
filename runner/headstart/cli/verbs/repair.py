"""`headstart repair`."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


async def job(run: Run, asked: CommandLine) -> None:
    """Mend the INVALID indexes that revisions have left."""
    from headstart.commands.repair import repair

    await repair(run, dry_run=asked.own.dry_run)
