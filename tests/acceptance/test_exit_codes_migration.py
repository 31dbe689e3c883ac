"""Exit codes of a migration that failed: 60, 61, 62, 80, and of one that was told to stop: 130, 143."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, make_role, running, with_password
from support.postgres import psql, script
from support.project import fingerprint, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

CONCURRENT = """\
with op.get_context().autocommit_block():
    op.execute("{statement}")
"""
UNIQUE = CONCURRENT.format(statement="create unique index concurrently a_id on a (id)")
PASSWORD = "correct horse battery"
IMPATIENT = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms", "HEADSTART_TABLE_LOCK_RETRY": "1500ms"}


def test_60_failed(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """The report names revision, statement, SQLSTATE and position; what was committed before stays, and is recorded."""
    project.revision("b2", "create table b (id int)")
    path = project.revision("c3", "create table c (id int)", "alter table a add column x integr")
    project.revision("d4", "create table d (id int)")
    last = ended(headstart("up", url=doubled), 60)
    assert (last["failed"], last["revision"]) == ("c3", "c3")
    assert (last["sqlstate"], last["statement"]) == ("42704", "alter table a add column x integr")
    assert last["position"] == len("alter table a add column x ") + 1
    assert last["location"].startswith(f"{path}:")
    assert "c3" in last["error"]
    assert "integr" in last["error"]
    assert (last["revision_before"], last["revision_after"], last["applied"]) == ("a1", "b2", ["b2"])
    assert last["pending"] == ["c3", "d4"]
    assert last["backup"], "the backup that goes with it is named"
    assert recorded(doubled) == ["b2"]
    assert psql(doubled, "select to_regclass('b') is null, to_regclass('c') is null, to_regclass('d') is null") == [
        (False, True, True)
    ]


def test_60_in_a_script(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """Of several statements in one execute, the one that failed is named, with the position inside it."""
    project.revision(
        "b2", "create table b (id int);\nselect 1;\ninsert into b\nvalues ('x');\ncreate table c (id int);"
    )
    last = ended(headstart("up", url=doubled), 60)
    assert last["sqlstate"] == "22P02"
    assert last["statement"] == "insert into b values ('...')"
    assert psql(doubled, "select to_regclass('b') is null") == [(True,)]


def test_60_no_version_table_yet(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """Where nothing was recorded, what is there already was made before: the remedy is to adopt it."""
    project.revision("a1", "create table a (id int)")
    script(any_database, "create table a (id int)")
    assert "headstart adopt" in ended(headstart("up", url=any_database), 60)["hint"]


def test_60_python(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A revision that fails in Python is named with file and line, without a traceback."""
    path = project.revision("b2", body="op.execute('create table b (id int)')\nraise ValueError('no such luck')")
    before = fingerprint(doubled)
    last = ended(headstart("up", url=doubled), 60)
    assert "ValueError: no such luck" in last["error"]
    assert last["location"].startswith(f"{path}:")
    assert fingerprint(doubled) == before


def test_60_all_that_was_said(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """An error of several lines is reported whole, with the calls that lead to it."""
    helper = project.versions.parent / "helper.py"
    helper.write_text("def look():\n    raise ValueError('2 mistakes\\nhost: missing\\nport: no number')\n", "utf-8")
    importing = f"import sys\nsys.path.append({str(helper.parent)!r})\nimport helper\nhelper.look()"
    path = project.revision("b2", body=importing)
    last = ended(headstart("up", url=doubled), 60)
    assert (last["detail"], last["raised"]) == ("host: missing\nport: no number", "ValueError")
    assert last["location"].startswith(f"{path}:")
    assert last["calls"][-1] == f"{helper}:2 in look"


def test_60_the_server_s_hint(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What the server says beside its error is reported."""
    project.revision("b2", body="op.execute(\"do $$ begin raise 'no' using hint = 'ask the owner'; end $$\")")
    assert ended(headstart("up", url=doubled), 60)["server_hint"] == "ask the owner"


def test_60_position_in_what_is_shown(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """The position counts in the statement as it is shown, on one line."""
    project.revision("b2", body='op.execute("""\n    select   id,\n\n        nme\n    from a\n""")')
    last = ended(headstart("up", url=doubled), 60)
    assert (last["statement"], last["position"]) == ("select id, nme from a", len("select id, ") + 1)


@pytest.mark.parametrize("code", [0, 3])
def test_60_sys_exit(code: int, project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A revision that calls sys.exit, even with 0, has failed: the app must not start on a half-migrated database."""
    project.revision("b2", body=f"op.execute('create table b (id int)')\nimport sys\nsys.exit({code})")
    before = fingerprint(doubled)
    last = ended(headstart("up", url=doubled), 60)
    assert last["failed"] == "b2"
    assert fingerprint(doubled) == before


def test_60_commit_inside(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A COMMIT in a script would end the revision's transaction unseen: it is refused, and nothing of it is done."""
    project.revision("b2", "create table b (id int); commit; create table c (id int)")
    before = fingerprint(doubled)
    last = ended(headstart("up", url=doubled), 60)
    assert "commit" in last["error"].lower()
    assert fingerprint(doubled) == before


@pytest.mark.parametrize(
    "change", ["delete from alembic_version", "update alembic_version set version_num = 'z9'"], ids=["gone", "other"]
)
def test_60_version_table_changed(change: str, project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A revision that takes its own record away is rolled back: nothing is committed that is not recorded."""
    project.revision("b2", "create table b (id int)", change, "create table c (id int)")
    before = fingerprint(doubled)
    last = ended(headstart("up", url=doubled), 60)
    assert last["failed"] == "b2"
    assert "version table" in last["error"]
    assert fingerprint(doubled) == before
    assert recorded(doubled) == ["a1"]


@pytest.mark.parametrize("timeout", ["set local statement_timeout = '100ms'", "set statement_timeout = '100ms'"])
def test_60_timeout_of_its_own(timeout: str, project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A statement that runs into the revision's own timeout has failed: nobody interrupted it."""
    project.revision("b2", timeout, "select pg_sleep(5)")
    last = ended(headstart("up", url=doubled), 60)
    assert last["sqlstate"] == "57014"
    assert "HEADSTART_STATEMENT_TIMEOUT" not in last["hint"]


def test_60_statement_timeout(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A statement that runs into the timeout that was set: the setting is named, and who was in the way."""
    path = project.revision("b2", "select pg_sleep(5)")
    env = {"HEADSTART_STATEMENT_TIMEOUT": "1500ms", "HEADSTART_TABLE_LOCK_TIMEOUT": "20s"}
    last = ended(headstart("up", url=doubled, env=env), 60)
    assert last["hint"].startswith("raise HEADSTART_STATEMENT_TIMEOUT (1.5 s")
    assert "blockers" not in last
    path.unlink()
    project.revision("c3", "alter table a add column x int", down="a1")
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        last = ended(headstart("up", url=doubled, env=env), 60)
    assert last["sqlstate"] == "57014"
    assert "HEADSTART_STATEMENT_TIMEOUT (1.5 s" in last["hint"]
    assert "select pg_terminate_backend(" in last["hint"]
    assert "nightly report" in last["blockers"][0]


def test_60_already_there(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What the database already has is never stamped: the hint says whence it may come, and what to look at."""
    script(doubled, "create table b (id int)")
    project.revision("b2", "create table b (id int)")
    last = ended(headstart("up", url=doubled), 60)
    assert last["sqlstate"] == "42P07"
    for cause in ("an earlier run", "by hand", "twice", "`headstart check --only drift --database`", "stamp"):
        assert cause in last["hint"]
    assert recorded(doubled) == ["a1"]


def test_61_partly_committed(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A concurrent index that fails stays INVALID: it is named with its remedy, and after that the run succeeds."""
    project.revision("b2", body="op.execute('create table b (id int)')\n" + UNIQUE)
    last = ended(headstart("up", url=doubled), 61)
    assert (last["failed"], last["revision_after"], last["sqlstate"]) == ("b2", "a1", "23505")
    assert "committed: create table b (id int)" in last["leftovers"], "what preceded the block is committed"
    [index] = [each for each in last["leftovers"] if each.startswith("INVALID index public.a_id")]
    remedy = index.partition(": ")[2]
    assert remedy == "drop index concurrently public.a_id;"
    assert "create table" not in last["hint"], "what was done is not what to type"
    assert recorded(doubled) == ["a1"]
    script(doubled, remedy)
    script(doubled, "drop table b")
    script(doubled, "delete from a where ctid = (select min(ctid) from a)")
    ended(headstart("up", url=doubled), 0)
    assert recorded(doubled) == ["b2"]
    assert psql(doubled, "select indisvalid from pg_index where indexrelid = 'a_id'::regclass") == [(True,)]


def test_61_statement_after_the_block(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A statement that fails after an autocommit block leaves the block's work behind: it is listed."""
    project.revision(
        "b2", body=CONCURRENT.format(statement="create index concurrently a_id on a (id)") + "op.execute('select 1/0')"
    )
    last = ended(headstart("up", url=doubled), 61)
    assert any("create index concurrently a_id" in each for each in last["leftovers"])
    assert last["sqlstate"] == "22012"


def test_61_refused_after_the_block(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What a block has committed is listed even if it is Headstart that refuses what comes after it."""
    project.revision(
        "b2",
        body=CONCURRENT.format(statement="create index concurrently a_id on a (id)")
        + "op.execute('create table b (); commit; create table c ()')",
    )
    last = ended(headstart("up", url=doubled), 61)
    assert "COMMIT" in last["error"]
    assert any("create index concurrently a_id" in each for each in last["leftovers"])


def test_62_table_lock(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A table that another session keeps is tried again for as long as was asked; then the blocker is named."""
    project.revision("b2", "create table b (id int)")
    project.revision("c3", "alter table a add column x int")
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        run = headstart("up", url=doubled, env=IMPATIENT)
    last = ended(run, 62)
    assert (last["failed"], last["revision_after"], last["applied"]) == ("c3", "b2", ["b2"])
    assert last["sqlstate"] == "55P03"
    assert "select pg_terminate_backend(" in last["hint"]
    assert any("nightly report" in each for each in last["blockers"])
    assert run.events("revision_retried")
    assert recorded(doubled) == ["b2"]


def test_62_blocker_of_another_role(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, doubled: str
) -> None:
    """Of a session that the role may not look into, what is known is said, and how to see the rest."""
    project.revision("b2", "alter table a add column x int")
    make_role(any_server, "limited", PASSWORD)
    script(doubled, "grant create on schema public to limited; alter table a owner to limited")
    script(doubled, "alter table alembic_version owner to limited")
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        [(pid,)] = psql(doubled, "select pid from pg_stat_activity where application_name = 'nightly report'")
        run = headstart("up", url=with_password(doubled, PASSWORD, user="limited"), env=IMPATIENT)
    last = ended(run, 62, secrets=[PASSWORD])
    [blocker] = last["blockers"]
    assert blocker.startswith(f"pid {pid} nightly report (user ")
    assert blocker.endswith("its statement is hidden from limited)")
    assert f"select pg_terminate_backend({pid})" in last["hint"]
    assert "grant pg_read_all_stats to limited" in last["hint"]
    assert "None" not in run.stderr


def test_62_not_if_released_in_time(project: Project, begin_headstart: Callable[..., Headstart], doubled: str) -> None:
    """A table lock that is released in time costs a retry and nothing else: exit 0, each revision applied once."""
    project.revision("b2", "alter table a add column x int")
    env = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"}
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        process = begin_headstart("up", url=doubled, env=env)
        retried = process.wait_for("revision_retried")
        somebody.execute("rollback")
        run = process.finish()
    last = ended(run, 0)
    assert retried["sqlstate"] == "55P03"
    assert last["applied"] == ["b2"]
    assert len(run.events("revision_applied")) == 1
    assert len(run.events("backup_taken")) == 1


def test_62_not_after_something_was_committed(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """A revision that lost a lock after an autocommit block is not run again: it would fail on its own leftovers."""
    project.revision(
        "b2",
        body=CONCURRENT.format(statement="create table b (id int)") + "op.execute('alter table a add column x int')",
    )
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; select * from a")
        run = headstart("up", url=doubled, env=IMPATIENT)
    last = ended(run, 61)
    assert not run.events("revision_retried")
    assert any("create table b" in each for each in last["leftovers"])


def test_80_env_py_skips_migrations(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """An env.py that does not run the migrations when asked to is found out: nothing was done, and 80 says so."""
    project.revision("a1", "create table a (id int)")
    project.in_env(
        """
        import pathlib
        asked_before = pathlib.Path("asked-before")
        if asked_before.exists():
            context.run_migrations = lambda **_: None
        asked_before.touch()
        """
    )
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database), 80)
    assert "env.py" in last["error"]
    assert fingerprint(any_database) == before


def test_80_current_check_heads(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """`current --check-heads` ends with 80 when the database is elsewhere, and with 0 when it is at head."""
    assert headstart("current", "--check-heads", url=doubled).code == 0
    project.revision("b2", "create table b (id int)")
    ended(headstart("current", "--check-heads", url=doubled), 80)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_130_143_interrupted(
    signum: signal.Signals, code: int, project: Project, begin_headstart: Callable[..., Headstart], doubled: str
) -> None:
    """A signal rolls the revision back, gives the lock back and ends with 128 + its number, `run_finished` last."""
    project.revision("b2", "create table b (id int)")
    project.revision("c3", "create table c (id int)", "select pg_sleep(60)")
    process = begin_headstart("up", url=doubled)
    eventually(lambda: running(doubled, "^select pg_sleep"), "the revision is at work")
    process.send(signum)
    last = ended(process.finish(seconds=10), code)
    assert (last["applied"], last["revision_after"]) == (["b2"], "b2")
    assert recorded(doubled) == ["b2"]
    assert psql(doubled, "select to_regclass('c') is null") == [(True,)]
    assert psql(doubled, "select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]
    assert not running(doubled, "^select pg_sleep")
