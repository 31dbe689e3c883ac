"""A migration that is held up explains itself: who blocks it, how far it is; and ends who sleeps, if it was told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from acceptance.checks import Session, ended, make_role, with_password
from headstart.postgres.activity import Pace, Progress
from headstart.postgres.blockers import Blocker
from support.postgres import psql, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project

TERMINATE = {
    "HEADSTART_BLOCKERS": "terminate",
    "HEADSTART_BLOCKERS_IDLE": "300ms",
    "HEADSTART_TABLE_LOCK_TIMEOUT": "1s",
    "HEADSTART_TABLE_LOCK_RETRY": "20s",
}
PASSWORD = "a limited role's pass"


@pytest.fixture
def held_up(project: Project, any_database: str) -> str:
    """A database with a table, whose project wants to alter it."""
    project.revision("a1", "alter table item add column more int")
    script(any_database, "create table item (id int)")
    return any_database


def test_who_sleeps_is_ended(held_up: str, headstart: Callable[..., Run]) -> None:
    """A session that is idle in a transaction for longer than the limit is ended, and the revision applied."""
    with Session(held_up, "forgotten psql") as somebody:
        somebody.execute("begin; select * from item")
        run = headstart("up", url=held_up, env=TERMINATE)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            somebody.execute("select 1")
    assert run.code == 0, run
    [line] = run.events("blocker_ended")
    assert "forgotten psql" in line["blocker"]
    assert "idle in transaction for" in line["blocker"]


def test_who_sleeps_is_only_named_by_default(held_up: str, headstart: Callable[..., Run]) -> None:
    """Nobody is ended unasked; the message says which setting would."""
    env = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms", "HEADSTART_TABLE_LOCK_RETRY": "1500ms"}
    with Session(held_up, "forgotten psql") as somebody:
        somebody.execute("begin; select * from item")
        last = ended(headstart("up", url=held_up, env=env), 62)
        somebody.execute("select 1")
    assert "HEADSTART_BLOCKERS=terminate" in last["hint"]


def test_who_works_is_never_ended(held_up: str, headstart: Callable[..., Run]) -> None:
    """A statement that runs is left alone, however long its transaction has been open."""
    with Session(held_up, "nightly report") as reader:
        reader.begin("begin; select * from item; select pg_sleep(60)")
        run = headstart("up", url=held_up, env={**TERMINATE, "HEADSTART_TABLE_LOCK_RETRY": "1500ms"})
        ended_now = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nightly report'"
        assert psql(held_up, ended_now) == [(True,)], "it was there until now"
    ended(run, 62)
    assert run.events("blocker_ended") == []


def test_who_may_not_be_ended(held_up: str, headstart: Callable[..., Run], any_server: Postgres) -> None:
    """A role that may not end a session says so once, with the grant that it lacks."""
    make_role(any_server, "limited", PASSWORD)
    script(held_up, "grant create on schema public to limited; alter table item owner to limited")
    script(held_up, "grant pg_read_all_stats to limited")
    with Session(held_up, "forgotten psql") as somebody:
        somebody.execute("begin; select * from item")
        url = with_password(held_up, PASSWORD, user="limited")
        run = headstart("up", url=url, env={**TERMINATE, "HEADSTART_TABLE_LOCK_RETRY": "3s", "HEADSTART_BACKUP": "off"})
        somebody.execute("select 1")
    ended(run, 62, secrets=[PASSWORD])
    [line] = run.events("blocker_not_ended")
    assert "grant pg_signal_backend to limited" in line["hint"]


def test_a_prepared_transaction_is_named(
    project: Project, start_server: StartServer, run_headstart: Callable[..., Run]
) -> None:
    """It has no session that could be ended: what is typed instead stands in the hint."""
    server = start_server(settings={"max_prepared_transactions": "5"})
    project.revision("a1", "alter table item add column more int")
    url = server.url()
    script(url, "create table item (id int)")
    with Session(url) as somebody:
        somebody.execute("begin; select * from item; prepare transaction 'of the app''s'")
        somebody.execute("begin; select 1; prepare transaction 'harmless'")
    env = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms", "HEADSTART_TABLE_LOCK_RETRY": "1s", "HEADSTART_BACKUP": "off"}
    last = ended(run_headstart("up", url=url, env=env), 62)
    [blocker] = last["blockers"]
    assert blocker.startswith("prepared of the app's (user ")
    assert "rollback prepared 'of the app''s'" in last["hint"]


def test_how_far_it_is(
    project: Project, any_database: str, begin_headstart: Callable[..., Headstart], any_server: Postgres
) -> None:
    """A long statement tells the server's own progress, in percent, and what it waits for."""
    script(any_database, "create table item as select generate_series(1, 10000) as id")
    script(
        any_database,
        "create function slow(id int) returns int immutable language plpgsql as"
        " 'begin if id % 20 = 0 then perform pg_sleep(0.02); end if; return id; end'",
    )
    project.revision("a1", "create index item_slow on item (slow(id))")
    process = begin_headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    first = process.wait_for("statement_running", seconds=20)
    assert 0 < first["percent"] < 100
    assert f"{first['percent']:.0f} %" in first["progress"]
    assert "scanning table" in first["progress"]
    assert first["waits_for"] == "Timeout: PgSleep"
    run = process.finish(seconds=40)
    assert run.code == 0, run


def test_the_pace_of_a_phase() -> None:
    """What is left follows from two looks at one phase; another phase begins anew."""
    pace = Pace()
    assert pace.left_seconds(Progress(None, "scanning", 100, 1000), 10.0) is None
    assert pace.left_seconds(Progress(None, "scanning", 300, 1000), 20.0) == pytest.approx(35.0)
    assert pace.left_seconds(Progress(None, "loading", 300, 2000), 30.0) is None
    assert pace.left_seconds(Progress(None, "loading", 300, 2000), 40.0) is None
    assert pace.left_seconds(Progress(None, None, 0, 0), 50.0) is None


def test_a_blocker_in_words() -> None:
    """For how long it has been idle, and what it did last, without constants."""
    blocker = Blocker(
        pid=7,
        application_name="psql",
        user="ann",
        client_addr=None,
        state="idle in transaction",
        query="select 'secret'",
        transaction_seconds=40.0,
        state_seconds=35.0,
        prepared=None,
        viewer="bob",
    )
    assert (
        str(blocker) == "pid 7 psql (user ann, idle in transaction for 35 s, in a transaction for 40 s): select '...'"
    )
