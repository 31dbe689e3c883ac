"""`headstart`, `python -m headstart`: signals first, then everything else."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from headstart.signals import Interrupt

    interrupt = Interrupt()
    interrupt.install()

    from headstart.cli import main as run

    sys.exit(run(sys.argv[1:], os.environ, interrupt))


if __name__ == "__main__":
    main()
