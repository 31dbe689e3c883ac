"""`headstart adopt`."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_line
from headstart.errors import UsageError
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument(
        "revision", nargs="?", help="the revision of the database, e.g. head [default: found by comparing all]"
    )
    parser.add_argument("--force", action="store_true", help="record REVISION even if the schemas differ")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="TABLE",
        help="a table that is no part of the schema, such as an old tool's version table; may be given again",
    )


async def job(run: Run, asked: CommandLine) -> None:
    """Compare, and record; print a line for each difference."""
    own = asked.own
    from headstart.commands.adopt import adopt

    if own.force and own.revision is None:
        raise UsageError("--force needs a revision to record", hint="headstart adopt REVISION --force")

    await adopt(run, own.revision, force=own.force, ignored=own.ignore, write=print_line)
