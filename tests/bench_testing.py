"""The rows of `make bench` on headstart.testing: a migrated database for one test, beside the usual way to get one.

rows += [Row(what, Measured(ours, 0), against, Measured(theirs, 0), bound) for ... in testing_group(project, rounds)]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import NamedTuple

_CONFTEST = 'pytest_plugins = ["headstart.testing"]\n'

# Run by pytest, since that is how the fixtures are had. What the two have in common, a server, is there already.
_TEST = """
import json, os, subprocess, sys, time
from pathlib import Path

def test_times(headstart_server, headstart_template):
    alembic = [str(Path(sys.executable).parent / "alembic"), "upgrade", "head"]

    def ours():
        with headstart_server.database(headstart_template):
            pass

    def theirs():
        with headstart_server.database() as url:
            subprocess.run(alembic, check=True, capture_output=True, env={**os.environ, "DATABASE_URL": url})

    took = {"ours": [], "theirs": []}
    for nth in range(int(os.environ["ROUNDS"]) + 1):  # the first of each warms up
        for work in (ours, theirs):
            began = time.perf_counter()
            work()
            if nth:
                took[work.__name__].append(time.perf_counter() - began)
    Path(os.environ["RESULT"]).write_text(json.dumps(took))
"""


class Timed(NamedTuple):
    """Seconds of each round, in turn: a copy made and dropped; an empty database, `alembic upgrade head`, dropped."""

    ours: list[float]
    theirs: list[float]


def testing_group(project: Path, rounds: int) -> Timed:
    """Time a copy of a migrated database, and what it replaces, on one and the same throw-away server.

    Args:
        project: folder of an Alembic project whose env.py reads DATABASE_URL.
        rounds: how many of each.
    """
    import json

    with tempfile.TemporaryDirectory(prefix="headstart-bench-testing-") as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
        (folder / "test_times.py").write_text(textwrap.dedent(_TEST), encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        result = folder / "result.json"
        environ = {
            **os.environ,
            "ALEMBIC_CONFIG": str(project / "alembic.ini"),
            "TMPDIR": tempfile.gettempdir(),  # where the other rows' files are
            "RESULT": str(result),
            "ROUNDS": str(rounds),
        }
        words = ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder / "test_times.py")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=project,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"the test that is timed failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return Timed(**json.loads(result.read_text(encoding="utf-8")))
