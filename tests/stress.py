"""Any fault in any phase, some moments after it has begun, over and over: `make stress SECONDS=600 SEED=...`.

What the matrix (tests/faults/test_matrix.py) makes happen at a known moment happens here at any: so the exit code may
be one of several. All the rest that is promised is looked at after each run. The first contradiction ends it, with the
log; the same seed makes the same choices again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.postgres.embedded import installations
from support.faults import Scene
from support.matrix.cell import not_applicable, run_anyhow
from support.matrix.faults import FAULTS
from support.matrix.phases import PHASES
from support.postgres import Postgres, database_of
from support.process import Headstart, environment
from support.restoring import drop_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.faults import Starter

LONGEST = 0.2
"""Seconds that a run goes on after it has been at a phase, at most."""

CELLS = [
    (phase, fault)
    for phase in PHASES
    for fault in FAULTS
    if not not_applicable(phase, fault)
    and not (phase.command or fault.to or fault.standby or fault.name == "second runner")  # these wait for the phase
]


def main() -> int:
    """Go on until the time is over, or the database contradicts a report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.randrange(10**9) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    choice, ends = random.Random(seed), time.monotonic() + given.seconds
    codes: Counter[tuple[str, int]] = Counter()
    with Postgres.start(installations()[0], settings={"synchronous_commit": "on"}) as server:
        while time.monotonic() < ends:
            (phase, fault), delay = choice.choice(CELLS), choice.uniform(0, LONGEST)
            number = codes.total() + 1
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                scene = Scene(Path(folder), server, _starter(stack, Path(folder)))
                try:
                    code = run_anyhow(scene, phase, fault, delay)
                except AssertionError as error:
                    print(f"run {number}: {fault.name}, {delay:.3f} s after: {phase.name}\n{error}", file=sys.stderr)
                    return 1
                finally:
                    if server.pid is None:
                        server.start_up()
                    drop_all(server, database_of(scene.url))
            codes[fault.name, code] += 1
    for (name, code), times in sorted(codes.items()):
        print(f"{times:5}  {name}: {code}")
    print(f"{codes.total()} runs, no contradiction (seed {seed})")
    return 0


def _starter(stack: ExitStack, folder: Path) -> Starter:
    def start(
        *args: str, url: str | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Headstart:
        given = {**({} if url is None else {"DATABASE_URL": url}), **(env or {})}
        return stack.enter_context(Headstart(*args, env=environment(folder, given), cwd=cwd or folder))

    return start


if __name__ == "__main__":
    sys.exit(main())
