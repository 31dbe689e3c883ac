"""`headstart doctor`."""

from __future__ import annotations

import argparse

import msgspec

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_json, print_lines
from headstart.commands.doctor import examine
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


async def job(run: Run, asked: CommandLine) -> None:
    """Print a line for each precondition.

    Raises:
        HeadstartError: the first that is not met, as `up` would end.
    """
    findings, failure = await examine(run)
    if asked.own.json:
        print_json([msgspec.to_builtins(each) for each in findings])
    else:
        print_lines(
            f"{'ok  ' if each.ok else 'FAIL'}  {each.what}: {each.found}"
            + (f" -> {each.remedy}" if each.remedy else "")
            for each in findings
        )
    if failure is not None:
        raise failure
