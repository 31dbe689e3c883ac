"""The image does its main job, and nothing where nothing is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.engine import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

REVISIONS = len(list((ROOT / "migrations" / "versions").glob("*.py")))


def test_from_empty_to_head(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """An empty database is brought to head; a second run finds nothing to do and takes no backup."""
    empty = database("empty")
    options = ["--network", network, "--volume", f"{backups}:/backups"]
    env = {"DATABASE_URL": empty.url()}
    first = engine.run(stock_image, options=options, env=env)
    assert first.code == 0, first
    assert len(first.last["applied"]) == REVISIONS
    second = engine.run(stock_image, options=options, env=env)
    assert (second.code, second.last["applied"], second.last["backup"]) == (0, [], None)
    assert second.events("nothing_pending")
    assert list(backups.iterdir()) == []


def test_backup_with_the_servers_own_client(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """A database that holds data is backed up first, by the client of the server's major; the backup verifies."""
    held = database("held")
    options = ["--network", network, "--volume", f"{backups}:/backups"]
    env = {"DATABASE_URL": held.url()}
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    done = engine.run(stock_image, options=options, env=env)
    assert done.code == 0, done
    assert done.events("backup_started")[0]["client_version"].startswith("17.")
    assert done.last["backup"].startswith("/backups/held/")
    assert engine.run(stock_image, "backups", "verify", options=options, env=env).code == 0
    assert held.query("select count(*) from pg_index where not indisvalid") == ["0"]


def test_alone_it_changes_nothing(
    engine: Engine, runner_image: str, network: str, database: Callable[[str], Server]
) -> None:
    """Headstart's own image has no revisions: run by mistake, it says so and leaves the database as it is."""
    untouched = database("untouched")
    done = engine.run(runner_image, options=["--network", network], env={"DATABASE_URL": untouched.url()})
    assert done.code == 10
    assert "alembic.ini" in done.last["error"]
    assert untouched.query("select count(*) from pg_class where relnamespace = 'public'::regnamespace") == ["0"]
