"""`headstart squash`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.cli.output import print_line

if TYPE_CHECKING:
    import argparse

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


async def job(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    """Make the baseline; print its path, or a line for each difference."""
    from headstart.commands.squash.squash import squash

    baseline = await squash(run, own.revision, message=own.message, archive=own.archive, write=print_line)
    print_line(str(baseline))
