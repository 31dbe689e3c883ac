"""DATABASE_URL_FILE: the way of Docker's and Kubernetes' secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.engine import Engine, Server

FILE = {"DATABASE_URL_FILE": "/run/secrets/database_url"}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["bare", "newline", "crlf"])
def test_read(engine: Engine, runner_image: str, network: str, server: Server, tmp_path: Path, ending: str) -> None:
    """The address is read from a file, with or without a line end."""
    options = ["--network", network, *_mounted(tmp_path, server.url() + ending)]
    done = engine.run(runner_image, "wait", options=options, env=FILE)
    assert done.code == 0, done


def test_both(engine: Engine, runner_image: str, network: str, server: Server, tmp_path: Path) -> None:
    """A value and a file for it is an error that names both, and neither is guessed at."""
    options = ["--network", network, *_mounted(tmp_path, server.url())]
    done = engine.run(runner_image, "wait", options=options, env={**FILE, "DATABASE_URL": server.url()})
    assert done.code == 10
    assert {"DATABASE_URL", "DATABASE_URL_FILE"} <= set(done.last["error"].replace(":", " ").replace(",", " ").split())


def test_unreadable(engine: Engine, runner_image: str, tmp_path: Path) -> None:
    """A file that the user may not read is named, with the user."""
    options = _mounted(tmp_path, "postgresql://app:secret@db/app")
    (tmp_path / "database_url").chmod(0o600)
    done = engine.run(runner_image, "wait", options=options, env=FILE)
    assert done.code == 10
    assert "/run/secrets/database_url" in done.last["error"]
    assert "ermission" in done.last["error"]


def test_missing(engine: Engine, runner_image: str) -> None:
    """A file that is not there is named."""
    done = engine.run(runner_image, "wait", env=FILE)
    assert done.code == 10
    assert "/run/secrets/database_url" in done.last["error"]


def _mounted(folder: Path, text: str) -> list[str]:
    secret = folder / "database_url"
    secret.write_bytes(text.encode())
    secret.chmod(0o644)
    return ["--volume", f"{secret}:/run/secrets/database_url:ro"]
