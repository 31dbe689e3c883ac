"""`headstart sql`: what `alembic upgrade --sql` prints."""

from __future__ import annotations

import argparse

from headstart.cli.alembic_verbs import run_alembic
from headstart.cli.arguments import CommandLine
from headstart.cli.output import write_sql
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("revision", nargs="?", default="head", help="[FROM:]TO [default head]")


def needs_database(_asked: CommandLine) -> bool:
    """Nothing is run."""
    return False


async def job(run: Run, asked: CommandLine) -> None:
    """Print the SQL, in UTF-8."""
    await run_alembic(run, "upgrade", [asked.own.revision, "--sql"], database=False, write=write_sql)
