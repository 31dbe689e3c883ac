"""`headstart repair`: the INVALID indexes that the project's own revisions have left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, running
from support.postgres import psql, script
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.process import Headstart, Run
    from support.project import Project

CONCURRENTLY = "with op.get_context().autocommit_block():\n    op.execute('{}')"
UNIQUE = "delete from a where ctid = (select min(ctid) from a)"


def indexes(url: str) -> list[tuple[str, bool]]:
    """The indexes of table a, and whether each is valid."""
    query = "select indexrelid::regclass::text, indisvalid from pg_index where indrelid = 'a'::regclass order by 1"
    return [(str(name), bool(valid)) for name, valid in psql(url, query)]


def test_of_an_applied_revision(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """It is built anew, as soon as what is in its way is gone; the copies of builds that failed are dropped."""
    project.revision("b2", body=CONCURRENTLY.format("create unique index concurrently if not exists a_id on a (id)"))
    ended(headstart("up", url=doubled), 61)
    script(doubled, UNIQUE)
    assert "headstart repair" in ended(headstart("up", url=doubled), 80)["hint"]
    script(doubled, "insert into a values (1)")
    last = ended(headstart("repair", url=doubled), 80)
    assert "reindex index concurrently public.a_id" in last["error"]
    assert last["sqlstate"] == "23505"
    assert indexes(doubled) == [("a_id", False), ("a_id_ccnew", False)]
    script(doubled, UNIQUE)
    planned = headstart("repair", "--dry-run", url=doubled)
    ended(planned, 0)
    statements = [line["statement"] for line in planned.events("repair_planned")]
    assert statements == [
        "reindex index concurrently public.a_id",
        "drop index concurrently public.a_id_ccnew",
    ]
    assert indexes(doubled) == [("a_id", False), ("a_id_ccnew", False)], "nothing was done"
    run = headstart("repair", url=doubled)
    ended(run, 0)
    assert [line["statement"] for line in run.events("repaired")] == statements
    assert indexes(doubled) == [("a_id", True)]
    ended(headstart("up", url=doubled), 0)


def test_of_a_pending_revision(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """It is dropped, so that its revision can build it."""
    project.revision("b2", body=CONCURRENTLY.format("create unique index concurrently a_id on a (id)"))
    ended(headstart("up", url=doubled), 61)
    script(doubled, UNIQUE)
    ended(headstart("up", url=doubled), 61)
    ended(headstart("repair", url=doubled), 0)
    assert indexes(doubled) == []
    ended(headstart("up", url=doubled), 0)
    assert indexes(doubled) == [("a_id", True)]


@pytest.mark.parametrize(
    "body",
    [
        "op.create_index(op.f('a_id'), 'a', ['id'], unique=True, postgresql_concurrently=True)",
        "op.execute((pathlib.Path(__file__).parent.parent / 'index.sql').read_text())",
        "tools.build(op)",
    ],
    ids=["op.f", "a file", "a module"],
)
def test_of_a_pending_revision_in_other_words(
    body: str, project: Project, headstart: Callable[..., Run], doubled: str
) -> None:
    """As autogenerate writes it, or as it stands in what the revision reads or imports."""
    sql = "create unique index concurrently a_id on a (id)"
    (project.folder / "migrations" / "index.sql").write_text(sql, encoding="utf-8")
    (project.folder / "tools.py").write_text(f"def build(op):\n    op.execute('{sql}')\n", encoding="utf-8")
    project.revision("b2", body=f"import pathlib\nimport tools\nwith op.get_context().autocommit_block():\n    {body}")
    ended(headstart("up", url=doubled), 61)
    script(doubled, UNIQUE)
    ended(headstart("repair", url=doubled), 0)
    assert indexes(doubled) == []
    ended(headstart("up", url=doubled), 0)


def test_that_a_pending_revision_drops(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """It is left to that revision, which would fail without it."""
    with pytest.raises(Exception, match="could not create unique index"):
        script(doubled, "create unique index concurrently a_id on a (id)")
    project.revision("b2", body=CONCURRENTLY.format("drop index concurrently a_id"))
    run = headstart("repair", url=doubled)
    ended(run, 0)
    assert [line["index"] for line in run.events("repair_left")] == ["public.a_id"]
    assert indexes(doubled) == [("a_id", False)]
    ended(headstart("up", url=doubled), 0)


@pytest.mark.parametrize(
    "pending",
    [
        "op.execute('create table b (id int)')  # beside a_id, which is built CONCURRENTLY",
        "op.execute('alter table a add constraint a_key unique using index a_id')",
    ],
    ids=["a comment", "its constraint"],
)
def test_that_a_pending_revision_names(
    pending: str, project: Project, headstart: Callable[..., Run], doubled: str
) -> None:
    """An index of an applied revision is built anew, whatever a pending one says of it: only that one would miss it."""
    project.revision("b2", body=CONCURRENTLY.format("create unique index concurrently if not exists a_id on a (id)"))
    ended(headstart("up", url=doubled), 61)
    script(doubled, UNIQUE)
    ended(headstart("up", url=doubled), 80)
    project.revision("c3", body=pending)
    run = headstart("repair", url=doubled)
    assert [line["statement"] for line in run.events("repair_planned")] == ["reindex index concurrently public.a_id"]
    ended(run, 0)
    ended(headstart("up", url=doubled), 0)


def test_of_somebody_else(project: Project, headstart: Callable[..., Run], doubled: str) -> None:
    """What no revision has made is named, and left alone."""
    with pytest.raises(Exception, match="could not create unique index"):
        script(doubled, "create unique index concurrently by_hand on a (id)")
    project.revision("b2", "create table b (id int)")
    run = headstart("repair", url=doubled)
    ended(run, 0)
    assert run.events("repair_planned") == []
    assert [line["indexes"] for line in run.events("invalid_indexes_found")] == [["public.by_hand"]]
    assert indexes(doubled) == [("by_hand", False)]


def test_interrupted(
    project: Project,
    headstart: Callable[..., Run],
    begin_headstart: Callable[..., Headstart],
    doubled: str,
) -> None:
    """SIGTERM during the build: ended at once, what stays is named, nobody is left, and the next one mends it all."""
    project.revision("b2", body=CONCURRENTLY.format("create unique index concurrently if not exists a_id on a (id)"))
    ended(headstart("up", url=doubled), 61)
    script(doubled, UNIQUE)
    ended(headstart("up", url=doubled), 80)
    with Session(doubled, "nightly report") as somebody:
        somebody.execute("begin; insert into a values (7)")
        process = begin_headstart("repair", url=doubled)
        line = process.wait_for("statement_blocked", seconds=20)
        assert "nightly report" in line["blockers"][0]
        process.send(signal.SIGTERM)
        run = process.finish()
        eventually(lambda: not running(doubled, "^reindex"), "an end of the build")
    last = ended(run, 143)
    assert "INVALID index public.a_id" in last["leftovers"]
    assert last["total_seconds"] < 20
    ended(headstart("repair", url=doubled), 0)
    assert indexes(doubled) == [("a_id", True)]
