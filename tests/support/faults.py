"""What goes wrong, made to happen at a moment of our choosing: the phases of a run, and who else is in the database.

A `Scene` is a database at revision r1 with a project whose r2 is quick, whose r3 stops where a `Phase` says so, and
whose r4 comes after. Each revision writes its name into `journal`, so that one that is applied twice, or not at all,
shows.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import asyncpg

from support.postgres import psql, script
from support.project import Project, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from support.postgres import Postgres
    from support.process import Headstart, Run

GROUND = """
create table alembic_version (version_num varchar(32) not null primary key);
insert into alembic_version values ('r1');
create table journal (revision text, at timestamptz default clock_timestamp());
create table item (id int primary key, name varchar(100));
insert into item select n, 'item ' || n from generate_series(1, 1000) n;
create function linger() returns trigger language plpgsql as 'begin perform pg_sleep(60); return null; end';
create function stubborn() returns trigger language plpgsql as
    'begin begin perform pg_sleep(60); exception when query_canceled then null; end; return null; end';
create function until_told() returns void language plpgsql as $$ begin
    while not exists (select from pg_stat_activity where datname = current_database() and application_name = 'go on')
    loop perform pg_sleep(0.02), pg_stat_clear_snapshot(); end loop; end $$;
create function waits() returns trigger language plpgsql as 'begin perform until_told(); return null; end';
"""

GO_ON = "go on"
"""The name of the session that `until_told` waits for."""

_ROWS = "insert into {} select n, repeat(md5(n::text || random()::text), 8) from generate_series(1, 300000) n;"
BULK = "".join(f"create table {name} (id int, noise text); {_ROWS.format(name)}" for name in ("bulk_a", "bulk_b"))
"""Two tables that take pg_dump a second or two: 160 MB that hardly compress."""

SESSIONS = """
select pid, application_name, state, coalesce(wait_event_type, '') as waits, coalesce(wait_event, '') as on,
       query from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and application_name <> 'bystander'
"""


class Session(NamedTuple):
    """A session in the database that is neither ours nor a bystander's."""

    pid: int
    name: str
    state: str | None
    waits: str
    on: str
    query: str


def sessions(url: str) -> list[Session]:
    """Who is connected to the database of `url`."""
    return [Session(*row) for row in psql(url, SESSIONS)]


def at_work(url: str, text: str, *, on: str = "") -> Session:
    """Wait until a session runs a statement that holds `text`, and waits on what `on` says."""

    def look() -> Session | None:
        found = (one for one in sessions(url) if one.state == "active" and re.search(text, one.query, re.IGNORECASE))
        return next((one for one in found if on in {"", one.on, one.waits}), None)

    return eventually(look, f"a session that runs {text}")


def advisory_locks(url: str) -> int:
    """How many advisory locks are held in the database."""
    query = "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
    return int(psql(url, f"{query} where l.locktype = 'advisory' and d.datname = current_database()")[0][0])


def nothing_left(url: str, *, seconds: float = 5) -> float:
    """Wait until no session and no advisory lock of a run is left; how many seconds that took."""
    began = time.monotonic()
    eventually(lambda: not sessions(url) and not advisory_locks(url), "an empty database", seconds=seconds)
    return time.monotonic() - began


def processes(home: Path) -> list[str]:
    """The command lines of all processes that have `home` for their HOME: a run's, and its pg_dump's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if f"HOME={home}".encode() in environ:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def worker_of(home: Path) -> int:
    """The process in which env.py runs: the fork of the worker of a run that has `home` for its HOME."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"headstart.worker.child" not in (folder / "cmdline").read_bytes():
                continue
            if f"HOME={home}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    [fork] = [pid for pid, parent in parents.items() if parent in parents and parents[parent] not in parents]
    return fork


def whole_backups(folder: Path) -> list[str]:
    """The names of the backups in a HEADSTART_BACKUP_DIR that stand under their final names."""
    return [path.name for path in folder.glob("*/*") if not path.name.startswith(".")]


def partial_backups(folder: Path) -> list[str]:
    """What is there under a temporary name."""
    return [path.name for path in folder.glob("*/.*")]


@contextmanager
def bystander(url: str, *statements: str) -> Iterator[Callable[[], None]]:
    """Another session, which has run the statements in a transaction that it keeps open until the given call."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url, server_settings={"application_name": "bystander"}))
    try:
        for statement in ("begin", *statements):
            loop.run_until_complete(connection.execute(statement))

        def leave() -> None:
            if not connection.is_closed():
                loop.run_until_complete(connection.close(timeout=5))

        yield leave
        leave()
    finally:
        connection.terminate()
        loop.close()


class Phase(NamedTuple):
    """Where r3 stops, as long as the variable SLOW is set.

    Attributes:
        body: Python of the revision, run before it writes its name into the journal.
        running: what the statement looks like that pg_stat_activity has to show at work.
        on: the wait event, or its type, that it has to show too.
        logged: or the event that the log has to show instead.
        blocker: a statement of a bystander's, who keeps its transaction open.
        env: further variables.
        template: of Alembic's, for env.py.
        head: code for env.py.
        engine: what env.py connects by instead, in Python.
    """

    body: str
    running: str = ""
    on: str = ""
    logged: str = ""
    blocker: str = ""
    env: Mapping[str, str] = {}
    template: str = "generic"
    head: str = ""
    engine: str = ""


_SLEEP = "op.execute('select pg_sleep(60)')"
_CONCURRENTLY = """
with op.get_context().autocommit_block():
    op.execute("drop index concurrently if exists item_name")
    op.execute("create index concurrently item_name on item (name)")
"""
_COMMIT = """
op.execute("create constraint trigger slow after insert on item deferrable initially deferred"
           " for each row execute function linger()")
op.execute("insert into item values (-1)")
"""
PSYCOPG2 = (
    "create_engine(os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg2:'), poolclass=pool.NullPool)"
)

STATEMENTS: Mapping[str, Phase] = {
    "sleep": Phase(_SLEEP, running="pg_sleep", on="PgSleep"),
    "sleep in an async env.py": Phase(_SLEEP, running="pg_sleep", on="PgSleep", template="async"),
    "script": Phase(
        "op.execute('insert into item values (-1); select pg_sleep(60); insert into item values (-2)')",
        running="pg_sleep",
        on="PgSleep",
    ),
    "query": Phase("op.get_bind().scalar(sa.text('select pg_sleep(:s) is null'), {'s': 60})", running="pg_sleep"),
    "rewrite": Phase(
        "op.execute('alter table item alter name type varchar(200) using name || pg_sleep(0.1)::text')",
        running="^alter table item",
        on="PgSleep",
    ),
    "table lock": Phase(
        "op.execute('alter table item add more int')",
        running="^alter table item",
        on="Lock",
        blocker="lock table item in access share mode",
        env={"HEADSTART_TABLE_LOCK_TIMEOUT": "60s"},
    ),
    "concurrent index": Phase(
        _CONCURRENTLY,
        running="^create index concurrently",
        on="Lock",
        blocker="insert into item values (0, 'not committed')",
    ),
    "autocommit": Phase(
        f"with op.get_context().autocommit_block():\n    {_SLEEP}",
        running="pg_sleep",
        on="PgSleep",
    ),
    "commit": Phase(_COMMIT, running=r"^commit", on="PgSleep"),
}
"""While Postgres is at work."""

PYTHON: Mapping[str, Phase] = {
    "time.sleep": Phase("print('here')\nimport time\ntime.sleep(60)", logged="script_output"),
    "busy loop": Phase("print('here')\nwhile True: pass", logged="script_output"),
    "env.py": Phase(
        "pass",
        head="import os, time\nif os.environ.get('SLOW'):\n    print('here')\n    time.sleep(60)",
        logged="script_output",
    ),
    "psycopg2": Phase(_SLEEP, running="pg_sleep", on="PgSleep", engine=PSYCOPG2),
    "psycopg": Phase(_SLEEP, running="pg_sleep", on="PgSleep", engine=PSYCOPG2.replace("psycopg2", "psycopg")),
}
"""While the worker cannot listen: it runs a revision's Python, or is blocked in a driver's C."""


class Starter(Protocol):
    """The fixture `start_headstart`."""

    def __call__(
        self, *args: str, url: str | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Headstart:
        """As `StartHeadstart` says."""


class Scene:
    """A database at r1, a project whose head is r4, and runs that bring the one to the other.

    Args:
        folder: for the project, the backups, and the runs' HOME.
        server: where the database is made.
        start: the fixture `start_headstart`.
        bulk: whether the database holds the large tables too.
    """

    def __init__(self, folder: Path, server: Postgres, start: Starter, *, bulk: bool = False) -> None:
        key = "faults, with bulk" if bulk else "faults"
        template = server.template(key, lambda url: script(url, GROUND + (BULK if bulk else "")))
        self.url = server.create_database(template=template)
        self.server = server
        self.folder = folder
        self.home = folder / "home"
        self.backups = folder / "backups"
        self.variables = {
            "PATH": f"{server.bindir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # for its pg_dump
            "HOME": str(self.home),
            "HEADSTART_BACKUP_DIR": str(self.backups),
        }
        self._start = start
        self.home.mkdir()

    def project(self, phase: Phase, *, name: str = "project") -> Project:
        """Write the project, with r3 stopping at the phase."""
        (self.folder / name).mkdir()
        project = Project(self.folder / name, template=phase.template)
        project.revision("r1")
        project.revision("r2", journal("r2"))
        slow = "import os\nif os.environ.get('SLOW'):\n"
        body = "".join(f"    {line}\n" for line in phase.body.strip().splitlines())
        if "autocommit_block" in phase.body:  # it commits what comes before it
            project.revision("r3", body=f"{slow}{body}op.execute({journal('r3')!r})")
        else:
            project.revision("r3", body=f"op.execute({journal('r3')!r})\n{slow}{body}")
        project.revision("r4", journal("r4"))
        if phase.head:
            project.in_env(phase.head)
        if phase.engine:
            engine_by(project, phase.engine)
        return project

    def start(self, *args: str, url: str | None = None, project: str = "project", **env: str) -> Headstart:
        """Start `headstart up`, or what is given, in the project."""
        given = self.variables | {"HEADSTART_BACKUP": "off"} | env
        return self._start(*(args or ("up",)), url=url or self.url, env=given, cwd=self.folder / project)

    @contextmanager
    def stopped_at(self, phase: Phase, **env: str) -> Iterator[Headstart]:
        """A run that has arrived at the phase. What blocks it leaves with the block."""
        self.project(phase)
        with ExitStack() as stack:
            if phase.blocker:
                stack.enter_context(bystander(self.url, phase.blocker))
            process = stack.enter_context(self.start(SLOW="1", **phase.env, **env))
            if phase.running:
                at_work(self.url, phase.running, on=phase.on)
            else:
                process.wait_for(phase.logged)
            yield process

    def again(self, **env: str) -> Run:
        """Run once more, without what slows it, and see that every revision has been applied, and recorded, once.

        What was ended while it built an index has left it INVALID: that is mended before, as each run says.
        """
        script(self.url, "drop index if exists item_name")
        with self.start(**env) as process:
            run = process.finish(seconds=30)
        assert run.code == 0, run
        assert recorded(self.url) == ["r4"], run
        assert self.journal() == ["r2", "r3", "r4"], run
        assert self.ledger() == ["r2", "r3", "r4"], run
        return run

    def journal(self) -> list[str]:
        """What the revisions have written, in order."""
        return [row[0] for row in psql(self.url, "select revision from journal order by at")]

    def ledger(self) -> list[str]:
        """What the ledger says was applied, in order."""
        query = "select revision from headstart.ledger where action = 'applied' order by id"
        return [row[0] for row in psql(self.url, query)]

    def drop(self) -> None:
        """Drop the database."""
        self.server.drop_database(self.url)


def journal(revision: str) -> str:
    """The statement by which a revision says that it was run."""
    return f"insert into journal values ('{revision}')"


def engine_by(project: Project, engine: str) -> None:
    """Let a generic env.py connect by an engine of its own.

    Args:
        project: of the generic template.
        engine: a Python expression.
    """
    text = project.env.read_text(encoding="utf-8")
    new, count = re.subn(r"engine_from_config\(\s.*?\n    \)\n", f"{engine}\n", text, flags=re.DOTALL)
    assert count == 1, "Alembic's template has changed"
    project.env.write_text(f"import os\nfrom sqlalchemy import create_engine\n{new}", encoding="utf-8")


def interrupt(process: Headstart, signum: signal.Signals) -> tuple[Run, float]:
    """Send a signal, and return how the run ended and how many seconds after the signal."""
    sent = time.monotonic()
    process.send(signum)
    run = process.finish(seconds=30)
    return run, time.monotonic() - sent


def failed(run: Run, *codes: int) -> dict[str, Any]:
    """See that a run reported its end by itself, in words, and return its last line."""
    assert run.code in codes, run
    assert run.last["event"] == "run_finished", run
    assert run.last["exit_code"] == run.code, run
    assert "Traceback" not in run.stderr, run
    return run.last
