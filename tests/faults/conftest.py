"""A scene for each test, and the seconds that were measured at the end of pytest's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.faults import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.faults import Starter
    from support.postgres import Postgres


@pytest.fixture
def scene(tmp_path: Path, any_server: Postgres, start_headstart: Starter) -> Iterator[Scene]:
    """A small database at r1 on the shared server."""
    scene = Scene(tmp_path, any_server, start_headstart)
    yield scene
    scene.drop()


@pytest.fixture
def bulky_scene(tmp_path: Path, any_server: Postgres, start_headstart: Starter) -> Iterator[Scene]:
    """The same with tables that take pg_dump a while."""
    scene = Scene(tmp_path, any_server, start_headstart, bulk=True)
    yield scene
    scene.drop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    found = [
        (report.nodeid, name, value)
        for report in reports
        for name, value in report.user_properties
        if isinstance(value, float)
    ]
    if found:
        terminalreporter.section("measured")
        for nodeid, name, value in sorted(found):
            terminalreporter.write_line(f"{value:6.2f} s  {name}  {nodeid.rpartition('::')[2]}")
