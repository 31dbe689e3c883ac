"""The same Dockerfile for arm64, and the main job there: emulated on another processor, and so slow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

BASE, IMAGE = "arm64v8/debian:trixie-slim", "headstart-stock:test-arm64"

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif("HEADSTART_TEST_ARM64" not in os.environ, reason="make test-arm64 runs it"),
]


@pytest.fixture(scope="module")
def arm64_image(engine: Engine) -> str:
    """The image with the reference project's revisions, for arm64."""
    return engine.build_own(IMAGE, "stock", majors="17", base=BASE, words=["--platform", "linux/arm64"])


def test_main_job(
    engine: Engine, arm64_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """Half-way, then with a backup to head, then a no-op; the programs are those of the architecture."""
    one = database("arm64")
    options = ["--network", network, "--volume", f"{backups}:/backups", "--platform", "linux/arm64"]
    env = {"DATABASE_URL": one.url(), "HEADSTART_WAIT_TIMEOUT": "5m"}
    assert engine.inspect(arm64_image)["Architecture"] == "arm64"
    machine = engine.run(arm64_image, "python3", "-c", "import platform; print(platform.machine())", options=options)
    assert machine.stdout.strip() == "aarch64", machine
    half = engine.run(arm64_image, "upgrade", "+4", options=options, env=env)
    assert half.code == 0, half
    done = engine.run(arm64_image, options=options, env=env)
    assert done.code == 0, done
    assert len(done.last["applied"]) > 0
    assert done.last["backup"].startswith("/backups/arm64/")
    verified = engine.run(arm64_image, "backups", "verify", options=options, env=env)
    assert verified.code == 0, verified
    again = engine.run(arm64_image, options=options, env=env)
    assert (again.code, again.last["applied"], again.last["backup"]) == (0, [], None), again
