"""`headstart`, `python -m headstart`: signals first, then everything else."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from headstart.cli.signals import Interrupt

    interrupt = Interrupt()
    interrupt.install()

    from headstart.cli.main import main as run

    if sys.stdout is None:  # closed by whoever started us: nobody wants the data
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  (pathlib is not on the no-op path)
    code = run(sys.argv[1:], os.environ, interrupt)
    try:
        sys.stdout.flush()
    except OSError:  # `| head -1` (Python's manual, 'Note on SIGPIPE'), or a full disk, which was reported already
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # Taking a Python process apart takes longer than a no-op's queries, and nothing is left to be kept.
    os._exit(code)


if __name__ == "__main__":
    main()
