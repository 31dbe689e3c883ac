"""`headstart wait`."""

from __future__ import annotations

import argparse

from headstart.cli.arguments import CommandLine
from headstart.commands.wait import wait_for_head, wait_for_server
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    what = ("server", "head")
    parser.add_argument(
        "--for", dest="wait_for", choices=what, default="server", help="what to wait for [default server]"
    )


async def job(run: Run, asked: CommandLine) -> None:
    """Wait for the server, or for this image's head."""
    await (wait_for_head if asked.own.wait_for == "head" else wait_for_server)(run)
