"""The fault matrix: each fault in each phase of a run, and what docs/faults.md says it ends as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conftest import INSTALLATIONS
from support.faults import Scene
from support.matrix.cell import not_applicable, run_cell
from support.matrix.faults import FAULTS
from support.matrix.phases import PHASES
from support.postgres import Postgres, database_of
from support.restoring import drop_all
from support.standby import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.faults import Starter
    from support.matrix.faults import Fault
    from support.matrix.phases import Phase

pytestmark = pytest.mark.matrix

HANDFUL = {
    ("dumping", "SIGTERM"),
    ("in COMMIT", "SIGTERM"),
    ("restoring: loading", "SIGINT"),
    ("inside a statement", "SIGKILL"),
    ("recording", "worker killed"),
    ("verifying", "lock ended"),
    ("planning", "work ended"),
    ("between revisions", "reset"),
    ("in an autocommit block", "stopped immediately"),
    ("lock held", "second runner"),
}
"""What `make test` runs: each kind once."""

CELLS = [
    pytest.param(
        phase,
        fault,
        id=f"{phase.name}-{fault.name}",
        marks=[pytest.mark.handful] if (phase.name, fault.name) in HANDFUL else [],
    )
    for fault in FAULTS
    for phase in PHASES
    if not not_applicable(phase, fault)
]


@pytest.fixture(scope="session")
def restartable() -> Iterator[Postgres]:
    """A server that cells may stop and start: what is committed there survives that."""
    with Postgres.start(INSTALLATIONS[0], settings={"synchronous_commit": "on"}) as server:
        yield server


@pytest.fixture
def doomed(restartable: Postgres) -> Postgres:
    """The same, running, whatever the cell before has left."""
    if restartable.pid is None:
        restartable.start_up()
    return restartable


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """A server that may have a standby."""
    with Pair.start(INSTALLATIONS[0], settings={"synchronous_commit": "on"}) as server:
        yield server


@pytest.fixture
def with_standby(pair: Pair) -> Iterator[Pair]:
    """A server with a standby, which may take over."""
    pair.add_standby()
    yield pair
    pair.remove_standby()


@pytest.mark.parametrize(("phase", "fault"), CELLS)
def test_cell(
    phase: Phase,
    fault: Fault,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    start_headstart: Starter,
    record_property: Any,
) -> None:
    """The run ends as the rules say, its report is true, nothing is left, and the next one succeeds."""
    own = "with_standby" if fault.standby else "doomed"
    server = request.getfixturevalue(own if fault.own_server else "any_server")
    scene = Scene(tmp_path, server, start_headstart)
    try:
        found = run_cell(scene, phase, fault)
    finally:
        if server.pid is None:
            server.start_up()
        drop_all(server, database_of(scene.url))
    record_property("cell", [phase.name, fault.name, str(found), round(found.seconds, 2)])
