"""Headstart beside what it replaces, in one run: `make bench` prints the table that docs/performance.md holds.

Every row is a ratio of two commands that were run in turn on the same machine and server, so that whatever slows the
machine down slows both. Medians of wall time; peak memory is that of the command's own process.

    bench.py                 the table
    bench.py --write         also into docs/performance.md
    bench.py --only noop     one group of `Bench.groups`
    bench.py --megabytes 100 a smaller database for the backup rows
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import bench_schema
import bench_tenants
import bench_testing
from headstart.postgres.embedded import Embedded, installations
from support.engine import BASE, STOCK, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BIN = Path(sys.executable).parent
SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""As a server in production has them."""
PYTHON_IMAGE = "python:3.13-slim"

REVISION = '''"""revision {number}

Revision ID: {id}
Revises: {down}
Create Date: 2025-01-01 00:00:00

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


revision: str = "{id}"
down_revision: Union[str, Sequence[str], None] = {down_literal}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Upgrade schema."""
    op.create_table(
        "t{number}",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )
    op.create_index("ix_t{number}_name", "t{number}", ["name"])


def downgrade() -> None:
    """Downgrade schema."""
    op.drop_table("t{number}")
'''


class Measured(NamedTuple):
    """Seconds of wall time of each run, and the highest peak memory in MiB."""

    seconds: list[float]
    mebibytes: float
    output: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)


class Row(NamedTuple):
    """One line of the table: ours against theirs, and the bound that the project has set itself."""

    what: str
    ours: Measured
    against: str
    theirs: Measured
    bound: float | None = None

    @property
    def ratio(self) -> float:
        """Our time by theirs."""
        return self.ours.median / self.theirs.median


def main() -> int:
    """Measure, print, and say with the exit code whether every bound holds."""
    asked = _arguments()
    newest = next(one for one in installations() if (one.bindir / "psql").exists())
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="headstart-bench-") as folder,
        Embedded.start(newest, settings=SAFE) as server,
    ):
        bench = Bench(server, Path(folder))
        groups = bench.groups(asked.rounds, asked.megabytes)
        if asked.only not in {None, *groups}:
            raise SystemExit(f"there is no group {asked.only}: {', '.join(groups)}")
        for group, measure in groups.items():
            if asked.only in {None, group}:
                rows += measure()
        text = f"{_machine(newest.version)}\n\n{_table(rows)}\n"
    sys.stdout.write(text)
    if asked.write:
        _write(text)
    over = [row for row in rows if row.bound is not None and row.ratio > row.bound]
    for row in over:
        sys.stdout.write(f"over its bound: {row.what} against {row.against}: {row.ratio:.2f} > {row.bound}\n")
    return 1 if over else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--only", metavar="GROUP", help="measure one group")
    parser.add_argument("--rounds", type=int, default=15, help="runs of the quick commands (slow ones: a quarter)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the database that is backed up")
    return parser.parse_args()


def write_revisions(versions: Path, count: int) -> None:
    """Write so many revisions, each of which makes a table and an index."""
    before: str | None = None
    for number in range(count):
        revision = f"{number:012x}"
        text = REVISION.format(number=number, id=revision, down=before or "", down_literal=repr(before))
        (versions / f"{revision}_revision_{number}.py").write_text(text)
        before = revision


class Bench:
    """The measurements, on one server."""

    def __init__(self, server: Embedded, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._environ = {
            "PATH": f"{server.bindir}:{BIN}:{os.environ.get('PATH', '')}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "HEADSTART_LOG": "json",
        }

    def groups(self, rounds: int, megabytes: int) -> dict[str, Callable[[], list[Row]]]:
        """What can be measured; slow things are repeated less often."""
        few = max(rounds // 4, 3)
        return {
            "noop": lambda: [self.noop(count, rounds) for count in (5, 300, 1000)],
            "container": lambda: container(rounds),
            "pending": lambda: [self.pending(rounds), self.pending(few, importing=1.0)],
            "apply": lambda: [*self.apply(100, few), *self.apply(1000, few)],
            "backup": lambda: self.backup(megabytes, few),
            "schema": lambda: self.schema(few),
            "tenants": lambda: self.tenants(max(rounds // 6, 1)),
            "testing": lambda: [self.testing(rounds)],
            "check": lambda: [self.check()],
        }

    def noop(self, count: int, rounds: int) -> Row:
        """A database that is at head already."""
        project = self._project(count)
        url = self._fresh("noop")
        self._run(["headstart", "up"], project, {"DATABASE_URL": url, "HEADSTART_BACKUP": "off"})
        ours, theirs = _in_turn(
            rounds,
            lambda: self._run(["headstart", "up"], project, {"DATABASE_URL": url}),
            lambda: self._run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": url}),
        )
        bound = {5: 0.30, 1000: 0.30}.get(count)
        return Row(f"no-op, {count} revisions", ours, "alembic upgrade head, async template", theirs, bound)

    def pending(self, rounds: int, *, importing: float = 0.0) -> Row:
        """One revision is pending, and no backup is taken; env.py may import an app that takes its time."""
        project = self._project(5)
        environ = {"HEADSTART_BACKUP": "off"}
        what = "one pending revision"
        if importing:
            project = self._project(5, name="importing")
            (project / "app.py").write_text(f"import time\n\ntime.sleep({importing})\n")
            env = project / "migrations" / "env.py"
            env.write_text(f"import app  # noqa: F401\n{env.read_text()}")
            what = f"{what}, env.py imports for {importing:g} s"
        template = self._fresh("one_pending")
        self._run(["alembic", "upgrade", "head-1"], project, {"DATABASE_URL": template})
        ours, theirs = _in_turn(
            rounds,
            lambda: self._run(["headstart", "up"], project, {**environ, "DATABASE_URL": self._copied("ours")}),
            lambda: self._run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": self._copied("theirs")}),
        )
        return Row(what, ours, "alembic upgrade head, async template", theirs, 1.25)

    def apply(self, count: int, rounds: int) -> list[Row]:
        """An empty database is brought to head."""
        project = self._project(count)
        each = self._project(count, name="each", configure="transaction_per_migration=True, ")
        script = self._script(project)
        environ = {"HEADSTART_BACKUP": "off"}
        ours, theirs, at_once, floor = _in_turn(
            rounds,
            lambda: self._run(["headstart", "up"], project, {**environ, "DATABASE_URL": self._fresh("ours")}),
            lambda: self._run(["alembic", "upgrade", "head"], each, {"DATABASE_URL": self._fresh("theirs")}),
            lambda: self._run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": self._fresh("at_once")}),
            lambda: self._run(
                ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(script), self._fresh("psql")], project, {}
            ),
        )
        what = f"apply {count} revisions"
        bound = 1.0 if count == 1000 else None
        return [
            Row(what, ours, "alembic upgrade head, async template, a transaction each", theirs, bound),
            Row(what, ours, "alembic upgrade head, async template, one transaction", at_once),
            Row(what, ours, "psql, the same statements, a transaction each", floor),
        ]

    def backup(self, megabytes: int, rounds: int) -> list[Row]:
        """A database of some size is dumped."""
        url = self._fresh("data")
        self._fill(url, megabytes)
        backups, bare, piped = (self._folder / name for name in ("backups", "bare", "piped"))
        jobs = str(min(os.cpu_count() or 1, 4))

        def plain() -> Measured:
            shutil.rmtree(bare, ignore_errors=True)
            argv = ["pg_dump", "--format=directory", f"--jobs={jobs}", "--compress=gzip:1", f"--file={bare}", url]
            return self._run(argv, self._folder, {})

        def mine() -> Measured:
            environ = {
                "DATABASE_URL": url,
                "HEADSTART_BACKUP_DIR": str(backups),
                "HEADSTART_BACKUP_KEEP": "1",
                "HEADSTART_BACKUP_JOBS": jobs,
            }
            return self._run(["headstart", "backup"], self._folder, environ)

        def pipe() -> Measured:
            return self._run(["sh", "-c", 'pg_dump "$0" | gzip > "$1"', url, str(piped)], self._folder, {})

        # The two that are close to each other are run more often: a single one varies by a tenth.
        ours, theirs = _in_turn(2 * rounds + 1, mine, plain)
        ours_again, piping = _in_turn(rounds, mine, pipe)
        what = f"back up {megabytes} MB"
        return [
            Row(what, ours, f"pg_dump --jobs={jobs}, the same compression", theirs, 1.15),
            Row(what, ours_again, "pg_dump \\| gzip", piping, 0.35),
        ]

    def schema(self, rounds: int) -> list[Row]:
        """An empty database is brought to the end of a history of 300 revisions that change 20 tables."""
        project = self._project(300, name="evolving", write=bench_schema.evolve)
        took = bench_schema.loading(self._run, self._fresh, project, rounds)
        what = f"load the schema file of 300 revisions on {bench_schema.TABLES} tables"
        return [
            Row(what, Measured(took.ours, 0), "alembic upgrade head", Measured(took.theirs, 0)),
            Row(f"{what}: the work", Measured(took.load, 0), "running them: the work", Measured(took.replay, 0), 0.10),
        ]

    def tenants(self, rounds: int) -> list[Row]:
        """200 schemas of one database, three pending revisions each."""
        assert self._server.pid is not None  # it runs
        took = bench_tenants.tenants(self._run, self._fresh, self._server.pid, self._project(3), rounds)
        what = f"{bench_tenants.COUNT} tenants, 3 revisions each"
        ours = Measured(took.ours, 0)
        crowd = f"{bench_tenants.ROWS:,} rows of others in the ledger"
        return [
            Row(what, ours, "a loop of alembic upgrade head", Measured(took.theirs, 0), 0.10),
            Row(f"{what}, {crowd}", Measured(took.crowded, 0), "none of them", ours, 1.15),
            Row(
                "one of these tenants: CPU time of the server",
                Measured(took.our_server, 0),
                "alembic upgrade head",
                Measured(took.their_server, 0),
                1.5,
            ),
        ]

    def testing(self, rounds: int) -> Row:
        """A migrated database for one test: a copy."""
        ours, theirs = bench_testing.testing_group(self._project(100), rounds)
        what = "a database for one test, 100 revisions"
        return Row(what, Measured(ours, 0), "an empty one and alembic upgrade head", Measured(theirs, 0))

    def check(self) -> Row:
        """The reference project, all checks."""
        environ = {"HEADSTART_SCRATCH_URL": self._server.url()}
        ours = [self._run(["headstart", "check"], ROOT, environ).seconds[0] for _ in range(3)]
        return Row("check, the reference project", Measured(ours, 0), "30 s", Measured([30.0], 0), 1.0)

    def _run(self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Measured:
        """One command to its end, which must be a good one."""
        log = self._folder / "output"
        with log.open("wb") as output:
            started = time.perf_counter()
            child = subprocess.Popen(argv, cwd=cwd, env={**self._environ, **environ}, stdout=output, stderr=output)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(
                f"{' '.join(argv)} ended with {child.returncode}:\n{log.read_text(errors='replace')[-2000:]}"
            )
        return Measured([seconds], usage.ru_maxrss / 1024, log.read_text(errors="replace"))

    def _fresh(self, name: str) -> str:
        """The URL of an empty database of that name."""
        for sql in (f"drop database if exists {name} with (force)", f"create database {name}"):
            self._run(["psql", "-qX", "-c", sql, self._server.url()], self._folder, {})
        return self._server.url(name)

    def _copied(self, name: str) -> str:
        """The URL of a copy of the database at which one revision is pending."""
        for sql in (
            f"drop database if exists {name} with (force)",
            f"create database {name} template one_pending",
        ):
            self._run(["psql", "-qX", "-c", sql, self._server.url()], self._folder, {})
        return self._server.url(name)

    def _project(
        self,
        count: int,
        *,
        name: str = "project",
        write: Callable[[Path, int], None] = write_revisions,
        configure: str = "",
    ) -> Path:
        """A project as `alembic init -t async` writes it, with so many revisions.

        Args:
            count: how many.
            name: of its folder.
            write: writes them.
            configure: what context.configure is given besides.
        """
        project = self._folder / f"{name}{count}"
        if project.exists():
            return project
        project.mkdir()
        self._run(["alembic", "init", "-t", "async", "migrations"], project, {})
        env = project / "migrations" / "env.py"
        line = (
            "import os\n"
            'url = os.environ.get("DATABASE_URL", "postgresql://")\n'
            'url = url.replace("postgresql://", "postgresql+asyncpg://", 1)\n'
            'config.set_main_option("sqlalchemy.url", url)\n'
        )
        text = env.read_text().replace("config = context.config\n", f"config = context.config\n{line}", 1)
        env.write_text(text.replace("connection=connection, ", f"connection=connection, {configure}"))
        write(project / "migrations" / "versions", count)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(project)], check=True)
        return project

    def _script(self, project: Path) -> Path:
        """What Alembic would send, with a transaction for each revision."""
        argv = [str(BIN / "alembic"), "upgrade", "head", "--sql"]
        printed = subprocess.run(
            argv, cwd=project, env=self._environ, check=True, capture_output=True, text=True
        ).stdout
        parts = re.split(r"(?m)^(?=-- Running upgrade)", re.sub(r"(?m)^(BEGIN|COMMIT);$", "", printed))
        script = project / "script.sql"
        script.write_text("".join(f"BEGIN;\n{part}\nCOMMIT;\n" for part in parts))
        return script

    def _fill(self, url: str, megabytes: int) -> None:
        """Four tables of the kind that applications have: numbers, times, and text that compresses as text does."""
        rows = megabytes * 1024 * 1024 // 4 // 190
        for number in range(4):
            sql = (
                f"create table events{number} (id bigint primary key, happened_at timestamptz not null,"
                " kind text not null, amount numeric(20, 8) not null, note text not null);"
                f" insert into events{number} select g, timestamptz '2025-01-01' + g * interval '1 second',"
                " (array['order', 'signal', 'fill', 'cancel'])[1 + g % 4], (hashint8(g)::numeric / 1000),"
                f" md5(g::text) || ' ' || md5((g % 1000)::text) || ' of account ' || (g % 5000)"
                f" from generate_series(1, {rows}) g"
            )
            self._run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", sql, url], self._folder, {})
        self._run(["psql", "-qX", "-c", "vacuum analyze", url], self._folder, {})


def container(rounds: int) -> list[Row]:
    """A container whose database is at head, from `docker run` to its end; no row where there is no engine."""
    if why := Engine.missing():
        sys.stdout.write(f"no container was started: {why}\n")
        return []
    engine = Engine()
    engine.stand_in(BASE, PYTHON_IMAGE)
    image = engine.build_own(STOCK, "stock")
    with engine.network() as network, engine.postgres(network) as server:
        options = ["--network", network]
        environ = {"DATABASE_URL": server.url()}

        def timed(*words: str) -> Measured:
            started = time.perf_counter()
            done = engine.run(*words, options=options, env=environ)
            if done.code != 0:
                raise SystemExit(f"{' '.join(words)}\n{done}")
            return Measured([time.perf_counter() - started], 0)

        # The first one brings the database to head.
        ours, theirs = _in_turn(rounds, lambda: timed(image), lambda: timed(PYTHON_IMAGE, "python3", "-c", "pass"))
    return [Row("container, nothing pending", ours, "docker run, python3 -c pass", theirs, 1.30)]


def _in_turn(rounds: int, *runs: Callable[[], Measured]) -> list[Measured]:
    """Run each once to warm up, then all in turn, so that every round sees the same machine."""
    for run in runs:
        run()
    taken: list[list[Measured]] = [[] for _ in runs]
    for _ in range(rounds):
        for index, run in enumerate(runs):
            taken[index].append(run())
    return [Measured([one.seconds[0] for one in each], max(one.mebibytes for one in each)) for each in taken]


def _machine(version: str) -> str:
    names: dict[str, Any] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = dict(re.findall(r"(?m)^(model name)\s*:\s*(.+)$", cpuinfo.read_text()))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"Measured on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        f" ({names.get('model name', 'unknown processor')}), {memory:.0f} GiB of memory;"
        f" CPython {platform.python_version()}, PostgreSQL {version} on it too, fsync on."
    )


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| what | Headstart | against | takes | ratio | bound | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.what} | {_time(row.ours)} | {row.against} | {_time(row.theirs)} | **{row.ratio:.2f}** |"
        f" {'' if row.bound is None else f'{row.bound:.2f}'} |"
        f" {_memory(row)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _time(measured: Measured) -> str:
    return f"{measured.median:.2f} s" if measured.median >= 1 else f"{measured.median * 1000:.0f} ms"


def _memory(row: Row) -> str:
    return f"{row.ours.mebibytes:.0f} against {row.theirs.mebibytes:.0f} MiB" if row.ours.mebibytes else ""


def _write(text: str) -> None:
    begin, end = "<!-- measured -->", "<!-- end measured -->"
    page = PAGE.read_text()
    before, after = page[: page.index(begin)], page[page.index(end) :]
    PAGE.write_text(f"{before}{begin}\n{text}{after}")


if __name__ == "__main__":
    sys.exit(main())
