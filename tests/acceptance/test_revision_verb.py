"""`revision` and `merge`: what they write and print, and what they say where there is nothing to write."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended
from support.postgres import psql, script
from support.project import recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.process import Headstart, Run
    from support.project import Project

MODELS = """\
import sqlalchemy as sa
target_metadata = sa.MetaData()
"""
TABLE = "sa.Table({name!r}, target_metadata, sa.Column('id', sa.Integer, primary_key=True), schema={schema!r})\n"
ID = re.compile(r"\d{8}_\d{9}")


@pytest.fixture
def project(project: Project) -> Project:
    """One revision that makes a table, in a project whose env.py knows no models."""
    project.revision("aaaa1111", "create table a (id int primary key)", undo=["drop table a"])
    return project


@pytest.fixture
def at_head(project: Project, headstart: Callable[..., Run], any_database: str) -> str:
    """A database that `up` has brought to head."""
    ended(headstart("up", url=any_database), 0)
    return any_database


def models(project: Project, *tables: str, configured: str = "", more: str = "") -> None:
    """Give env.py models: `name` or `schema.name`, each with an id; and more arguments for context.configure."""
    code = MODELS
    for table in tables:
        schema, _, name = table.rpartition(".")
        code += TABLE.format(name=name, schema=schema or None)
    text = project.env.read_text(encoding="utf-8")
    assert "target_metadata = None\n" in text
    text = text.replace("target_metadata = None\n", code + more)
    text = text.replace("target_metadata=target_metadata", f"target_metadata=target_metadata{configured}")
    project.env.write_text(text, encoding="utf-8")


def hooked(project: Project, options: str) -> None:
    """Give alembic.ini post-write hooks."""
    text = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(text.replace("[loggers]", f"[post_write_hooks]\n{options}\n[loggers]", 1), encoding="utf-8")


def files(project: Project) -> set[Path]:
    """The revision files that there are."""
    return set(project.versions.glob("*.py"))


# -- what is written, and what is printed -----------------------------------------------------------------------------


def test_stdout_is_the_path(project: Project, headstart: Callable[..., Run]) -> None:
    """`revision` prints the path of the file that it wrote, and nothing else: an editor can be given it."""
    before = files(project)
    run = headstart("revision", "-m", "add a column")
    assert (run.code, run.stderr) == (0, ""), str(run)
    [written] = files(project) - before
    assert run.stdout == f"{written}\n"
    assert re.fullmatch(ID.pattern + "_add_a_column.py", written.name)
    assert 'down_revision: Union[str, Sequence[str], None] = "aaaa1111"' in written.read_text().replace("'", '"')


def test_a_given_id(project: Project, headstart: Callable[..., Run]) -> None:
    """`--rev-id` goes before an id of the time, in the file and in its name."""
    run = headstart("revision", "-m", "x", "--rev-id", "20260102_030405067")
    assert run.code == 0, str(run)
    assert Path(run.stdout.strip()).name == "20260102_030405067_x.py"
    assert headstart("heads").stdout == "20260102_030405067 (head)\n"


def test_formatted_after_writing(project: Project, headstart: Callable[..., Run]) -> None:
    """Post-write hooks run on the new file; what they print is in the log, and stdout stays the path."""
    formatter = project.folder / "formatter.py"
    formatter.write_text(
        "import pathlib, sys\n"
        "print('1 file reformatted')\n"
        "print('took no time', file=sys.stderr)\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.write_text(path.read_text() + '# formatted\\n')\n",
        encoding="utf-8",
    )
    hooked(
        project,
        f"hooks = ours\nours.type = exec\nours.executable = {sys.executable}\n"
        f"ours.options = {formatter} REVISION_SCRIPT_FILENAME\n",
    )
    run = headstart("revision", "-m", "x")
    assert run.code == 0, str(run)
    written = Path(run.stdout.removesuffix("\n"))
    assert written.read_text(encoding="utf-8").endswith("# formatted\n")
    assert {"1 file reformatted", "took no time"} <= {line["message"] for line in run.events("script_output")}
    assert len(run.log) == len(run.stderr.splitlines()), "every line of stderr is a log line"


def test_a_formatter_that_fails(project: Project, headstart: Callable[..., Run]) -> None:
    """A formatter that fails is said with its exit status, which Alembic passes over; the file is there."""
    hooked(project, "hooks = ours\nours.type = exec\nours.executable = false\n")
    run = headstart("revision", "-m", "x")
    assert run.code == 0, str(run)
    [failed] = run.events("hook_failed")
    assert failed["how"] == "exit status 1"
    assert failed["path"] == run.stdout.strip()
    assert Path(failed["path"]).is_file()


@pytest.mark.parametrize(
    "hook",
    [
        "ours.type = exec\nours.executable = /no/such/formatter\n",
        "ours.type = console_scripts\nours.entrypoint = no-such-formatter\n",
        "ours.type = no-such-type\n",
    ],
    ids=["program", "entry point", "type"],
)
def test_a_formatter_that_is_not_there(hook: str, project: Project, headstart: Callable[..., Run]) -> None:
    """A hook that cannot be run is exit 10: the message has the file, which is written all the same."""
    before = files(project)
    hooked(project, f"hooks = ours\n{hook}")
    last = ended(headstart("revision", "-m", "x"), 10)
    [written] = files(project) - before
    assert str(written) in last["error"]
    assert "no" in last["error"].partition("hook")[2].lower()
    assert "post_write_hooks" in last["hint"]


def test_a_formatter_ends_with_us(project: Project, begin_headstart: Callable[..., Headstart]) -> None:
    """A signal ends the formatter too."""
    lasting = project.folder / "lasting.sh"
    lasting.write_text("#!/bin/sh\necho $$ > pid.part && mv pid.part pid\nexec sleep 3601\n", encoding="utf-8")
    lasting.chmod(0o755)
    hooked(project, f"hooks = ours\nours.type = exec\nours.executable = {lasting}\n")
    process = begin_headstart("revision", "-m", "x")
    eventually((project.folder / "pid").is_file, "the formatter runs")
    pid = int((project.folder / "pid").read_text(encoding="utf-8"))
    process.send(signal.SIGTERM)
    ended(process.finish(seconds=20), 143)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the formatter is gone")


# -- autogenerate -----------------------------------------------------------------------------------------------------


def test_every_schema_of_the_models(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """Tables of the models are compared in any schema, though env.py does not ask for it; others are left alone."""
    script(
        at_head,
        "create schema raw; create table raw.there (id int primary key); create table raw.gone (id int primary key);"
        "create schema theirs; create table theirs.stays (id int)",
    )
    models(project, "a", "raw.there", "raw.brand_new")
    run = headstart("revision", "--autogenerate", "-m", "models", url=at_head)
    assert run.code == 0, str(run)
    text = Path(run.stdout.strip()).read_text(encoding="utf-8")
    upgrade = text.partition("def upgrade")[2].partition("def downgrade")[0]
    assert re.findall(r"op\.(\w+)\('(\w+)'", upgrade) == [("create_table", "brand_new"), ("drop_table", "gone")]
    assert run.events("schemas_compared")[0]["schemas"] == ["raw"]
    ended(headstart("up", url=at_head), 0)
    assert psql(at_head, "select to_regclass('raw.brand_new') is null, to_regclass('raw.gone') is null") == [
        (False, True)
    ]
    again = headstart("revision", "--autogenerate", "-m", "again", url=at_head)
    assert (again.code, again.stdout) == (0, ""), str(again)


def found_nothing(run: Run, project: Project, before: set[Path]) -> list[str]:
    """Check that nothing was found and nothing written, and return the causes."""
    assert (run.code, run.stdout) == (0, ""), str(run)
    assert files(project) == before
    [line] = run.events("autogenerate_found_nothing")
    assert line["level"] == "warning"
    assert line["hint"]
    causes: list[str] = line["causes"]
    return causes


def test_nothing_found(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """Nothing found writes no file, and says what was compared and which tables the models have."""
    models(project, "a")
    run = headstart("revision", "--autogenerate", "-m", "x", url=at_head)
    causes = found_nothing(run, project, files(project))
    [line] = run.events("autogenerate_found_nothing")
    assert (line["revision"], line["models"]) == ("aaaa1111", 1)
    assert len(causes) == 2, causes
    assert "(a)" in causes[0]
    assert "does not import" in causes[0]


def test_nothing_found_for_want_of_models(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """Models without a table are the usual cause where nothing is imported."""
    project.versions.joinpath("aaaa1111.py").unlink()
    models(project)
    run = headstart("revision", "--autogenerate", "-m", "x", url=any_database)
    causes = found_nothing(run, project, set())
    assert "target_metadata has no tables" in causes[0]
    assert "import" in causes[0]


def test_models_missing_beside_tables(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """A revision that drops every table because no models are imported is warned of."""
    models(project)
    run = headstart("revision", "--autogenerate", "-m", "x", url=at_head)
    assert run.code == 0, str(run)
    assert "import the modules" in run.events("models_missing")[0]["hint"]
    assert "drop_table('a')" in Path(run.stdout.strip()).read_text(encoding="utf-8")


def test_nothing_found_of_what_is_not_compared(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """A schema with tables that was not compared is named, and so is what Alembic never compares."""
    script(at_head, "create view v as select 1 as x; create schema other; create table other.t (id int)")
    models(project, "a")
    causes = found_nothing(headstart("revision", "--autogenerate", "-m", "x", url=at_head), project, files(project))
    assert len(causes) == 3, causes
    assert "schema other" in causes[0]
    for kind in ("views", "enum types", "CHECK constraints", "functions", "triggers", "policies"):
        assert kind in causes[2]


def test_nothing_found_because_env_py_says_so(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """What env.py itself leaves out of the comparison is named."""
    script(at_head, "create table skipped (id int); create table b (n int default 1)")
    models(
        project,
        "a",
        configured=", include_object=lambda item, name, *_: name != 'skipped', compare_type=False",
        more="sa.Table('b', target_metadata, sa.Column('n', sa.Integer, server_default='2'))\n",
    )
    causes = found_nothing(headstart("revision", "--autogenerate", "-m", "x", url=at_head), project, files(project))
    assert any("leaves out" in each and "include_object" in each for each in causes), causes
    assert any("compare_type=False" in each for each in causes), causes
    assert any("compare_server_default" in each for each in causes), causes


def test_directives_of_env_py(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """A `process_revision_directives` of env.py's own goes first, and sees the empty script."""
    models(
        project,
        "a",
        configured=", process_revision_directives=own",
        more="def own(context, revision, directives):\n"
        "    print('own saw', directives[0].upgrade_ops.is_empty())\n"
        "    directives[:] = []\n",
    )
    run = headstart("revision", "--autogenerate", "-m", "x", url=at_head)
    found_nothing(run, project, files(project))
    assert "own saw True" in [line["message"] for line in run.events("script_output")]


def test_without_target_metadata(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """An env.py without target_metadata is exit 10, with its path and what to set."""
    last = ended(headstart("revision", "--autogenerate", "-m", "x", url=at_head), 10)
    assert str(project.env) in last["error"]
    assert "target_metadata" in last["hint"]


def test_not_at_head(project: Project, headstart: Callable[..., Run], at_head: str) -> None:
    """With revisions pending autogenerate refuses: it names both revisions, and says to run `up` first."""
    models(project, "a")
    project.revision("bbbb2222", "create table b (id int)")
    before = files(project)
    last = ended(headstart("revision", "--autogenerate", "-m", "x", url=at_head), 80)
    assert "aaaa1111" in last["error"]
    assert "bbbb2222" in last["error"]
    assert "headstart up" in last["hint"]
    assert files(project) == before


# -- two heads --------------------------------------------------------------------------------------------------------


def test_two_heads_are_merged(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """Two developers' revisions: `up` names both files and their parent, and the command that it says mends it."""
    hers = project.revision("bbbb2222", "create table b (id int)", down="aaaa1111")
    his = project.revision("cccc3333", "create table c (id int)", down="aaaa1111")
    last = ended(headstart("up", url=any_database), 70)
    for path in (hers, his, project.versions / "aaaa1111.py"):
        assert str(path) in last["error"]
    assert last["heads"] == ["bbbb2222", "cccc3333"]
    assert last["parents"] == ["aaaa1111"]
    assert recorded(any_database) == []
    command = re.search(r"`headstart (merge heads -m) \"(.*?)\"`", last["hint"])
    assert command, last["hint"]
    merged = headstart(*command[1].split(), command[2])
    assert merged.code == 0, str(merged)
    written = Path(merged.stdout.strip())
    assert ID.match(written.name)
    ended(headstart("up", url=any_database), 0)
    assert recorded(any_database) == [ID.match(written.name)[0]]  # type: ignore[index]
    assert psql(any_database, "select to_regclass('b') is null, to_regclass('c') is null") == [(False, False)]


def test_a_revision_after_two_heads(project: Project, headstart: Callable[..., Run]) -> None:
    """`revision` does not choose between two heads: it says the same as `up`, and writes nothing."""
    project.revision("bbbb2222", "select 1", down="aaaa1111")
    project.revision("cccc3333", "select 1", down="aaaa1111")
    before = files(project)
    last = ended(headstart("revision", "-m", "x"), 70)
    assert "bbbb2222" in last["error"]
    assert "they diverge after aaaa1111" in last["error"]
    assert "headstart merge heads" in last["hint"]
    assert files(project) == before
    assert headstart("revision", "-m", "x", "--head", "cccc3333").code == 0


# -- the usual troubles of a revision ---------------------------------------------------------------------------------


def test_an_sql_file_that_is_missing(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A revision that reads an SQL file which is not there: 60, with the file, the revision and its line."""
    path = project.revision("bbbb2222", body="import pathlib\nop.execute(pathlib.Path('sql/x.sql').read_text())")
    last = ended(headstart("up", url=any_database), 60)
    assert last["failed"] == "bbbb2222"
    assert "bbbb2222" in last["error"]
    assert "sql/x.sql" in last["error"]
    assert last["location"] == f"{path}:{path.read_text().splitlines().index(_reads(path)) + 1}"
    assert "put sql/x.sql back" in last["hint"]
    assert recorded(any_database) == ["aaaa1111"]
    sql = project.folder / "sql" / "x.sql"
    sql.parent.mkdir()
    sql.write_text("create table b (id int); create table c (id int)", encoding="utf-8")
    ended(headstart("up", url=any_database), 0)
    assert psql(any_database, "select to_regclass('c') is null") == [(False,)]


def _reads(path: Path) -> str:
    return next(line for line in path.read_text(encoding="utf-8").splitlines() if "sql/x.sql" in line)


def test_an_sql_file_that_is_missing_on_import(
    project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """A revision that reads the file when it is loaded makes the history unreadable: 70, with the same advice."""
    path = project.revision("bbbb2222", "select 1")
    path.write_text(f"TEXT = open('sql/x.sql').read()\n{path.read_text()}", encoding="utf-8")
    last = ended(headstart("up", url=any_database), 70)
    assert f"{path}:1" in last["error"]
    assert "put sql/x.sql back" in last["hint"]


def test_already_there(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A relation that already exists: the hint says how that can be, and what to type to find out."""
    script(any_database, "create table a (id int)")
    last = ended(headstart("up", url=any_database), 60)
    assert last["sqlstate"] == "42P07"
    assert 'relation "a" already exists' in last["error"]
    for said in ("an earlier run", "makes it twice", "headstart check --only drift --database"):
        assert said in last["hint"]
    assert recorded(any_database) == []


@pytest.mark.slow
def test_a_slow_refresh(project: Project, begin_headstart: Callable[..., Headstart], any_database: str) -> None:
    """A refresh that takes long is named with what it waits for."""
    script(any_database, "create materialized view sums as select 1 as x")
    project.revision("bbbb2222", "refresh materialized view sums")
    with Session(any_database, "nightly report") as somebody:
        somebody.execute("begin; select * from sums")
        process = begin_headstart("up", url=any_database, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "60s"})
        running = process.wait_for("statement_running")
        somebody.execute("rollback")
        ended(process.finish(), 0)
    assert (running["revision"], running["statement"]) == ("bbbb2222", "refresh materialized view sums")
    assert "nightly report" in running["blockers"][0]
