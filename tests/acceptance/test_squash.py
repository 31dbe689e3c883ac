"""`headstart squash`, through the real process: one baseline in place of a history, and what databases make of it."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended, planted
from support.postgres import psql
from support.project import INI, Project, fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import RunHeadstart, StartHeadstart
    from support.postgres import Postgres
    from support.process import Run

    Headstart = Callable[..., Run]

pytestmark = pytest.mark.backed_up

COLUMNS = (
    "select table_schema, table_name, string_agg(column_name || ' ' || data_type, ', ' order by ordinal_position)"
    " from information_schema.columns where table_schema in ('public', 'raw') group by 1, 2 order by 1, 2"
)


C3 = (
    "create table price (company bigint references raw.company, day date) partition by range (day)",
    "alter table price add primary key (company, day)",
    "create table price_2025 partition of price for values from ('2025-01-01') to ('2026-01-01')",
    "create view dear as select *, ':name\\:x ''\"\"\" \\' as note from raw.company where price > 1",
    "create materialized view counted as select count(*) as number from raw.company",
    "create unique index on counted (number)",
    "grant select on dear to public",
    "create index on raw.company (lower(name), price desc) where mood <> 'sad'",
)


@pytest.fixture
def project(project: Project) -> Project:
    """Schemas, an enum that has grown, a function, views, partitions, rows, grants, and SQL that is tricky to quote."""
    project.revision(
        "a1",
        "create schema raw",
        "create type mood as enum ('sad', 'it''s; fine')",
        "create table raw.company (id bigint generated always as identity primary key, name varchar(20) not null"
        " check (name in ('a', 'b', 'c%')), mood mood default 'sad', dropped int)",
        undo=["drop table raw.company", "drop type mood", "drop schema raw"],
    )
    project.revision(
        "b2",
        "alter type mood add value 'glad'",
        "alter table raw.company drop column dropped, add price numeric(20, 8) default 0",
        "create function twice(integer) returns integer language sql immutable as $$ select $1 * 2 /* 100%% */ $$",
        "insert into raw.company (name, price) values ('a', 1), ('b', 2), ('c%', 3)",
    )
    project.revision("c3", body=f"for each in {C3!r}:\n    op.get_bind().exec_driver_sql(each)")
    return project


@pytest.fixture
def later(project: Project) -> Project:
    """A revision that follows what is squashed."""
    project.revision("d4", "create table d4 (id int primary key)", undo=["drop table d4"])
    return project


@pytest.fixture
def headstart(run_headstart: RunHeadstart, project: Project, any_server: Postgres, any_database: str) -> Headstart:
    """Run it in the project, on the database, without backups."""
    env = {"HEADSTART_BACKUP": "off", "HEADSTART_SCRATCH_URL": any_server.url()}
    return functools.partial(run_headstart, url=any_database, cwd=project.folder, env=env)


@pytest.fixture
def another(any_server: Postgres) -> Iterator[str]:
    """Another empty database."""
    url = any_server.create_database()
    yield url
    any_server.drop_database(url)


def files(project: Project) -> list[str]:
    """What is among the revision files."""
    return sorted(path.name for path in project.versions.iterdir() if path.suffix == ".py")


def tree(project: Project) -> dict[str, bytes]:
    """All files of the project."""
    return {
        str(path.relative_to(project.folder)): path.read_bytes()
        for path in project.folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_new_database_gets_the_same(headstart: Headstart, project: Project, any_database: str, another: str) -> None:
    """The baseline alone makes what the revisions made: schema, rows, sequences, and the contents of views."""
    ended(headstart("up"), 0)
    old = tree(project)
    run = headstart("squash")
    ended(run, 0)
    assert files(project) == ["c3_baseline.py"]
    assert run.stdout == f"{project.versions / 'c3_baseline.py'}\n"
    archive = project.folder / "migrations" / "archive" / "c3"
    assert {f"migrations/versions/{each.name}": each.read_bytes() for each in archive.glob("*.py")} == {
        name: data for name, data in old.items() if "versions/" in name
    }
    up = headstart("up", url=another)
    assert ended(up, 0)["applied"] == ["c3"]
    assert psql(another, COLUMNS) == psql(any_database, COLUMNS)
    rows = "select id, name, mood::text, price, note from dear union all select number, '', '', 0, '' from counted"
    assert psql(another, rows) == psql(any_database, rows) != []
    assert psql(another, "insert into raw.company (name) values ('a') returning id") == [(4,)]
    assert psql(another, "select current_setting('search_path')") == psql(any_database, "show search_path")


def test_the_database_is_not_named(headstart: Headstart) -> None:
    """The log does not say that the database of DATABASE_URL, which is not touched, is worked on."""
    run = headstart("squash", "b2")
    ended(run, 0)
    assert run.events("run_started")[0]["database"] is None


def test_a_database_at_the_old_head_runs_nothing(headstart: Headstart, later: Project, any_database: str) -> None:
    """It is at the baseline's id, and was built by the files that the baseline names: nothing to do, nothing edited."""
    ended(headstart("up", "--target", "c3"), 0)
    before = fingerprint(any_database)
    ended(headstart("squash", "c3"), 0)
    run = headstart("up", "--target", "c3")
    assert ended(run, 0)["applied"] == []
    assert not run.events("lock_obtained")
    assert fingerprint(any_database) == before
    assert ended(headstart("up"), 0)["applied"] == ["d4"]
    assert ended(headstart("up"), 0)["applied"] == []
    assert ended(headstart("downgrade", "-1"), 0)["revision_after"] == "c3"
    assert headstart("history").stdout.count("->") == 2


def test_a_database_of_an_edited_history_is_refused(headstart: Headstart, project: Project, any_database: str) -> None:
    """A database that was built by other files than those that were squashed is told so, as it was before."""
    ended(headstart("up"), 0)
    path = project.versions / "b2.py"
    path.write_text(path.read_text(encoding="utf-8").replace("numeric(20, 8)", "numeric(20, 4)"), encoding="utf-8")
    ended(headstart("up"), 73)
    ended(headstart("squash"), 0)
    last = ended(headstart("up"), 73)
    assert "revision b2 (migrations/archive/c3)" in last["error"]


def test_what_was_only_formatted_is_no_edit(headstart: Headstart, project: Project, any_database: str) -> None:
    """Files that were formatted between their use and the squash count as the same."""
    ended(headstart("up"), 0)
    for path in project.versions.glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n\n# the end\n", encoding="utf-8")
    ended(headstart("squash"), 0)
    assert ended(headstart("up"), 0)["applied"] == []


def test_an_edited_baseline_is_refused(headstart: Headstart, project: Project, any_database: str) -> None:
    """A database that the baseline has built holds it to its text, as any revision."""
    ended(headstart("squash"), 0)
    ended(headstart("up"), 0)
    path = project.versions / "c3_baseline.py"
    path.write_text(path.read_text(encoding="utf-8").replace("numeric(20,8)", "numeric(20,4)"), encoding="utf-8")
    assert "revision c3" in ended(headstart("up"), 73)["error"]


def test_a_database_in_the_middle(headstart: Headstart, later: Project, any_database: str) -> None:
    """It is refused with the way to the baseline; taken that way with the archived files, it goes on from there."""
    ended(headstart("up", "--target", "b2"), 0)
    before = fingerprint(any_database)
    ended(headstart("squash", "c3"), 0)
    for verb in ("up", "status"):
        last = ended(headstart(verb), 72)
        assert "is at b2, in the middle of the history that the baseline c3" in last["error"]
        assert "migrations/archive/c3" in last["hint"]
    assert fingerprint(any_database) == before
    ini = later.folder / "archive.ini"
    text = INI.replace("[loggers]", "version_locations = %(here)s/migrations/archive/c3\n\n[loggers]", 1)
    ini.write_text(text, encoding="utf-8")
    assert ended(headstart("up", "--config", str(ini)), 0)["revision_after"] == "c3"
    assert ended(headstart("up"), 0)["applied"] == ["d4"]


def test_links_are_not_squashed(headstart: Headstart, project: Project, tmp_path: Path) -> None:
    """A revision file that lies elsewhere, perhaps for several projects, is not taken away there."""
    shared = tmp_path / "shared.py"
    (project.versions / "a1.py").rename(shared)
    (project.versions / "a1.py").symlink_to(shared)
    before = tree(project)
    assert "only a link" in ended(headstart("squash"), 10)["error"]
    assert shared.exists()
    assert tree(project) == before


def test_a_baseline_is_not_reverted(headstart: Headstart, any_database: str) -> None:
    """It says so, and where the old files are; nothing is lost."""
    ended(headstart("squash"), 0)
    ended(headstart("up"), 0)
    before = fingerprint(any_database)
    assert "cannot be reverted" in ended(headstart("downgrade", "base"), 10)["error"]
    assert fingerprint(any_database) == before


def test_squashed_again(headstart: Headstart, later: Project, any_database: str, another: str) -> None:
    """A baseline may be squashed with what follows it; every database that has had all of it goes on."""
    ended(headstart("up"), 0)
    ended(headstart("squash", "c3"), 0)
    ended(headstart("up", url=another), 0)
    ended(headstart("squash", "-m", "second"), 0)
    assert files(later) == ["d4_second.py"]
    for url in (any_database, another):
        assert ended(headstart("up", url=url), 0)["applied"] == []


def test_a_baseline_that_is_not_the_same(headstart: Headstart, project: Project) -> None:
    """Where pg_dump does not write what the revisions have made, each difference is a line, and no file is touched."""
    project.revision(
        "d4", "create table parent (a int)", "create table child (b int, a int)", "alter table child inherit parent"
    )
    before = tree(project)
    run = headstart("squash")
    last = ended(run, 80)
    assert run.stdout == "columns public.child: `b, a` in the revisions, `a, b` in the baseline\n"
    assert last["differences"] == run.stdout.splitlines()
    assert tree(project) == before
    assert not list(project.folder.rglob(".headstart*"))


def test_a_baseline_that_does_not_run(headstart: Headstart, project: Project) -> None:
    """Rows that would not be taken again, say: no file is touched."""
    project.revision(
        "d4",
        "create function fits(int) returns boolean language sql immutable as 'select true'",
        "create table measured (value int check (fits(value)))",
        "insert into measured values (1)",
        "create or replace function fits(int) returns boolean language sql immutable as 'select $1 > 1'",
    )
    before = tree(project)
    assert "the baseline does not run" in ended(headstart("squash"), 80)["error"]
    assert tree(project) == before


def test_a_revision_that_fails(headstart: Headstart, project: Project) -> None:
    """What cannot be replayed cannot be squashed."""
    project.revision("d4", "select no_such_column")
    before = tree(project)
    assert "d4" in ended(headstart("squash"), 60)["error"]
    assert tree(project) == before


def test_it_is_named_and_formatted_as_the_project_wants(headstart: Headstart, project: Project) -> None:
    """The name comes from file_template; post-write hooks run before the proof, on the very file that is used."""
    hook = project.folder / "hook.py"
    hook.write_text(
        "import sys\npath = sys.argv[1]\ntext = open(path).read()\nopen(path, 'w').write(text + '# formatted\\n')\n"
    )
    text = project.ini.read_text(encoding="utf-8").replace(
        "[loggers]",
        "file_template = first_%%(rev)s_%%(slug)s\n\n[post_write_hooks]\nhooks = mine\nmine.type = exec\n"
        f"mine.executable = {sys.executable}\nmine.options = {hook} REVISION_SCRIPT_FILENAME\n\n[loggers]",
        1,
    )
    project.ini.write_text(text, encoding="utf-8")
    ended(headstart("squash", "-m", "The beginning"), 0)
    assert files(project) == ["first_c3_the_beginning.py"]
    assert (project.versions / files(project)[0]).read_text(encoding="utf-8").endswith("# formatted\n")


def test_what_a_hook_has_broken_is_not_used(headstart: Headstart, project: Project) -> None:
    """The file that is proven is the one that the hooks leave."""
    text = project.ini.read_text(encoding="utf-8").replace(
        "[loggers]",
        "[post_write_hooks]\nhooks = mine\nmine.type = exec\nmine.executable = sed\n"
        "mine.options = -i s/squashed/names/ REVISION_SCRIPT_FILENAME\n\n[loggers]",
        1,
    )
    project.ini.write_text(text, encoding="utf-8")
    before = tree(project)
    assert "post-write hooks" in ended(headstart("squash"), 80)["hint"]
    assert tree(project) == before


def test_nothing_to_squash(headstart: Headstart, project: Project) -> None:
    """One revision is what a baseline is already; an unknown one is none."""
    before = tree(project)
    assert "nothing to squash" in ended(headstart("squash", "a1"), 10)["error"]
    assert "zz" in ended(headstart("squash", "zz"), 10)["error"]
    assert tree(project) == before


def test_several_heads(headstart: Headstart, project: Project) -> None:
    """Which of them is asked; what another branch stands on does not go."""
    project.revision("x9", "create table x9 (id int)", down="a1")
    before = tree(project)
    assert "c3" in ended(headstart("squash"), 70)["error"]
    last = ended(headstart("squash", "c3"), 70)
    assert "x9.py) needs a1" in last["error"]
    assert tree(project) == before


def test_the_archive_where_one_wants_it(headstart: Headstart, project: Project, tmp_path: Path) -> None:
    """Nothing that is there already is written over."""
    (tmp_path / "attic" / "c3").mkdir(parents=True)
    assert "attic/c3" in ended(headstart("squash", "--archive", "attic"), 10)["error"]
    (tmp_path / "attic" / "c3").rmdir()
    ended(headstart("squash", "--archive", "attic"), 0)
    assert (tmp_path / "attic" / "c3" / "README.md").exists()
    assert "attic/c3" in (project.versions / "c3_baseline.py").read_text(encoding="utf-8")


# The process is gone before it removes the first of the old files: Python's audit events tell of that.
KILLED = """
import os, signal, sys
def before(event, arguments):
    if event == "os.remove" and str(arguments[0]).endswith("/a1.py"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(before)
"""


def test_killed_in_the_middle(
    headstart: Headstart,
    start_headstart: StartHeadstart,
    project: Project,
    any_server: Postgres,
    any_database: str,
    tmp_path: Path,
) -> None:
    """Nobody runs half a history: `up` refuses until the files are as they were, and `squash` begins anew."""
    site = tmp_path / "site"
    site.mkdir()
    env = {"HEADSTART_SCRATCH_URL": any_server.url(), **planted(site, KILLED)}
    assert start_headstart("squash", cwd=project.folder, env=env).finish().code == -signal.SIGKILL
    assert files(project) == ["a1.py", "b2.py", "c3.py", "c3_baseline.py"]
    assert "c3" in ended(headstart("up"), 70)["error"]
    assert recorded(any_database) == []
    (project.versions / "c3_baseline.py").unlink()
    shutil.rmtree(project.versions.parent / "archive")
    ended(headstart("squash"), 0)
    assert files(project) == ["c3_baseline.py"]
    assert ended(headstart("up"), 0)["revision_after"] == "c3"
    assert not list(project.versions.glob(".*"))


def test_alembic_alone_runs_it(headstart: Headstart, project: Project, another: str, tmp_path: Path) -> None:
    """The file is an ordinary revision: Alembic runs it without Headstart, with another driver."""
    import subprocess

    ended(headstart("squash"), 0)
    synchronous = Project(tmp_path / "synchronous", template="generic")
    project.env.write_bytes(synchronous.env.read_bytes())
    text = project.ini.read_text(encoding="utf-8")
    url = another.replace("postgresql://", "postgresql+psycopg2://")
    project.ini.write_text(text.replace("driver://user:pass@localhost/dbname", url), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=project.folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert recorded(another) == ["c3"]
    assert psql(another, "select note from dear limit 1") == [(':name\\:x \'""" \\',)]
    assert psql(another, "select name from raw.company where price = 3") == [("c%",)]
