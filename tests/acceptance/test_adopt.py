"""`headstart adopt`, through the real process: an existing database without a version is compared, and recorded."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.postgres import psql, script
from support.project import Project, fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres
    from support.process import Run

    Adopt = Callable[..., Run]

pytestmark = pytest.mark.backed_up

# An existing system's files, as they were typed into psql one after the other (R1.6).
HAND_NUMBERED = {
    "001_initial_schema.sql": """
        create type side as enum ('buy', 'sell');
        create table signals (id serial primary key, symbol varchar(20) not null, side side not null);
        create function latest(text) returns bigint language sql as 'select max(id) from signals where symbol = $1';
    """,
    "002_confidence.sql": """
        alter table signals add confidence numeric(5, 2) check (confidence between 0 and 100);
        create index signals_symbol on signals (symbol, id desc);
    """,
    "003_view.sql": "create view strong as select * from signals where confidence > 90;",
}


@pytest.fixture
def project(project: Project) -> Project:
    """The same schema as a history, written in another way."""
    project.revision(
        "20250301",
        "create type side as enum ('buy', 'sell')",
        "create table signals (id serial, side side not null, symbol varchar(20) not null)",
        "alter table signals add primary key (id)",
        "create function latest(text) returns bigint language sql as 'select max(id) from signals where symbol = $1'",
    )
    project.revision(
        "20250302",
        "create index signals_symbol on signals (symbol, id desc)",
        "alter table signals add confidence numeric(5, 2) check (confidence between 0 and 100)",
    )
    project.revision(
        "20250303", "create view strong as select id, symbol, side, confidence from signals where confidence > 90"
    )
    project.revision("20250304", "create table orders (id int primary key, signal_id int references signals)")
    return project


@pytest.fixture
def headstart(run_headstart: RunHeadstart, project: Project, any_server: Postgres, any_database: str) -> Adopt:
    """Run it in the project, on the database, without backups."""
    env = {"HEADSTART_BACKUP": "off", "HEADSTART_SCRATCH_URL": any_server.url()}
    return functools.partial(run_headstart, url=any_database, cwd=project.folder, env=env)


@pytest.fixture
def by_hand(any_database: str, tmp_path: Path) -> str:
    """A database that the numbered files have made, with a row in it."""
    folder = tmp_path / "sql"
    folder.mkdir()
    for name, text in HAND_NUMBERED.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in sorted(folder.iterdir()):
        script(any_database, path.read_text(encoding="utf-8"))
    script(any_database, "insert into signals (symbol, side, confidence) values ('7203', 'buy', 95)")
    return any_database


def ledger(url: str) -> list[tuple[str, str]]:
    """What the ledger says has happened."""
    return [(row[0], row[1]) for row in psql(url, "select action, revision from headstart.ledger order by id")]


def signals(url: str) -> list[tuple[object, ...]]:
    """The rows that were there before."""
    return psql(url, "select id, symbol, side::text, confidence from signals")


def test_the_revision_is_found(headstart: Adopt, by_hand: str) -> None:
    """A database that numbered SQL files have made is told which revision it has; `up` applies what is pending."""
    before = signals(by_hand)
    run = headstart("adopt")
    last = ended(run, 0)
    assert run.stdout == ""
    assert last["revision_before"] == "base"
    assert last["revision_after"] == "20250303"
    assert run.events("schema_matches")[0]["revision"] == "20250303"
    assert recorded(by_hand) == ["20250303"]
    assert ledger(by_hand) == [("adopted", f"2025030{number}") for number in (1, 2, 3)]
    assert [each["revision"] for each in headstart("up").events("revision_applied")] == ["20250304"]
    assert ended(headstart("up"), 0)["applied"] == []
    assert signals(by_hand) == before


def test_an_adopted_revision_is_not_to_be_edited(project: Project, headstart: Adopt, by_hand: str) -> None:
    """What was adopted counts as applied from the files as they were then."""
    ended(headstart("adopt", "20250303"), 0)
    path = project.versions / "20250302.py"
    path.write_text(path.read_text(encoding="utf-8").replace("numeric(5, 2)", "numeric(6, 2)"), encoding="utf-8")
    assert "20250302" in ended(headstart("up"), 73)["error"]


def test_differences_are_shown_and_nothing_is_written(headstart: Adopt, by_hand: str) -> None:
    """A difference is a line on stdout, for the revision that comes nearest; the database is left as it is."""
    script(by_hand, "drop index signals_symbol; alter table signals alter symbol drop not null; create table x (i int)")
    before = fingerprint(by_hand)
    run = headstart("adopt")
    last = ended(run, 80)
    assert "the nearest is 20250303" in last["error"]
    assert "--force" in last["hint"]
    assert sorted(line.partition(":")[0] for line in run.stdout.splitlines()) == [
        "column public.signals.symbol",
        "index public.signals_symbol",
        "table public.x",
    ]
    assert "table public.x: only in the database" in run.stdout
    assert last["differences"] == run.stdout.splitlines()
    assert fingerprint(by_hand) == before


def test_a_revision_that_is_named_is_the_one_compared(headstart: Adopt, by_hand: str) -> None:
    """`adopt head` asks about head alone."""
    run = headstart("adopt", "head")
    assert "does not have the schema of 20250304" in ended(run, 80)["error"]
    assert "table public.orders: only in 20250304" in run.stdout.splitlines()
    assert recorded(by_hand) == []


def test_by_force(headstart: Adopt, by_hand: str) -> None:
    """Whoever says so has it recorded in spite of the differences, which the log keeps."""
    run = headstart("adopt", "head", "--force")
    assert ended(run, 0)["revision_after"] == "20250304"
    assert run.events("adopted_with_differences")[0]["differences"] == run.stdout.splitlines()
    assert recorded(by_hand) == ["20250304"]
    assert ledger(by_hand)[-1] == ("adopted", "20250304")
    ended(headstart("adopt", "--force"), 2)


def test_another_tools_table_is_passed_over(headstart: Adopt, by_hand: str) -> None:
    """The table in which an old tool kept its numbers is no part of the schema, if one says so."""
    script(by_hand, "create table schema_migrations (number int primary key)")
    assert "schema_migrations" in headstart("adopt").stdout
    ended(headstart("adopt", "--ignore", "schema_migrations"), 0)
    assert recorded(by_hand) == ["20250303"]


def test_rows_alone_do_not_tell(project: Project, headstart: Adopt, by_hand: str) -> None:
    """Where several revisions have the database's schema, its owner says which one it is."""
    (project.versions / "20250304.py").unlink()
    project.revision("20250304", "update signals set confidence = 0 where confidence is null", down="20250303")
    last = ended(headstart("adopt"), 10)
    assert "20250303 and of 20250304" in last["error"]
    ended(headstart("adopt", "20250303"), 0)
    assert ended(headstart("up"), 0)["revision_after"] == "20250304"


def test_recorded_already(headstart: Adopt, any_database: str) -> None:
    """A database that records a revision is left alone, and it is said which."""
    ended(headstart("up"), 0)
    before = fingerprint(any_database)
    last = ended(headstart("adopt"), 10)
    assert "at 20250304 already" in last["error"]
    assert fingerprint(any_database) == before


def test_an_empty_version_table_records_nothing(headstart: Adopt, by_hand: str) -> None:
    """A version table without a row, as a failed first try leaves it, is no obstacle."""
    script(by_hand, "create table alembic_version (version_num varchar(32) primary key)")
    ended(headstart("adopt"), 0)
    assert recorded(by_hand) == ["20250303"]


def test_empty(headstart: Adopt, any_database: str) -> None:
    """An empty database is `up`'s work."""
    last = ended(headstart("adopt"), 10)
    assert "headstart up" in last["hint"]
    assert recorded(any_database) == []


def test_stamped_and_in_the_ledger_or_neither(headstart: Adopt, by_hand: str) -> None:
    """Version table and ledger are written in one transaction: what stops the one stops the other."""
    script(by_hand, "create table alembic_version (version_num varchar(32) primary key)")
    script(
        by_hand,
        "create function no() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;"
        "create constraint trigger no after insert on alembic_version deferrable initially deferred"
        " for each row execute function no()",
    )
    assert "not now" in ended(headstart("adopt", "20250303", "--force"), 10)["error"]
    assert recorded(by_hand) == []
    assert psql(by_hand, "select to_regclass('headstart.ledger')") == [(None,)]
