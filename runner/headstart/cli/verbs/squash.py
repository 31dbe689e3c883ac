"""`headstart squash`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

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


def needs_database(own: Any) -> bool:  # noqa: ANN401  (an argparse namespace)
    """Whether the verb cannot do without DATABASE_URL."""
    del own
    return False


async def job(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    """Make the baseline; print its path, or a line for each difference."""
    from headstart.commands.squash import squash

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")

    tell(str(await squash(run, own.revision, message=own.message, archive=own.archive, tell=tell)))
