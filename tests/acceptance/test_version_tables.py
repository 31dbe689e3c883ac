"""What env.py tells Alembic besides the connection: version table, callbacks, arguments; and branched histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended
from support.environments import at_head, environment, nothing_to_do
from support.postgres import psql, script
from support.project import REVISION, Project, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunHeadstart

CONFIGURED = """
with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
    {before}
    context.configure(connection=connection, {arguments})
    with context.begin_transaction():
        context.run_migrations()
"""
MADE = 'connection.execute(text("create schema if not exists app")); connection.commit()'


@pytest.mark.parametrize(
    ("arguments", "table", "conclusive"),
    [
        ("version_table='my_version'", "my_version", True),
        ("version_table='My \"odd\" table'", '"My ""odd"" table"', True),
        ("version_table='_'.join(['my', 'version'])", "my_version", False),
        ("version_table_schema='app'", "app.alembic_version", True),
        ("version_table='v', version_table_schema='app'", "app.v", True),
        ("version_table_schema=os.environ.get('NO_SUCH', 'app')", "app.alembic_version", False),
        ("**{'version_table': 'v', 'version_table_schema': 'app'}", "app.v", False),
        ("version_table_pk=False", "alembic_version", True),
    ],
)
def test_a_version_table_of_its_own(
    arguments: str,
    table: str,
    conclusive: bool,
    any_database: str,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """The version table is found where env.py says, written out or computed, and no other is made."""
    script(any_database, "create schema app")
    code = CONFIGURED.format(before="pass", arguments=arguments)
    project = environment(tmp_path / "app", code)
    at_head(run_headstart, any_database, project.folder, ["b2"], table=table)
    run = nothing_to_do(run_headstart, any_database, project.folder)
    assert bool(run.events("alembic_decides")) is not conclusive
    found = "select count(*) from pg_attribute where attname = 'version_num' and attnum > 0"
    assert psql(any_database, f"{found} and attrelid in (select oid from pg_class where relkind = 'r')") == [(1,)]


@pytest.mark.parametrize("arguments", ["version_table_schema='app'", "version_table_schema='ap' + 'p'"])
def test_a_schema_that_env_py_makes(
    arguments: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """An env.py that makes the schema of its version table first is asked without the lock once that is there."""
    project = environment(tmp_path / "app", CONFIGURED.format(before=MADE, arguments=arguments))
    at_head(run_headstart, any_database, project.folder, ["b2"], table="app.alembic_version")
    nothing_to_do(run_headstart, any_database, project.folder)


def test_a_schema_that_is_translated(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """With SQLAlchemy's `schema_translate_map` the version table is where Alembic's own statements find it."""
    script(any_database, "create schema app; create schema tenant")
    before = 'connection = connection.execution_options(schema_translate_map={None: "app", "ten": "tenant"})'
    code = CONFIGURED.format(before=before, arguments="version_table_schema='tenant'")
    project = environment(tmp_path / "app", code)
    at_head(run_headstart, any_database, project.folder, ["b2"], table="tenant.alembic_version")
    nothing_to_do(run_headstart, any_database, project.folder)


def test_callbacks_of_its_own(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An on_version_apply of env.py's own is called for each revision, within its transaction."""
    before = (
        'connection.execute(text("create table if not exists audit (step text)")); connection.commit()\n'
        "    def told(*, ctx, step, heads, run_args):\n"
        "        ctx.connection.execute(text(\"insert into audit values (:step)\"), {'step': step.up_revision_id})\n"
    )
    for arguments in ("on_version_apply=told", "on_version_apply=[told]"):
        script(any_database, "drop table if exists account, audit, alembic_version")
        folder = tmp_path / arguments
        project = environment(folder, CONFIGURED.format(before=before, arguments=arguments))
        at_head(run_headstart, any_database, project.folder, ["b2"])
        assert psql(any_database, "select step from audit order by 1") == [("a1",), ("b2",)]


def test_callbacks_come_after_the_record(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """A revision that takes the record away has failed before any callback could hear of it."""
    heard = tmp_path / "heard"
    before = f"told = lambda *, step, **_: open({str(heard)!r}, 'a').write(step.up_revision_id + ' ')"
    code = CONFIGURED.format(before=before, arguments="on_version_apply=told")
    project = environment(tmp_path / "app", code)
    project.revision("c3", "delete from alembic_version")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert (run.code, run.last["failed"]) == (60, "c3"), run
    assert heard.read_text(encoding="utf-8") == "a1 b2 "
    assert recorded(any_database) == ["b2"]


def test_arguments_of_the_command_line(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """What is given with -x reaches env.py, and decides there what it likes."""
    before = "table = context.get_x_argument(as_dictionary=True)['table']"
    project = environment(tmp_path / "app", CONFIGURED.format(before=before, arguments="version_table=table"))
    for name in ("one", "two"):
        script(any_database, "drop table if exists account")
        at_head(run_headstart, any_database, project.folder, ["b2"], "-x", f"table={name}", table=name)
        nothing_to_do(run_headstart, any_database, project.folder, "-x", f"table={name}")
    assert recorded(any_database) == []


def test_a_tag_and_a_section(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """`--name` chooses another section of the ini file, with a version table that belongs to it."""
    before = "table = config.get_section_option(config.config_ini_section, 'table')"
    project = environment(tmp_path / "app", CONFIGURED.format(before=before, arguments="version_table=table"))
    with project.ini.open("a", encoding="utf-8") as ini:
        ini.write("[tenant]\nscript_location = %(here)s/migrations\npath_separator = os\ntable = of_tenant\n")
    at_head(run_headstart, any_database, project.folder, ["b2"], "--name", "tenant", table="of_tenant")


# -- histories that are no line ----------------------------------------------------------------------------------------


def revision(folder: Path, ident: str, down: str | tuple[str, ...] | None, **named: object) -> None:
    """Write a revision that makes a table of its own name."""
    text = REVISION.format(
        ident=ident, down=down, doc=ident, upgrade=f'    op.execute("create table {ident} ()")', downgrade="    pass"
    )
    for name, value in named.items():
        assert f"\n{name}: " in text
        line = next(line for line in text.splitlines() if line.startswith(f"{name}: "))
        text = text.replace(line, f"{name} = {value!r}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{ident}.py").write_text(text, encoding="utf-8")


def tables(url: str) -> list[str]:
    """The tables, in the order in which they were made."""
    query = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    return [row[0] for row in psql(url, f"{query} and relname <> 'alembic_version' order by oid")]


def test_branches_that_merge(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """A history that parts and merges is applied in Alembic's order, each revision once."""
    project = Project(tmp_path / "app")
    for ident, down in (("r1", None), ("left1", "r1"), ("left2", "left1"), ("right1", "r1")):
        revision(project.versions, ident, down)
    revision(project.versions, "merged", ("left2", "right1"))
    revision(project.versions, "last", "merged")
    at_head(run_headstart, any_database, project.folder, ["last"])
    found = tables(any_database)
    assert sorted(found) == ["last", "left1", "left2", "merged", "r1", "right1"]
    assert (found[0], found[-2:]) == ("r1", ["merged", "last"])
    nothing_to_do(run_headstart, any_database, project.folder)


def test_several_places_with_branches(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Two folders of revisions, with labels and a dependency between them, are taken to `heads`."""
    project = Project(tmp_path / "app")
    places = "version_locations = %(here)s/migrations/versions:%(here)s/billing"
    text = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(text.replace("[loggers]", f"{places}\n\n[loggers]", 1), encoding="utf-8")
    revision(project.versions, "core1", None, branch_labels=("core",))
    revision(project.versions, "core2", "core1")
    billing = project.folder / "billing"
    revision(billing, "bill1", None, branch_labels=("billing",), depends_on="core2")
    revision(billing, "bill2", "bill1")
    env = {"HEADSTART_TARGET": "heads"}
    run = run_headstart("up", url=any_database, cwd=project.folder, env=env)
    assert run.code == 0, run
    assert tables(any_database) == ["core1", "core2", "bill1", "bill2"]
    nothing_to_do(run_headstart, any_database, project.folder, env=env)


def test_a_branch_by_its_label(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """A target that names a branch is Alembic's to resolve, and takes that branch alone to its head."""
    project = Project(tmp_path / "app")
    revision(project.versions, "core1", None, branch_labels=("core",))
    revision(project.versions, "side1", None, branch_labels=("side",))
    revision(project.versions, "side2", "side1")
    env = {"HEADSTART_TARGET": "side@head"}
    at_head(run_headstart, any_database, project.folder, ["side2"], env=env)
    assert tables(any_database) == ["side1", "side2"]
    nothing_to_do(run_headstart, any_database, project.folder, env=env)
    at_head(run_headstart, any_database, project.folder, ["core1", "side2"], env={"HEADSTART_TARGET": "heads"})


def test_a_version_table_that_is_locked(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """A session that holds the version table locked is not waited for in silence; what to type finds it."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    script(any_database, "create table alembic_version (version_num text)")
    with Session(any_database, "in the way") as somebody:
        somebody.execute("begin; lock table alembic_version in access exclusive mode")
        run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
        last = ended(run, 20)
        found = psql(any_database, last["hint"].partition("see who: ")[2].partition(";")[0])
    assert [name for _, name, _ in found] == ["in the way"]


@pytest.mark.parametrize("words", [["current"], ["stamp", "a1"]])
def test_env_py_waits_for_a_version_table_no_longer_than_a_statement(
    words: list[str], any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """The table lock timeout holds in each session of env.py, whichever verb has it run."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    script(any_database, "create table alembic_version (version_num text)")
    env = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"}
    with Session(any_database) as somebody:
        somebody.execute("begin; lock table alembic_version in access exclusive mode")
        run = run_headstart(*words, url=any_database, cwd=project.folder, env=env)
    assert "lock" in ended(run, 20)["error"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg2"])
def test_a_revision_that_renames_the_version_table(
    driver: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """A revision that makes another version table under the old name: that one is Alembic's from then on."""
    project = Project(tmp_path)
    if driver == "psycopg2":
        project.env.write_text(
            "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n"
            "url = os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg2:')\n"
            "with create_engine(url).connect() as connection:\n"
            "    context.configure(connection=connection)\n"
            "    with context.begin_transaction():\n        context.run_migrations()\n",
            encoding="utf-8",
        )
    project.revision("a1", "create table a (id int)")
    project.revision(
        "b2",
        "alter table alembic_version rename to was_here",
        "create table alembic_version (like was_here)",
        "insert into alembic_version select * from was_here",
    )
    project.revision("c3", "create table c (id int)")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert (run.code, run.last["revision_after"]) == (0, "c3"), str(run)
    assert recorded(any_database) == ["c3"]
    project.revision("d4", "select 1/0")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert (run.code, run.last["revision_after"]) == (60, "c3"), str(run)


@pytest.mark.parametrize("verb", [["up"], ["status"], ["wait", "--for", "head"], ["stamp", "a1"]], ids=" ".join)
@pytest.mark.parametrize(
    ("made", "cause"),
    [
        ("version_num varchar(32)); insert into alembic_version values (null)", "has a row without a revision"),
        ("version_num text[]); insert into alembic_version values ('{a1}')", "has no column version_num of text"),
        ("version_num int); insert into alembic_version values (1)", "has no column version_num of text"),
    ],
    ids=["null", "an array", "a number"],
)
def test_what_is_no_revision(
    made: str, cause: str, verb: list[str], tmp_path: Path, any_database: str, run_headstart: RunHeadstart
) -> None:
    """A table that cannot be Alembic's is named as what it is."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    script(any_database, f"create table alembic_version ({made}")
    env = {"HEADSTART_BACKUP": "off", "HEADSTART_WAIT_TIMEOUT": "2s"}
    last = ended(run_headstart(*verb, url=any_database, cwd=tmp_path, env=env), 10)
    assert cause in last["error"]
