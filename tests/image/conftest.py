"""What the image tests share: each folder is one claim about the image, tried with a real engine and a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.engine import Engine, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs an engine."""
    for item in items:
        if "/tests/image/" in str(item.path):
            item.add_marker(pytest.mark.container)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def network(engine: Engine) -> Iterator[str]:
    """A network for the server and its clients."""
    with engine.network() as name:
        yield name


@pytest.fixture(scope="session")
def server(engine: Engine, network: str) -> Iterator[Server]:
    """A Postgres 17 in a container."""
    with engine.postgres(network) as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[Callable[[str], Server]]:
    """Make an empty database on the server; it goes with the test."""
    made: list[str] = []

    def make(name: str) -> Server:
        server.query(f"create database {quoted(name)}")
        made.append(name)
        return server._replace(database=name)

    yield make
    for name in made:
        server.query(f"drop database {quoted(name)} with (force)")


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """A folder that any user may write to, to be mounted."""
    folder = tmp_path / "backups"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
