"""Restores that are interrupted or killed: the live database is as it was, and nothing half-made stays."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, path_of
from support.faults import interrupt
from support.postgres import psql, script
from support.project import fingerprint
from support.restoring import SIGNAL, STUCK, VERSION_TABLE, beside, drop_all, unclaimed
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.faults import Starter
    from support.postgres import Postgres
    from support.process import Headstart

pytestmark = pytest.mark.fresh

NUMBERS = itertools.count(1)
SOON = 2.0
"""Seconds allowed where one is promised."""


@pytest.fixture
def start(any_server: Postgres, start_headstart: Starter, tmp_path: Path) -> Iterator[Callable[..., Headstart]]:
    """Start headstart on a database with a backup whose restore is stuck; see `STUCK`."""
    url = any_server.create_database(f"interrupted_{next(NUMBERS)}")
    name = url.rpartition("/")[2]
    script(url, VERSION_TABLE.format("alembic_version", "a1") + STUCK)

    def begin(*words: str) -> Headstart:
        return start_headstart(*words, url=url, env={"PATH": path_of(any_server)})

    with begin("backup") as process:
        assert process.finish().code == 0
    begin.url, begin.name = url, name  # type: ignore[attr-defined]
    yield begin
    drop_all(any_server, name)


def at_work(server: Postgres, name: str) -> str:
    """Wait until pg_restore is at the table that it gets stuck in; the name of the partial database."""
    query = (
        "select datname::text from pg_stat_activity where datname like $1 and query like 'COPY%' and state = 'active'"
    )
    return str(eventually(lambda: psql(server.url(), query, f"{name}%"), "pg_restore at work")[0][0])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_interrupted(
    start: Callable[..., Headstart],
    any_server: Postgres,
    signum: signal.Signals,
    record_property: Callable[[str, object], None],
) -> None:
    """A signal ends pg_restore, its sessions and the partial database within the promised time."""
    url, name = start.url, start.name  # type: ignore[attr-defined]
    before = fingerprint(url)
    with start("restore", "latest") as process:
        at_work(any_server, name)
        run, seconds = interrupt(process, signum)
    record_property("restore", seconds)
    assert run.code == 128 + signum, run
    assert run.last["stage"] == "restore"
    assert "restored" not in run.last
    assert seconds < SOON, run
    eventually(lambda: beside(any_server, name) == [], "the partial database gone")
    assert list(unclaimed(any_server, url)) == []
    assert fingerprint(url) == before


@pytest.mark.slow
def test_it_speaks(start: Callable[..., Headstart], any_server: Postgres) -> None:
    """A restore that takes long says how far it is every few seconds."""
    with start("restore", "latest") as process:
        line = process.wait_for("restore_progress", seconds=12)
        assert line["stage"] == "restore"
        assert line["restored_bytes"] > 0
        assert line["expected_bytes"] > 0
        with Session(any_server.url(), SIGNAL):
            assert process.finish().code == 0
