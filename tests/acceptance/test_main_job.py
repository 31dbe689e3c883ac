"""The main job through the real process: what a no-op leaves alone, backups, scripts, and the program that follows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended, path_of, planted
from support.postgres import psql, script
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project

pytestmark = [pytest.mark.fresh, pytest.mark.backed_up]

# What a no-op may load besides the standard library, and how much in all: each start of a container pays for it.
NO_OP_PACKAGES = {"headstart", "asyncpg", "greenlet", "msgspec", "structlog", "typing_extensions"}
NO_OP_HEAVY = {"argparse", "difflib", "tomllib", "tempfile", "sqlite3", "http", "xml", "unittest"}
NO_OP_ROOMS = {
    *{"__main__", "cli", "cli.arguments", "cli.main", "cli.output", "cli.signals", "cli.verbs"},
    *{"cli.verbs.up", "commands"},
    *{"errors", "errors.exits", "errors.tree", "history", "history.baseline", "history.environment", "history.files"},
    *{"history.graph", "history.history", "history.options", "history.plan", "history.project", "history.source"},
    *{"history.syntax", "ledger", "ledger.read", "ledger.trust", "log", "log.logger", "log.secret", "postgres"},
    *{"postgres.connection", "postgres.diagnosis", "postgres.lock", "postgres.readiness", "postgres.server"},
    *{"postgres.version_table", "settings", "settings.conninfo", "settings.dsn", "settings.durations"},
    *{
        "settings.files",
        "settings.machine",
        "settings.resolve",
        "settings.settings",
        "settings.table",
        "settings.tls",
        "settings.version",
        "steps",
    },
    *{
        "steps.attempt",
        "steps.compare",
        "steps.connect",
        "steps.indexes",
        "steps.outcome",
        "steps.record",
    },
    *{
        "steps.record",
        "steps.run",
        "steps.stage",
        "commands.up",
        "postgres.indexes",
        "postgres.table_trust",
        "log.printable",
    },
}
NO_OP_MODULES = 300
NOTE_MODULES = """\
import atexit, os, sys
leave = os._exit
def note():
    with open("modules", "w") as file:
        file.write(" ".join(sys.modules))
atexit.register(note)
os._exit = lambda code: (note(), leave(code))
"""


# -- nothing pending --------------------------------------------------------------------------------------------------


def test_no_op_only_selects(project: Project, headstart: Callable[..., Run], start_server: StartServer) -> None:
    """With nothing pending the server sees a connection and a few selects: no lock, no write, no transaction."""
    server = start_server(settings={"log_statement": "all", "log_line_prefix": "<%a> "})
    project.revision("a1", "create table a (id int)")
    ended(headstart("up", url=server.url()), 0)
    before = len(server.log_text())
    run = headstart("up", url=server.url())
    assert ended(run, 0)["applied"] == []
    lines = [line for line in server.log_text()[before:].splitlines() if "headstart" in line]
    statements = [match[1] for line in lines if (match := re.search(r"LOG:  (?:statement|execute [^:]+): (.*)", line))]
    assert 1 <= len(statements) <= 7, lines
    # Those that begin on their second line are `with` queries, which write nothing: the session would say so.
    assert all(not each or each.lower().startswith("select ") for each in statements), statements
    assert not any("advisory" in each for each in statements), statements
    assert not run.events("lock_obtained")


def test_no_op_imports(project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
    """With nothing pending neither Alembic, SQLAlchemy nor argparse is imported, and little else is."""
    project.revision("a1", "create table a (id int)")
    ended(headstart("up", url=any_database), 0)
    ended(headstart("up", url=any_database, env=planted(tmp_path, NOTE_MODULES)), 0)
    loaded = set((tmp_path / "modules").read_text(encoding="utf-8").split()) - {"__main__"}
    packages = {name.partition(".")[0] for name in loaded}
    site = {
        name
        for name in packages
        if name.startswith(("__editable__", "_virtualenv", "_distutils_hack", "_cython", "cython"))
    }
    assert packages - set(sys.stdlib_module_names) - NO_OP_PACKAGES - site == {"sitecustomize"}
    assert packages & NO_OP_HEAVY == set()
    assert {name.partition(".")[2] for name in loaded if name.startswith("headstart.")} <= NO_OP_ROOMS
    assert len(loaded) <= NO_OP_MODULES, f"{len(loaded)} modules"


def test_no_op_needs_no_backup_folder(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """With nothing pending no folder is made and no pg_dump looked for; HEADSTART_BACKUP=always is about upgrades."""
    project.revision("a1", "create table a (id int)")
    ended(headstart("up", url=any_database), 0)
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database, env={"HEADSTART_BACKUP": "always", "PATH": "/nonexistent"}), 0)
    assert last["backup"] is None
    assert not (tmp_path / "backups").exists()
    assert fingerprint(any_database) == before


def test_a_target_behind_the_database_is_a_no_op(
    project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """`up` never goes down: a target that the database is beyond already leaves it where it is."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)", undo=["drop table b"])
    ended(headstart("up", url=any_database), 0)
    last = ended(headstart("up", "--target", "a1", url=any_database), 0)
    assert (last["applied"], last["revision_after"]) == ([], "b2")
    assert recorded(any_database) == ["b2"]


def test_a_target_on_the_way(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """HEADSTART_TARGET stops at a revision, or goes so many steps."""
    for ident in ("aaaa1111", "bbbb2222", "cccc3333"):
        project.revision(ident, f"create table {ident} (id int)")
    assert ended(headstart("up", "--target", "aaaa", url=any_database), 0)["revision_after"] == "aaaa1111"
    last = ended(headstart("up", url=any_database, env={"HEADSTART_TARGET": "+1", "HEADSTART_BACKUP": "off"}), 0)
    assert last["applied"] == ["bbbb2222"]


# -- backups ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_way(project: Project, any_database: str) -> str:
    """A database at a1 with a row of the user's, of a project that goes on to b2."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)")
    script(
        any_database,
        "create table a (id int); insert into a values (42);"
        "create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);"
        "insert into alembic_version values ('a1')",
    )
    return any_database


def test_backup_auto(
    project: Project, headstart: Callable[..., Run], half_way: str, tmp_path: Path, any_server: Postgres
) -> None:
    """`auto` takes a backup before an upgrade, from before it, and it restores with pg_restore as it is."""
    last = ended(headstart("up", url=half_way), 0)
    [path] = [one.parent for one in (tmp_path / "backups").rglob("manifest.json")]
    assert (tmp_path / last["backup"]).resolve() == path.resolve()
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["revision_before"], manifest["revision_intended"]) == (["a1"], ["b2"])
    assert {proof["kind"] for proof in manifest["proofs"]} == {"checksummed", "listed"}
    assert manifest["run_id"] == last["run_id"]
    copy = any_server.create_database()
    subprocess.run(
        ["pg_restore", "--no-password", "--dbname", copy, path / "dump"],
        check=True,
        env={"PATH": path_of(any_server)},
    )
    assert psql(copy, "select id from a") == [(42,)]
    assert recorded(copy) == ["a1"]
    any_server.drop_database(copy)


def test_backup_of_nothing(project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
    """`auto` takes no backup of a database that holds nothing, and says so; `always` does."""
    project.revision("a1", "create table a (id int)")
    run = headstart("up", url=any_database)
    assert ended(run, 0)["backup"] is None
    assert run.events("backup_skipped")
    assert not (tmp_path / "backups").exists()
    script(any_database, "drop table a, alembic_version")
    last = ended(headstart("up", "--backup", "always", url=any_database), 0)
    assert (tmp_path / last["backup"] / "manifest.json").exists()


def test_backup_off(project: Project, headstart: Callable[..., Run], half_way: str, tmp_path: Path) -> None:
    """`off` takes none, needs no pg_dump, and says so."""
    run = headstart("up", url=half_way, env={"HEADSTART_BACKUP": "off", "PATH": "/nonexistent"})
    assert ended(run, 0)["backup"] is None
    [skipped] = run.events("backup_skipped")
    assert "HEADSTART_BACKUP=off" in skipped["reason"]
    assert not (tmp_path / "backups").exists()


def test_backup_in_a_crash_loop(project: Project, headstart: Callable[..., Run], half_way: str, tmp_path: Path) -> None:
    """A step that fails again and again does not fill the disk: its first backup and its newest one are kept."""
    project.revision("c3", "this is not SQL")
    script(half_way, "update alembic_version set version_num = 'b2'")
    older = ended(headstart("backup", url=half_way), 0)["backup"]
    taken = [ended(headstart("up", url=half_way), 60)["backup"] for _ in range(4)]
    kept = {one.parent.resolve() for one in (tmp_path / "backups").rglob("manifest.json")}
    assert kept == {(tmp_path / name).resolve() for name in (older, taken[0], taken[-1])}


def test_backup_keep(project: Project, headstart: Callable[..., Run], half_way: str, tmp_path: Path) -> None:
    """HEADSTART_BACKUP_KEEP bounds how many stay, the newest ones, and pruning comes after the new one is whole."""
    taken = [ended(headstart("backup", "--backup-keep", "2", url=half_way), 0)["backup"] for _ in range(3)]
    kept = sorted(one.parent.name for one in (tmp_path / "backups").rglob("manifest.json"))
    assert kept == [name.rpartition("/")[2] for name in taken[-2:]]


# -- scripts ----------------------------------------------------------------------------------------------------------


def test_several_statements(project: Project, headstart: Callable[..., Run], server: Postgres, database: str) -> None:
    """One execute may hold several statements, functions with semicolons in them, and comments."""
    project.revision(
        "a1",
        """
        create table a (id int primary key, note text); -- with a comment; and a semicolon
        create function twice(n int) returns int language plpgsql as $body$
        begin
            return n * 2; -- another;
        end
        $body$;
        insert into a select n, 'a;b ''quoted''' from generate_series(1, twice(2)) n;
        /* the; last */ create index on a (note);
        """,
    )
    ended(headstart("up", url=database), 0)
    assert psql(database, "select count(*), min(note) from a") == [(4, "a;b 'quoted'")]


def test_a_whole_dump(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
) -> None:
    """A revision may execute a whole pg_dump file, COPY data and all; what it sets for the session does not stay."""
    source = any_server.create_database()
    script(
        source,
        "create schema shop; create type shop.kind as enum ('x', 'y');"
        "create table shop.item (id serial primary key, kind shop.kind default 'x', note text);"
        "insert into shop.item (note) values (null), (E'tab\\tand\\nline; and \\\\.'), ('ümlaut');"
        "create view shop.v as select * from shop.item",
    )
    dump = tmp_path / "dump.sql"
    env = {"PATH": path_of(any_server)}
    subprocess.run(["pg_dump", "--no-owner", "--file", dump, source], check=True, env=env)
    project.revision("a1", body=f"op.execute(open({str(dump)!r}).read())")
    project.revision("b2", "create table unqualified (id int)")
    ended(headstart("up", url=any_database), 0)
    assert psql(any_database, "table shop.v") == psql(source, "table shop.v")
    assert psql(any_database, "select 'public.unqualified'::regclass::text") == [("unqualified",)]
    any_server.drop_database(source)


# -- the program that follows -----------------------------------------------------------------------------------------


def test_command_takes_over(project: Project, begin: Callable[..., tuple[int, Run]], any_database: str) -> None:
    """`up -- CMD` becomes CMD: the same process, the whole environment, the words as they are, its exit code."""
    project.revision("a1", "create table a (id int)")
    code = (
        "import os, sys; print(os.getpid(), os.environ['MINE'], os.environ['DATABASE_URL'], sys.argv[1:]); sys.exit(7)"
    )
    pid, run = begin("up", "--", sys.executable, "-c", code, "a b", "--", "$HOME", url=any_database, env={"MINE": "1"})
    assert run.code == 7, str(run)
    assert run.stdout == f"{pid} 1 {any_database} {['a b', '--', '$HOME']}\n"
    assert run.last["event"] == "run_finished"
    assert recorded(any_database) == ["a1"]


def test_command_follows_a_no_op(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """CMD follows when there was nothing to do, too, and is found on PATH."""
    project.revision("a1")
    ended(headstart("up", url=any_database), 0)
    run = headstart("up", "--", "echo", "started", url=any_database)
    assert (run.code, run.stdout) == (0, "started\n"), str(run)


def test_command_gets_its_signals_back(
    project: Project, begin_headstart: Callable[..., object], any_database: str
) -> None:
    """CMD finds every signal as it would without us: none more is left blocked or ignored."""
    project.revision("a1")
    code = (
        "import signal; names = [s for s in signal.Signals if s not in (signal.SIGPIPE, signal.SIGXFSZ)];"
        "own = {signal.SIGINT: signal.default_int_handler};"
        "print([s.name for s in names if signal.getsignal(s) not in (signal.SIG_DFL, own.get(s))],"
        " sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    process = begin_headstart("up", "--", sys.executable, "-c", code, url=any_database)
    assert process.finish().stdout == alone  # type: ignore[attr-defined]


def test_command_not_run_after_a_failure(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """When the migration fails, CMD is not run: the exit code is the failure's."""
    project.revision("a1", "this is not SQL")
    run = headstart("up", "--", "touch", str(tmp_path / "ran"), url=any_database)
    ended(run, 60)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("kind", "code"), [("missing", 127), ("not-executable", 126), ("empty", 127)])
def test_command_that_cannot_be_run(
    kind: str, code: int, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """A CMD that is not there ends with 127, one that cannot be run with 126, as in a shell."""
    project.revision("a1")
    command = "" if kind == "empty" else str(tmp_path / "command")
    if kind == "not-executable":
        (tmp_path / "command").write_text("x", encoding="utf-8")
    run = headstart("up", "--", command, url=any_database)
    assert run.code == code, str(run)
    assert "Traceback" not in run.stderr
    assert (run.last["event"], run.last["command"]) == ("command_failed", command)
    assert run.last["error"]


@pytest.fixture
def begin(begin_headstart: Callable[..., object]) -> Callable[..., tuple[int, Run]]:
    """Start headstart, and give its process id and how it ended."""

    def run(*args: str, **named: object) -> tuple[int, Run]:
        process = begin_headstart(*args, **named)
        return process.pid, process.finish()  # type: ignore[attr-defined]

    return run


def test_runs_below_a_folder_that_is_not_its_own(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """`-c` names the ini file of a project elsewhere; its own paths count from there."""
    project.revision("a1", "create table a (id int)")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    run = headstart("up", "-c", os.path.relpath(project.ini, elsewhere), url=any_database, cwd=elsewhere)
    assert ended(run, 0)["applied"] == ["a1"]
