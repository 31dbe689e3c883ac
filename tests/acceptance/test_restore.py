"""`headstart restore`: beside the live database, or in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended
from support.postgres import database_of, psql, script
from support.project import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run


@pytest.fixture
def held(any_server: Postgres) -> Iterator[str]:
    """A database with data in it, and everything that a restore makes beside it, which goes with the test."""
    url = any_server.create_database()
    name = database_of(url)
    script(
        url,
        "create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('a1');"
        "create table account (id serial primary key, name text not null); create index on account (name);"
        "insert into account (name) select 'account ' || n from generate_series(1, 1000) n;",
    )
    yield url
    query = "select datname from pg_database where starts_with(datname, $1)"
    for (database,) in psql(any_server.url(), query, name):
        script(any_server.url(), f'drop database "{database}" with (force)')


ROWS = "select count(*), sum(id), max(name), (select last_value from account_id_seq) from account"


def test_beside(headstart: Callable[..., Run], held: str) -> None:
    """Without --swap the live database is left alone, and the restored one is as the backup was."""
    ended(headstart("backup", url=held), 0)
    before = psql(held, ROWS)
    script(held, "delete from account")
    last = ended(headstart("restore", "latest", url=held), 0)
    beside = held.replace(database_of(held), last["restored"])
    assert psql(beside, ROWS) == before
    assert recorded(beside) == ["a1"]
    assert psql(held, "select count(*) from account") == [(0,)]


def test_swap(headstart: Callable[..., Run], held: str) -> None:
    """With --swap it takes the live database's place, and the old one is kept under a name of its own."""
    ended(headstart("backup", url=held), 0)
    before = psql(held, ROWS)
    script(held, "delete from account")
    run = headstart("restore", "latest", "--swap", url=held)
    ended(run, 0)
    assert psql(held, ROWS) == before
    query = "select datname from pg_database where starts_with(datname, $1) and datname <> $1"
    [(kept,)] = psql(held, query, database_of(held))
    assert psql(held.replace(database_of(held), kept), "select count(*) from account") == [(0,)]
    assert kept in run.stdout


def test_swap_while_others_are_connected(headstart: Callable[..., Run], held: str) -> None:
    """A session of somebody else's is named, and nothing is exchanged."""
    ended(headstart("backup", url=held), 0)
    script(held, "delete from account")
    with Session(held, "the application"):
        last = ended(headstart("restore", "latest", "--swap", url=held), 41)
    assert "the application" in str(last)
    assert psql(held, "select count(*) from account") == [(0,)]


def test_damaged(headstart: Callable[..., Run], held: str, tmp_path: Path) -> None:
    """A backup of which one byte has changed is refused before anything is made."""
    taken = ended(headstart("backup", url=held), 0)["backup"]
    file = max((tmp_path / taken / "dump").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    last = ended(headstart("restore", "latest", "--swap", url=held), 41)
    assert file.name in str(last)
    query = "select count(*) from pg_database where starts_with(datname, $1)"
    assert psql(held, query, database_of(held)) == [(1,)]


def test_no_such_backup(headstart: Callable[..., Run], held: str) -> None:
    """A backup that is not there is a mistake in the configuration."""
    ended(headstart("restore", "20200101T000000.000Z-base", url=held), 10)
