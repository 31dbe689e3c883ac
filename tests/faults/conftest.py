"""A scene for each test, and the seconds that were measured at the end of pytest's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.faults import Scene
from support.matrix import page

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --all-faults a handful of the matrix's cells is run."""
    if config.getoption("--all-faults"):
        return
    left = [item for item in items if item.get_closest_marker("matrix") and not item.get_closest_marker("handful")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compare what the cells have ended as with docs/faults.md, or write it."""
    config = session.config
    if not config.getoption("--all-faults") or hasattr(config, "workerinput") or session.exitstatus:
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    found = {}
    for report in reporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "cell":
                phase, fault, ended = value[:3]
                found[phase, fault] = ended
    if missing := len(page.wanted() - found.keys()):
        reporter.section(f"{missing} cells were not run: docs/faults.md is neither compared nor written")
    elif config.getoption("--write-faults"):
        page.write(found)
    elif difference := page.difference(found):
        session.exitstatus = 1
        reporter.section("docs/faults.md says otherwise: make test-faults WRITE=1 writes it")
        reporter.write_line(difference)
