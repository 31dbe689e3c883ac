"""An INVALID index is named by every run until it is gone, and no database with one of the project's own is ready."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, running
from support.postgres import psql, script
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.process import Headstart, Run
    from support.project import Project

PATIENT = {"HEADSTART_WAIT_TIMEOUT": "1s"}
# Each is tried on a table with two equal rows, and leaves a_id INVALID.
BUILT = {
    "in a block": 'op.execute("create unique index concurrently if not exists a_id on a (id)")',
    "by op": 'op.create_index("a_id", "a", ["id"], unique=True, postgresql_concurrently=True, if_not_exists=True)',
    "in a loop": (
        'for column in ["id"]:\n'
        '        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_{column} ON a ({column})")'
    ),
    "from a file": "op.execute((pathlib.Path(__file__).parents[1] / 'sql' / 'index.sql').read_text())",
    "formatted": 'op.execute("create unique index concurrently if not exists a_%s on a (id)" % "id")',
}


@pytest.mark.parametrize("statement", BUILT.values(), ids=BUILT)
def test_it_is_not_forgotten(statement: str, project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What IF NOT EXISTS takes for done is INVALID still, whichever verb looks, until it is mended."""
    (project.folder / "migrations" / "sql").mkdir()
    (project.folder / "migrations" / "sql" / "index.sql").write_text(
        "create unique index concurrently if not exists a_id on a (id)", encoding="utf-8"
    )
    project.revision("b2", body=f"import pathlib\nwith op.get_context().autocommit_block():\n    {statement}")
    assert ended(headstart("up", url=doubled), 61)["leftovers"][-1].startswith("INVALID index public.a_id: ")
    script(doubled, "delete from a where ctid = (select min(ctid) from a)")
    for _ in range(2):
        last = ended(headstart("up", url=doubled), 80)
        assert (last["invalid_indexes"], last["revision_after"]) == (["public.a_id"], "b2")
    last = ended(headstart("wait", "--for", "head", url=doubled, env=PATIENT), 20)
    assert last["invalid_indexes"] == ["public.a_id"]
    status = headstart("status", "--json", "--exit-code", url=doubled)
    found = json.loads(status.stdout)
    assert (status.code, found["at_target"], found["pending"]) == (80, False, [])
    assert found["invalid_indexes"] == ["public.a_id"]
    assert "reindex index concurrently public.a_id" in headstart("doctor", url=doubled).stdout
    script(doubled, last["hint"].partition(";")[0])
    ended(headstart("up", url=doubled), 0)
    ended(headstart("wait", "--for", "head", url=doubled, env=PATIENT), 0)
    assert headstart("status", "--exit-code", url=doubled).code == 0


def test_it_is_in_the_way(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """Without IF NOT EXISTS the next run says what is in its way, and what to type."""
    project.revision(
        "b2",
        body="with op.get_context().autocommit_block():\n"
        "    op.execute('create unique index concurrently a_id on a (id)')",
    )
    ended(headstart("up", url=doubled), 61)
    last = ended(headstart("up", url=doubled), 61)
    assert last["sqlstate"] == "42P07"
    assert last["leftovers"] == ["INVALID index public.a_id: drop index concurrently public.a_id;"]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("reindex index concurrently a_id", "public.a_id_ccnew"),
        ("reindex schema concurrently public", "public.a_id_ccnew"),
        ("reindex (concurrently) table a", "public.a_id_ccnew"),
    ],
    ids=["index", "schema", "table"],
)
def test_a_copy_that_a_reindex_has_left(
    statement: str, name: str, project: Project, begin_headstart: Callable[..., Headstart], doubled: str
) -> None:
    """It is the revision's, whichever way that named what it builds anew."""
    script(doubled, "create index a_id on a (id)")
    project.revision("b2", body=f"with op.get_context().autocommit_block():\n    op.execute('{statement}')")
    with Session(doubled) as somebody:
        somebody.execute("begin; update a set id = 1")
        process = begin_headstart("up", url=doubled)
        eventually(lambda: psql(doubled, "select from pg_class where relname = 'a_id_ccnew'"), "the copy")
        process.send(signal.SIGTERM)
        ended(process.finish(), 143)
    project.revision("b2", body="pass", down="a1")
    project.revision("c3", down="b2", body=f"with op.get_context().autocommit_block():\n    pass  # {statement}")
    last = ended(begin_headstart("up", url=doubled).finish(), 80)
    assert last["invalid_indexes"] == [name]


def test_that_a_helper_builds(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What the revision imports counts as the revision's."""
    tools = project.folder / "tools"
    tools.mkdir()
    (tools / "__init__.py").write_text("", encoding="utf-8")
    (tools / "build.py").write_text(
        "from alembic import op\n\n\ndef unique(name, table):\n    with op.get_context().autocommit_block():\n"
        '        op.execute("create unique index concurrently if not exists a_id on a (id)")\n',
        encoding="utf-8",
    )
    project.revision("b2", body="from tools import (\n    build,\n)\nbuild.unique('a_id', 'a')")
    ended(headstart("up", url=doubled), 61)
    script(doubled, "delete from a where ctid = (select min(ctid) from a)")
    assert ended(headstart("up", url=doubled), 80)["invalid_indexes"] == ["public.a_id"]


def test_of_another(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """One that no revision has made is named by each run, and does not keep the app from starting."""
    with pytest.raises(Exception, match="could not create unique index"):
        script(doubled, "create unique index concurrently by_hand on a (id)")
    project.revision("b2", body='op.execute("create table b (id int)")  # nothing CONCURRENTLY on by_bob')
    for applied in (["b2"], []):
        run = headstart("up", url=doubled)
        assert ended(run, 0)["applied"] == applied
        [line] = run.events("invalid_indexes_found")
        assert line["indexes"] == ["public.by_hand"]
    ended(headstart("wait", "--for", "head", url=doubled, env=PATIENT), 0)
    assert "by_hand" in headstart("doctor", url=doubled).stdout


@pytest.mark.parametrize(
    ("before", "in_its_way", "statement"),
    [
        (
            "delete from a where ctid = (select min(ctid) from a)",
            "begin; update a set id = 1",
            "create unique index concurrently a_id on a (id)",
        ),
        ("create index a_id on a (id)", "begin; select * from a", "drop index concurrently a_id"),
    ],
    ids=["built", "dropped"],
)
def test_being_changed(
    before: str, in_its_way: str, statement: str, project: Project, headstart: Callable[..., Run], doubled: str
) -> None:
    """One that somebody builds or drops at this moment is not INVALID for good."""
    project.revision("b2", body='op.execute("create table b (id int)")  # somebody changes a_id CONCURRENTLY')
    script(doubled, before)
    with Session(doubled) as other, Session(doubled) as somebody:
        other.execute(in_its_way)
        work = threading.Thread(target=somebody.execute, args=(statement,))
        work.start()
        invalid = "select 1 from pg_index where not indisvalid"
        eventually(lambda: psql(doubled, invalid) == [(1,)], what=statement)
        run = headstart("up", url=doubled)
        assert (ended(run, 0)["applied"], run.events("invalid_indexes_found")) == (["b2"], [])
        other.execute("rollback")
        work.join()


@pytest.mark.parametrize("code", [0, 60])
def test_of_another_beside_the_run(
    code: int, project: Project, begin_headstart: Callable[..., Headstart], doubled: str
) -> None:
    """What somebody else's build leaves while a revision runs is theirs: it makes neither 80 of a 0 nor 61 of a 60."""
    project.revision("b2", "select pg_advisory_xact_lock(7)", "select 1/0" if code else "select 1")
    with Session(doubled) as gate:
        gate.execute("begin; select pg_advisory_xact_lock(7)")
        process = begin_headstart("up", url=doubled, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "30s"})
        eventually(lambda: running(doubled, "^select pg_advisory_xact_lock"), what="the revision is at work")
        with pytest.raises(Exception, match="could not create unique index"):
            script(doubled, "create unique index concurrently by_hand on a (id)")
        gate.execute("commit")
    assert ended(process.finish(), code).get("leftovers") is None


def test_in_a_translated_schema(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """Where env.py translates schemas, the index is not in the one that the revision names: it is the project's."""
    script(doubled, "create schema acme; create table acme.a (id int); insert into acme.a values (1), (1)")
    with pytest.raises(Exception, match="could not create unique index"):
        script(doubled, "create unique index concurrently a_id on acme.a (id)")
    build = "'a_id', 'a', ['id'], unique=True, schema='tenant', postgresql_concurrently=True"
    project.revision("b2", body=f"if False:\n    op.create_index({build})")
    assert ended(headstart("up", url=doubled), 80)["invalid_indexes"] == ["acme.a_id"]


def test_in_a_module(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """The run that leaves it names it, even where no revision file does: by the statement that was executed."""
    (project.folder / "helper.py").write_text(
        "def build(op):\n    with op.get_context().autocommit_block():\n"
        "        op.create_index('a_id', 'a', ['id'], unique=True, postgresql_concurrently=True)\n",
        encoding="utf-8",
    )
    project.revision("b2", body="from helper import build\nbuild(op)")
    last = ended(headstart("up", url=doubled), 61)
    assert last["leftovers"] == ["INVALID index public.a_id: drop index concurrently public.a_id;"]


def test_of_a_tenant(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """Of many schemas, that one has failed in which a revision has left it."""
    project.revision("b2", body=f"with op.get_context().autocommit_block():\n    {BUILT['in a block']}")
    script(doubled, "create schema one; create schema two")
    (project.folder / "tenants.txt").write_text("one\ntwo\n", encoding="utf-8")
    env = {"HEADSTART_TENANTS_FILE": "tenants.txt"}
    assert headstart("tenants", "up", url=doubled, env=env).code == 61
    script(doubled, "delete from two.a; drop index two.a_id")
    for _ in range(2):
        run = headstart("tenants", "up", url=doubled, env=env)
        assert {line["tenant"]: line["exit_code"] for line in run.events("tenant_finished")}["one"] == 80
        assert (run.code, run.last["failed"]) == (80, 1), str(run)
    script(doubled, "delete from one.a; reindex index one.a_id")
    assert headstart("tenants", "up", url=doubled, env=env).code == 0
