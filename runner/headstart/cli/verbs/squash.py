"""`headstart squash`."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_line
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("revision", nargs="?", help="the last one to be replaced [default head]")
    parser.add_argument("-m", "--message", default="baseline", help="of the new file [default baseline]")
    parser.add_argument(
        "--archive",
        metavar="DIR",
        help="where a folder for the old files is made [default: archive, beside the version folder]",
    )


def needs_database(_asked: CommandLine) -> bool:
    """The revisions are run in a scratch database."""
    return False


async def job(run: Run, asked: CommandLine) -> None:
    """Make the baseline; print its path, or a line for each difference."""
    own = asked.own
    from headstart.commands.squash.squash import squash

    baseline = await squash(run, own.revision, message=own.message, archive=own.archive, write=print_line)
    print_line(str(baseline))
