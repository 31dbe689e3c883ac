"""63, when the server or the connection has failed, and 60 and 61, when it only looks so: by every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, running
from acceptance.test_leftovers import SYNC
from support.postgres import psql
from support.project import recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.process import Headstart, Run
    from support.project import Project

RAISE = "do $$ begin raise 'no room' using errcode = '{code}'; end $$"
UNTIL_IT_HAS_ENDED = """\
import os, psycopg
pid = op.get_bind().exec_driver_sql("select pg_backend_pid()").scalar()
def wait():
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
        while other.execute("select from pg_stat_activity where pid = %s", [pid]).fetchone() is not None:
            pass
"""
DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])


@pytest.fixture
def driven(driver: str, project: Project) -> Project:
    """A project whose env.py connects with the driver, with one revision."""
    if driver != "asyncpg":
        project.env.write_text(SYNC.format(driver=driver), encoding="utf-8")
    project.revision("a1", "create table a (id int)")
    return project


@DRIVERS
@pytest.mark.parametrize("code", ["53100", "57P01", "08006", "40001", "55P03", "57014"])
def test_60_raised(driven: Project, headstart: Callable[..., Run], any_database: str, code: str) -> None:
    """A SQLSTATE that the revision chooses is neither a lost server, nor a lost race, nor a timeout."""
    path = driven.revision("b2", RAISE.format(code=code))
    run = headstart("up", url=any_database, env={"HEADSTART_STATEMENT_TIMEOUT": "30s"})
    last = ended(run, 60)
    assert (last["sqlstate"], last["failed"], last["revision_after"]) == (code, "b2", "a1")
    assert last["statement"] == "do '...'"
    assert last["location"].startswith(f"{path}:")
    assert not run.events("revision_retried")
    assert "blockers" not in last
    assert "HEADSTART_STATEMENT_TIMEOUT" not in last["hint"]


@DRIVERS
@pytest.mark.parametrize("block", [False, True], ids=["60", "61"])
def test_60_61_a_file_of_the_server(
    driven: Project, headstart: Callable[..., Run], any_database: str, *, block: bool
) -> None:
    """A file that the server has not is named by the statement: the hint says on which machine it has to be."""
    before = "with op.get_context().autocommit_block(): op.execute('create table b (id int)')\n" if block else ""
    driven.revision("b2", body=f"{before}op.execute(\"copy a from '/nope'\")")
    last = ended(headstart("up", url=any_database), 61 if block else 60)
    assert (last["sqlstate"], last["statement"]) == ("58P01", "copy a from '...'")
    assert 'could not open file "..."' in last["error"], "a path is a constant, too"
    assert block or "server's machine" in last["hint"]
    assert last.get("leftovers") == (["committed: create table b (id int)"] if block else None)


@DRIVERS
@pytest.mark.parametrize(
    "statements",
    [
        ["select pg_terminate_backend(pg_backend_pid())"],
        ["set idle_in_transaction_session_timeout = '50ms'", "", "select 1"],
    ],
    ids=["terminated", "idle"],
)
def test_63_ends_its_own_session(
    driven: Project, headstart: Callable[..., Run], any_database: str, statements: list[str]
) -> None:
    """A revision that ends its own session would do so again: the hint says where to look then."""
    body = "\n".join(f"op.execute({each!r})" if each else "wait()" for each in statements)
    driven.revision("b2", body=UNTIL_IT_HAS_ENDED + body)
    last = ended(headstart("up", url=any_database), 63)
    assert (last["failed"], last["revision_after"]) == ("b2", "a1")
    assert last["hint"] == "run again; if it ends here again, look at what the revision executes"
    assert last["statement"] == statements[-1]
    assert ":" in last["location"]


@DRIVERS
@pytest.mark.parametrize("block", [False, True], ids=["63", "61"])
def test_63_61_ended_by_an_administrator(
    driven: Project, begin_headstart: Callable[..., Headstart], any_database: str, *, block: bool
) -> None:
    """Whoever ends the session is no revision: run again. The line has all the same what was at work, and where."""
    before = "with op.get_context().autocommit_block(): op.execute('create table b (id int)')\n" if block else ""
    path = driven.revision("b2", body=f"{before}op.execute(\"select pg_sleep(60), 'swordfish'\")")
    process = begin_headstart("up", url=any_database)
    eventually(lambda: running(any_database, "^select pg_sleep"), "the revision is at work")
    ending = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'"
    assert psql(any_database, f"{ending} and datname = current_database()") == [(True,)]
    last = ended(process.finish(), 61 if block else 63, secrets=["swordfish"])
    assert (last["failed"], last["revision"], last["revision_after"]) == ("b2", "b2", "a1")
    assert last["statement"] == "select pg_sleep(60), '...'"
    assert last["location"].startswith(f"{path}:")
    assert last.get("leftovers") == (["committed: create table b (id int)"] if block else None)
    assert recorded(any_database) == ["a1"]


def test_63_cancelled_by_an_administrator(
    project: Project, begin_headstart: Callable[..., Headstart], any_database: str
) -> None:
    """A statement that somebody cancels has not run into HEADSTART_STATEMENT_TIMEOUT."""
    project.revision("a1", "select pg_sleep(60)")
    process = begin_headstart("up", url=any_database, env={"HEADSTART_STATEMENT_TIMEOUT": "50s"})
    eventually(lambda: running(any_database, "^select pg_sleep"), "the revision is at work")
    with Session(any_database, "an administrator") as somebody:
        somebody.execute("select pg_cancel_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'")
    last = ended(process.finish(), 63)
    assert (last["sqlstate"], last["statement"]) == ("57014", "select pg_sleep(60)")
    assert last["hint"].startswith("run again")
