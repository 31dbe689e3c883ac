"""`headstart restore`."""

from __future__ import annotations

import argparse
import os

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_lines
from headstart.commands.restore import restore
from headstart.errors import UsageError
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("backup", help="a backup's name, a path, or `latest`: the newest intact one")
    parser.add_argument(
        "--swap", action="store_true", help="let it take the live database's name; the old one is kept under another"
    )
    parser.add_argument(
        "--end-sessions", action="store_true", help="with --swap: end the sessions of others instead of refusing"
    )
    parser.add_argument(
        "--trust-owner",
        metavar="UID",
        type=int,
        help="with a path: restore a backup that this user has put where anybody may put one",
    )


async def job(run: Run, asked: CommandLine) -> None:
    """Restore a backup; print where it is, and how to go back."""
    own = asked.own
    if own.end_sessions and not own.swap:
        raise UsageError("--end-sessions belongs to --swap", hint="leave it out: a restore beside ends no session")
    if own.trust_owner is not None and os.sep not in own.backup:
        raise UsageError("--trust-owner belongs to a path", hint="give the path of the backup's folder")
    made = await restore(run, own.backup, swap=own.swap, end_sessions=own.end_sessions, trusted_owner=own.trust_owner)
    revision = ", ".join(made.revision) if isinstance(made.revision, list) else made.revision
    lines = [f"database  {made.database}", f"backup    {made.backup}", f"revision  {revision}"]
    if made.kept is not None:
        lines += [f"before    {made.kept}", f"go back   {made.go_back}"]
    lines += [f"missing   {each}: set it again with a role that may" for each in made.not_restored]
    if made.remove is not None:
        lines.append(f"remove    {made.remove}")
    print_lines(lines)
