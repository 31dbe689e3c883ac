"""`headstart schema`: the schema at head as files."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_lines
from headstart.errors import UsageError
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument(
        "action",
        metavar="dump|load|split",
        choices=("dump", "load", "split"),
        help="dump: write the schema that all revisions make; load: an empty database to head by it, in one go;"
        " split: write it as several files, by kind and schema",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="the schema file [default: HEADSTART_SCHEMA_FILE, or sql_current/schema_head.sql beside env.py]",
    )
    parser.add_argument(
        "--check", action="store_true", help="with dump: write nothing, and exit with 80 if the file is stale"
    )
    parser.add_argument(
        "--directory", metavar="FOLDER", help="with split: where the files go [default: the schema file's folder]"
    )


def needs_database(asked: CommandLine) -> bool:
    """Whether the verb cannot do without DATABASE_URL."""
    return bool(asked.own.action == "load")


async def job(run: Run, asked: CommandLine) -> None:
    """Do it."""
    own = asked.own
    for option, action in (("check", "dump"), ("directory", "split")):
        if getattr(own, option) and own.action != action:
            raise UsageError(f"--{option} belongs to `schema {action}`", hint="leave it out")
    if own.action == "load":
        from headstart.commands.schema.load import load_file

        await load_file(run, own.file)
        return
    if own.action == "split":
        from headstart.commands.schema.parts import split

        paths = split(run, own.file, own.directory)
    else:
        from headstart.commands.schema import dump

        paths = [await (dump.check if own.check else dump.dump)(run, own.file)]
    print_lines(map(str, paths))
