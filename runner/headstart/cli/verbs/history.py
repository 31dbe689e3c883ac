"""`headstart history`: Alembic's list of revisions, or what the ledger says was done to the database."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_lines, write_bytes
from headstart.cli.verbs import alembic
from headstart.commands import history
from headstart.ledger import Row
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("--ledger", action="store_true", help="what was done to the database: when, by whom")
    parser.add_argument("--source", metavar="REVISION", help="print a revision's file as it was applied")


def needs_database(asked: CommandLine) -> bool:
    """The ledger is in the database; Alembic's list is not."""
    return asked.own.ledger or asked.own.source is not None or alembic.needs_database(asked)


async def job(run: Run, asked: CommandLine) -> None:
    """Print one or the other."""
    if asked.own.source is not None:
        write_bytes(await history.source(run, asked.own.source))
    elif asked.own.ledger:
        print_lines(map(_ledger_line, await history.applied(run)))
    else:
        await alembic.job(run, asked)


def _ledger_line(row: Row) -> str:
    seconds = "" if row.seconds is None else f"  {row.seconds:.2f} s"
    by = f"{row.role}@{row.host}  {row.image or f'headstart {row.headstart}'}  run {row.run_id}"
    backup = f"  backup {row.backup}" if row.backup else ""
    return f"{row.at.replace('+00:00', 'Z')}  {row.action:<8}  {row.revision or 'base'}{seconds}  {by}{backup}"
