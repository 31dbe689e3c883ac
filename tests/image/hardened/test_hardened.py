"""Nothing is written outside the backup folder and /tmp, and no privilege is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

HARDENED = ["--read-only", "--tmpfs", "/tmp:size=16m", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


def test_read_only_without_capabilities(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """With a read-only root and every capability dropped it migrates and backs up as always."""
    held = database("hardened")
    options = [*HARDENED, "--network", network, "--volume", f"{backups}:/backups"]
    env = {"DATABASE_URL": held.url()}
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    done = engine.run(stock_image, options=options, env=env)
    assert done.code == 0, done
    assert done.last["backup"]


def test_writes_only_its_places(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """Where it could write elsewhere, it does not: the container's layer stays as it was."""
    held = database("elsewhere")
    env = {"DATABASE_URL": held.url()}
    options = ["--network", network, "--volume", f"{backups}:/backups", "--user", "0:0"]
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    with engine.running(stock_image, options=options, env=env) as name:
        assert engine.wait(name).code == 0
        assert engine.docker("diff", name).stdout == ""


def test_no_backup_folder(engine: Engine, stock_image: str, network: str, database: Callable[[str], Server]) -> None:
    """Without a place for backups nothing is migrated, and the line says what to mount."""
    held = database("nowhere")
    env = {"DATABASE_URL": held.url()}
    options = [*HARDENED, "--network", network]
    assert (
        engine.run(stock_image, "upgrade", "+4", options=[*options, "--env", "HEADSTART_BACKUP=off"], env=env).code == 0
    )
    done = engine.run(stock_image, options=options, env=env)
    assert done.code == 40, done
    assert "HEADSTART_BACKUP_DIR=/backups" in done.last["error"]
    assert "mount" in done.last["hint"]
    assert len(done.last["applied"]) == 0
