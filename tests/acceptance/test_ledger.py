"""The ledger, through the real process: what is written, and what it tells from what."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import zlib
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, make_role, with_password
from support.postgres import psql, script
from support.project import Project, fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunHeadstart
    from support.postgres import Postgres
    from support.process import Run

    Headstart = Callable[..., Run]


pytestmark = pytest.mark.backed_up


@pytest.fixture
def project(project: Project) -> Project:
    """Three revisions."""
    for ident in ("a1", "b2", "c3"):
        project.revision(ident, f"create table {ident} (id int)", undo=[f"drop table {ident}"])
    return project


@pytest.fixture
def headstart(run_headstart: RunHeadstart, project: Project, any_database: str) -> Headstart:
    """Run it in the project, on the database, without backups."""
    return functools.partial(
        run_headstart,
        url=any_database,
        cwd=project.folder,
        env={"HEADSTART_BACKUP": "off", "HEADSTART_IMAGE": "app:v1"},
    )


def rows(url: str) -> list[str]:
    """What the ledger says has happened."""
    return [
        row[0]
        for row in psql(url, "select action || ' ' || coalesce(revision, 'base') from headstart.ledger order by id")
    ]


def test_each_revision_is_recorded(project: Project, headstart: Headstart, any_database: str) -> None:
    """When, how long, from which source, by which image and version, on which host, as whom, with its run."""
    run = headstart("up")
    ended(run, 0)
    assert rows(any_database) == ["applied a1", "applied b2", "applied c3"]
    digest = hashlib.sha256((project.versions / "b2.py").read_bytes()).hexdigest()
    ((found,),) = psql(
        any_database,
        "select concat_ws(' ', history, follows, sha256, image, role, run_id, seconds between 0 and 60,"
        " at between now() - interval '1 minute' and now(), host <> '', headstart)"
        " from headstart.ledger where revision = 'b2'",
    )
    expected = rf"alembic_version {{a1}} {digest} app:v1 \S+ {run.last['run_id']} t t t 0\.\S+"
    assert re.fullmatch(expected, found), found
    ended(headstart("downgrade", "-1"), 0)
    assert rows(any_database)[-1] == "reverted c3"


def test_a_revision_that_fails_is_not_recorded(project: Project, headstart: Headstart, any_database: str) -> None:
    """A row is there exactly if its revision is; where none was applied, there is no ledger either."""
    project.revision("d4", "create table d4 (id int)", "select no_such_column")
    ended(headstart("up"), 60)
    assert rows(any_database) == ["applied a1", "applied b2", "applied c3"]


def test_nothing_is_made_where_the_first_revision_fails(
    project: Project, headstart: Headstart, any_database: str
) -> None:
    """An empty database on which nothing works stays empty."""
    project.revision("a1", "select no_such_column", down=None)
    before = fingerprint(any_database)
    ended(headstart("up"), 60)
    assert fingerprint(any_database) == before


@pytest.mark.parametrize("asked", [False, True], ids=["by the files", "by env.py"])
def test_71_ahead(asked: bool, project: Project, headstart: Headstart, any_database: str) -> None:
    """An older image on a newer database: it is told which image went ahead, and changes nothing; or is let through."""
    if asked:
        computed = "context.configure(version_table='_'.join(['alembic', 'version']), "
        project.env.write_text(project.env.read_text("utf-8").replace("context.configure(", computed), "utf-8")
    ended(headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_IMAGE": "app:v2"}), 0)
    for newer in ("b2", "c3"):
        (project.versions / f"{newer}.py").unlink()
    before = fingerprint(any_database)
    last = ended(headstart("up"), 71)
    assert last["outcome"] == "database_ahead"
    assert "it is at c3, applied by app:v2" in last["error"]
    assert "HEADSTART_AHEAD=allow" in last["hint"]
    assert last["ahead"] == ["b2", "c3"]
    for words in (["status"], ["current"], ["downgrade", "-1"]):
        assert ended(headstart(*words), 71)["error"] == last["error"]
    allowed = headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_AHEAD": "allow"})
    assert ended(allowed, 0)["applied"] == []
    assert allowed.events("database_ahead")
    assert fingerprint(any_database) == before


def test_72_parted(project: Project, headstart: Headstart, any_database: str) -> None:
    """Two branches of the code: the database holds the one's revision, the image the other's. That is not ahead."""
    ended(headstart("up"), 0)
    (project.versions / "c3.py").unlink()
    project.revision("x9", "create table x9 (id int)", down="b2")
    last = ended(headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_AHEAD": "allow"}), 72)
    assert "they diverge after b2" in last["error"]
    assert "merge" in last["hint"]


def test_72_another_project(project: Project, headstart: Headstart) -> None:
    """A database with which this history has nothing in common is not to be merged with."""
    ended(headstart("up"), 0)
    for file in project.versions.glob("*.py"):
        file.unlink()
    project.revision("x9", "create table x9 (id int)", down=None)
    last = ended(headstart("up"), 72)
    assert "merge" not in last["hint"]
    assert "see that DATABASE_URL names the database of this project" in last["hint"]


def test_72_unknown(project: Project, headstart: Headstart, any_database: str) -> None:
    """A revision that nobody ever recorded is unknown, whatever else the ledger holds."""
    ended(headstart("up"), 0)
    psql(any_database, "update alembic_version set version_num = 'zz'")
    last = ended(headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_AHEAD": "allow"}), 72)
    assert "zz" in last["error"]
    for words in (["status"], ["history", "--ledger"]):
        assert f"`headstart {' '.join(words)}`" in last["hint"]
        assert headstart(*words).stdout, "what the hint advises says something"


def test_72_missing(project: Project, headstart: Headstart, any_database: str) -> None:
    """A revision that was reverted elsewhere, and is recorded all the same, is not taken for applied."""
    ended(headstart("up"), 0)
    ended(headstart("downgrade", "-1"), 0)
    psql(any_database, "update alembic_version set version_num = 'c3'")
    (project.versions / "c3.py").unlink()
    ended(headstart("up"), 72)


PASSWORD = "s3cret"

EDITED = {
    "statement": ("create table b2 (id int)", "create table b2 (id bigint)"),
    "downgrade": ("drop table b2", "drop table if exists b2"),
    "parent": ("down_revision: Union[str, Sequence[str], None] = 'a1'", "down_revision = 'a1'\nmore = 1"),
}
UNTOUCHED = {
    "comment": ("def upgrade", "# why\ndef upgrade"),
    "docstring": ('"""the change b2', '"""what this is about'),
    "blank lines": ("def downgrade", "\n\n\ndef downgrade"),
    "wrapped": ("op.execute('create table b2 (id int)')", 'op.execute(\n        "create table b2 (id int)",\n    )'),
    "joined": ("'create table b2 (id int)'", "('create table b2 '\n     '(id int)')"),
    "carriage returns": ("\n", "\r\n"),
    "imports": ("from typing import Sequence, Union", "from __future__ import annotations"),
    "annotations": (": Union[str, Sequence[str], None] = 'a1'", " = 'a1'"),
}


def edit(project: Project, change: tuple[str, str]) -> None:
    """Change the file of b2."""
    path = project.versions / "b2.py"
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_bytes(text.replace(*change).encode())


@pytest.mark.parametrize("pending", [False, True], ids=["nothing pending", "pending"])
@pytest.mark.parametrize("change", EDITED)
def test_73_edited(project: Project, headstart: Headstart, any_database: str, change: str, pending: bool) -> None:
    """An applied revision that does something else today is refused, with its file and line, and nothing is changed."""
    ended(headstart("up"), 0)
    edit(project, EDITED[change])
    if pending:
        project.revision("d4", "create table d4 (id int)")
    before = fingerprint(any_database)
    last = ended(headstart("up"), 73)
    assert last["outcome"] == "revision_edited"
    assert re.search(r"revision b2 \(\S+/b2\.py:\d+\)", last["error"])
    assert "`headstart history --source b2`" in last["hint"]
    assert "`headstart stamp c3`" in last["hint"]
    assert fingerprint(any_database) == before


@pytest.mark.parametrize("change", UNTOUCHED)
def test_what_is_no_edit(project: Project, headstart: Headstart, change: str) -> None:
    """Comments, docstrings and formatting may change."""
    ended(headstart("up"), 0)
    edit(project, UNTOUCHED[change])
    ended(headstart("up"), 0)


def test_an_edit_is_of_no_interest_before_the_revision_is_applied(project: Project, headstart: Headstart) -> None:
    """A revision that was reverted may be edited, and applied again."""
    ended(headstart("up"), 0)
    ended(headstart("downgrade", "a1"), 0)
    edit(project, EDITED["statement"])
    ended(headstart("up"), 0)
    ended(headstart("up"), 0)


def test_stamp_declares_the_files_right(project: Project, headstart: Headstart, any_database: str) -> None:
    """Stamping the recorded revision says that the database is as the files say now."""
    ended(headstart("up"), 0)
    edit(project, EDITED["statement"])
    ended(headstart("up"), 73)
    ended(headstart("stamp", "c3"), 0)
    ended(headstart("up"), 0)
    assert "stamped b2" in rows(any_database)


def test_without_the_privilege(project: Project, headstart: Headstart, any_server: Postgres, any_database: str) -> None:
    """A role that may not create a schema migrates all the same, and the log says that nothing is recorded."""
    make_role(any_server, "modest", PASSWORD)
    script(any_database, "grant create, usage on schema public to modest")
    run = headstart("up", url=with_password(any_database, PASSWORD, user="modest"))
    assert len(ended(run, 0)["applied"]) == 3
    (said,) = run.events("ledger_not_written")
    assert "grant create on the database" in said["hint"]
    assert recorded(any_database) == ["c3"]


SYNC = """\
from alembic import context
from sqlalchemy import create_engine
engine = create_engine(context.config.get_main_option("sqlalchemy.url").replace("+headstart", "+{driver}"){more})
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
TAKES_A_ROLE = {
    "plain": 'op.execute("set role taken")',
    "by a function": "op.execute(\"select set_config('role', 'taken', false)\")",
    "hidden in a function": 'op.execute("select take()")',
    "below SQLAlchemy": 'op.get_bind().connection.cursor().execute("set role taken")',
    "in a script": 'op.execute("create table s (); set role taken")',
    "in a long script": "op.execute('create table s ();' + 'comment on table s is null;' * 250 + 'select take()')",
}


@pytest.mark.parametrize("body", TAKES_A_ROLE.values(), ids=TAKES_A_ROLE)
def test_a_revision_that_takes_another_role(
    project: Project, headstart: Headstart, any_server: Postgres, any_database: str, body: str
) -> None:
    """A revision that takes a role which may not write the ledger costs a row and nothing else; the log says so."""
    ended(headstart("up"), 0)
    make_role(any_server, "taken", PASSWORD)
    script(any_database, "grant all on alembic_version to taken; grant create on schema public to taken")
    takes = "select set_config('role', 'taken', false)"
    script(any_database, f"create function take() returns text language sql as $${takes}$$")
    project.revision("d4", "create table d4 ()")
    project.revision("e5", body=body)
    project.revision("f6", "create table f6 ()")
    project.revision("g7", "reset role")
    run = headstart("up")
    assert ended(run, 0)["applied"] == ["d4", "e5", "f6", "g7"]
    (said,) = run.events("ledger_incomplete")
    assert (said["expected"], said["found"]) == (4, 2)
    assert rows(any_database)[-2:] == ["applied d4", "applied g7"]


@pytest.mark.parametrize("more", ["", ", isolation_level='AUTOCOMMIT'"], ids=["", "autocommit"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("granted", ["", "grant usage on schema headstart to taken"], ids=["nothing", "usage"])
def test_by_other_drivers(
    granted: str,
    driver: str,
    more: str,
    project: Project,
    headstart: Headstart,
    any_server: Postgres,
    any_database: str,
) -> None:
    """The same with a synchronous driver, in a transaction or in none; the log says why."""
    ended(headstart("up"), 0)
    make_role(any_server, "taken", PASSWORD)
    script(any_database, f"grant all on alembic_version to taken; grant create on schema public to taken; {granted}")
    project.env.write_text(SYNC.format(driver=driver, more=more), encoding="utf-8")
    project.revision("d4", "create table d4 ()", "set role taken")
    project.revision("e5", "create table e5 ()")
    run = headstart("up")
    assert ended(run, 0)["applied"] == ["d4", "e5"]
    assert {"permission denied" in each["cause"] for each in run.events("ledger_refused")} == {True}
    (said,) = run.events("ledger_incomplete")
    assert (said["expected"], said["found"]) == (2, 0)
    assert psql(any_database, "select count(*) from pg_class where relname in ('d4', 'e5')") == [(2,)]


def test_an_environment_that_takes_another_role(
    project: Project, headstart: Headstart, any_server: Postgres, any_database: str
) -> None:
    """An env.py that takes a role of its own for all revisions: they are applied, and the log says what is missing."""
    ended(headstart("up"), 0)
    make_role(any_server, "taken", PASSWORD)
    script(any_database, "grant all on alembic_version to taken; grant create on schema public to taken")
    env = project.versions.parent / "env.py"
    code = env.read_text(encoding="utf-8")
    begins = re.compile(r"^( +)with context.begin_transaction\(\):\n", re.MULTILINE)
    taking, count = begins.subn(r'\g<0>\1    connection.exec_driver_sql("set role taken")\n', code)
    assert count
    env.write_text(taking, encoding="utf-8")
    project.revision("d4", "create table d4 ()")
    project.revision("e5", "create table e5 ()")
    run = headstart("up")
    assert ended(run, 0)["applied"] == ["d4", "e5"]
    (said,) = run.events("ledger_not_written")
    assert "the role may neither write" in said["cause"]


def test_stamp_is_recorded(project: Project, headstart: Headstart, any_database: str) -> None:
    """What is stamped counts as applied, with all below it; stamping base says so."""
    ended(headstart("stamp", "b2"), 0)
    assert rows(any_database) == ["stamped a1", "stamped b2"]
    ended(headstart("stamp", "base"), 0)
    assert rows(any_database)[2:] == ["stamped base"]


@pytest.mark.parametrize("target", ["c3", "head", "a1", "base"])
def test_stamped_and_recorded_or_neither(
    project: Project, headstart: Headstart, any_database: str, target: str
) -> None:
    """What keeps the version table from being stamped keeps the ledger from saying so, and the other way round."""
    ended(headstart("upgrade", "b2"), 0)
    before = rows(any_database)
    script(
        any_database,
        "create function no() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;"
        "create constraint trigger no after insert or update or delete on alembic_version"
        " deferrable initially deferred for each row execute function no()",
    )
    assert "not now" in ended(headstart("stamp", target), 10)["error"]
    assert recorded(any_database) == ["b2"]
    assert rows(any_database) == before
    script(any_database, "drop trigger no on alembic_version")
    ended(headstart("stamp", target), 0)
    assert rows(any_database)[len(before) :][-1].startswith("stamped")


def test_history_shows_who_and_when(project: Project, headstart: Headstart, any_database: str) -> None:
    """`history --ledger` has a line for all that was done; without a ledger it has none."""
    assert headstart("history", "--ledger").stdout == ""
    run = headstart("up")
    lines = headstart("history", "--ledger").stdout.splitlines()
    assert [line.split()[1:3] for line in lines] == [["applied", "a1"], ["applied", "b2"], ["applied", "c3"]]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    expected = rf"{time}  applied   a1  \d\.\d\d s  \S+@\S+  app:v1  run {run.last['run_id']}"
    assert re.fullmatch(expected, lines[0])


def test_history_shows_the_source(project: Project, headstart: Headstart) -> None:
    """`history --source` prints a file as it was applied, byte for byte, whatever has become of it."""
    original = (project.versions / "b2.py").read_text(encoding="utf-8")
    ended(headstart("up"), 0)
    edit(project, EDITED["statement"])
    assert headstart("history", "--source", "b2").stdout == original
    assert "'zz'" in ended(headstart("history", "--source", "zz"), 10)["error"]


@pytest.mark.parametrize("source", [b"no zlib", zlib.compress(b" " * (16 * 1024 * 1024 + 1))], ids=["no zlib", "large"])
def test_a_source_that_cannot_be_read(project: Project, headstart: Headstart, any_database: str, source: bytes) -> None:
    """No edit is claimed of it, and `history --source` says that it cannot be read."""
    ended(headstart("up"), 0)
    psql(any_database, "update headstart.ledger set source = $1 where revision = 'b2'", source)
    edit(project, EDITED["statement"])
    ended(headstart("up"), 0)
    assert "cannot be read" in ended(headstart("history", "--source", "b2"), 10)["error"]


def test_off(project: Project, headstart: Headstart, any_database: str) -> None:
    """With HEADSTART_LEDGER=off none is kept."""
    run = headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_LEDGER": "off"})
    assert len(ended(run, 0)["applied"]) == 3
    assert psql(any_database, "select to_regnamespace('headstart')") == [(None,)]
    assert [each["level"] for each in run.events("ledger_not_written")] == ["info"]


def test_off_later(project: Project, headstart: Headstart) -> None:
    """With HEADSTART_LEDGER=off one that was kept before is not asked: it may not know what was applied since."""
    ended(headstart("up"), 0)
    edit(project, EDITED["statement"])
    ended(headstart("up"), 73)
    ended(headstart("up", env={"HEADSTART_LEDGER": "off"}), 0)
    shown = headstart("status", "--json", env={"HEADSTART_LEDGER": "off"})
    assert (shown.code, json.loads(shown.stdout)["last_run"]) == (0, None)


def test_a_publication_of_all_tables(project: Project, headstart: Headstart, any_database: str) -> None:
    """None is kept where a subscriber would stop for want of the table."""
    script(any_database, "create publication whole for all tables")
    run = headstart("up")
    assert len(ended(run, 0)["applied"]) == 3
    (said,) = run.events("ledger_not_written")
    assert "the publication whole would replicate it" in said["cause"]


def test_a_view_in_its_place(project: Project, headstart: Headstart, any_database: str) -> None:
    """What stands there and is not ours is neither read nor written, and `history --ledger` says why."""
    script(any_database, "create schema headstart; create view headstart.ledger as select 1 / 0 as history")
    run = headstart("up")
    assert len(ended(run, 0)["applied"]) == 3
    assert "no ordinary table" in run.events("ledger_not_written")[0]["cause"]
    shown = headstart("history", "--ledger")
    assert (shown.code, shown.stdout) == (0, "")
    assert "no ordinary table" in shown.events("ledger_not_read")[0]["cause"]


def test_status_shows_the_last_run(project: Project, headstart: Headstart) -> None:
    """`status` says who ran last, and what that did."""
    assert json.loads(headstart("status", "--json").stdout)["last_run"] is None
    run = headstart("up")
    ended(headstart("up"), 0)
    last = json.loads(headstart("status", "--json").stdout)["last_run"]
    assert (last["run_id"], last["image"]) == (run.last["run_id"], "app:v1")
    assert last["revisions"] == ["applied a1", "applied b2", "applied c3"]
    assert "by app:v1 on" in headstart("status").stdout


def test_autogenerate_passes_over_it(project: Project, headstart: Headstart) -> None:
    """With `include_schemas`, and models that know nothing, the ledger is not among the tables to be dropped."""
    text = project.env.read_text(encoding="utf-8").replace("target_metadata = None", "target_metadata = sa.MetaData()")
    text = text.replace("target_metadata=target_metadata", "target_metadata=target_metadata, include_schemas=True")
    project.env.write_text(f"import sqlalchemy as sa\n{text}", encoding="utf-8")
    ended(headstart("up"), 0)
    run = headstart("revision", "--autogenerate", "-m", "drift")
    assert run.code == 0, run
    (new,) = (path for path in project.versions.iterdir() if "drift" in path.name)
    text = new.read_text(encoding="utf-8")
    assert "op.drop_table('b2')" in text
    assert "ledger" not in text


def test_a_database_with_a_ledger_alone_is_empty(project: Project, headstart: Headstart, any_database: str) -> None:
    """`auto` takes no backup of a database that holds nothing but Alembic's table and ours."""
    ended(headstart("up", env={}), 0)
    ended(headstart("downgrade", "base", env={"HEADSTART_BACKUP": "off"}), 0)
    run = headstart("up", env={})
    assert ended(run, 0)["backup"] is None
    assert run.events("backup_skipped")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", ""])
def test_what_a_revision_reads_of_its_session(
    driver: str, project: Project, headstart: Headstart, any_database: str
) -> None:
    """A row leaves nothing behind in the session that the next revision could see, such as lastval()."""
    if driver:
        project.env.write_text(SYNC.format(driver=driver, more=""), encoding="utf-8")
    project.revision("d4", "create sequence s start 500", "create table seen (last bigint)", "select nextval('s')")
    project.revision("e5", "insert into seen values (lastval())")
    ended(headstart("up"), 0)
    assert psql(any_database, "select last from seen") == [(500,)]
    assert len(rows(any_database)) == 5


@pytest.mark.parametrize("verb", [("up",), ("stamp", "head")], ids=" ".join)
def test_a_driver_that_prepares_everything(
    verb: tuple[str, ...], project: Project, headstart: Headstart, any_database: str
) -> None:
    """What writes a row is one statement at a time: a prepared one can be no more."""
    more = ", connect_args={'prepare_threshold': 0}"
    project.env.write_text(SYNC.format(driver="psycopg", more=more), encoding="utf-8")
    ended(headstart(*verb), 0)
    assert len(rows(any_database)) == 3


@pytest.mark.parametrize(
    "constraint",
    ["add unique (host) deferrable initially deferred", "add check (false) not valid", "add unique (run_id)"],
)
def test_constraints_of_others(constraint: str, project: Project, headstart: Headstart, any_database: str) -> None:
    """A constraint that somebody has put on the ledger keeps no revision from being applied, at its commit neither."""
    ended(headstart("up", "--target", "a1"), 0)
    script(any_database, f"alter table headstart.ledger {constraint}")
    assert ended(headstart("up"), 0)["applied"] == ["b2", "c3"]


def test_a_ledger_that_is_locked(project: Project, headstart: Headstart, any_database: str) -> None:
    """A session that holds the ledger locked keeps nothing waiting for long; the log says that it is not read."""
    ended(headstart("up"), 0)
    with Session(any_database) as somebody:
        somebody.execute("begin; lock table headstart.ledger in access exclusive mode")
        assert headstart("up").last["exit_code"] == 0
        run = headstart("status", "--json")
        assert run.code == 0
        assert json.loads(run.stdout)["revision"] == "c3"
        project.revision("d4", "create table d4 ()")
        run = headstart("up", env={"HEADSTART_BACKUP": "off", "HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"})
        assert ended(run, 0)["applied"] == ["d4"]
        assert {"ledger_not_read", "ledger_not_written"} <= {each["event"] for each in run.log}


def test_an_environment_that_commits_by_itself(
    project: Project, headstart: Headstart, any_server: Postgres, any_database: str
) -> None:
    """A callback of env.py's that commits each revision: the row gets a transaction of its own, or none."""
    ended(headstart("up"), 0)
    make_role(any_server, "taken", PASSWORD)
    script(any_database, "grant all on alembic_version to taken; grant create on schema public to taken")
    commits = "on_version_apply=lambda **each: each['ctx'].connection.commit(), connection=connection"
    project.env.write_text(
        SYNC.format(driver="psycopg2", more="").replace("connection=connection", commits), encoding="utf-8"
    )
    project.revision("d4", "create table d4 ()", "set role taken")
    project.revision("e5", "create table e5 ()", "reset role")
    project.revision("f6", "create table f6 ()")
    assert ended(headstart("up"), 0)["applied"] == ["d4", "e5", "f6"]
    assert rows(any_database)[3:] == ["applied e5", "applied f6"]
