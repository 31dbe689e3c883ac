"""Where the database is, by a query of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.errors import InterruptedMigrationError, NotReadyError, VerificationFailedError
from headstart.history.graph import revision_field
from headstart.postgres import version_table
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.postgres.readiness import Ready
    from headstart.postgres.version_table import Place
    from headstart.steps.run import Run


async def read(connection: Any, place: Place) -> tuple[str, ...]:  # noqa: ANN401  (a ScriptConnection)
    """What is recorded where env.py's session has found, or made, the version table."""
    found = None
    try:
        if place.oid is not None:
            found = await version_table.revisions_in(connection, place.oid, place.table, place.schema)
        if found is None:
            found = await version_table.recorded_revisions(connection, place.table, place.schema)
    except NotReadyError as error:  # after all is done, that is no reason to begin anew
        raise InterruptedMigrationError(error.message, hint="see `headstart status` once it can be read") from error
    return found


async def verify(run: Run, ready: Ready, place: Place, expected: tuple[str, ...]) -> None:
    """Read the recorded revision once more, by a query of our own, and compare it with where we meant to go.

    Raises:
        VerificationFailedError: the database is somewhere else (80).
    """
    with run.record.timed(Stage.VERIFY):
        run.record.after = await read(ready.connection, place)
        require_at(run.record.after, expected)
        run.log.info("verified", revision=revision_field(run.record.after))


def require_at(recorded: Sequence[str], expected: Sequence[str]) -> None:
    """Refuse a database that is somewhere else than where we meant to go.

    Raises:
        VerificationFailedError: it is (80).
    """
    if set(recorded) != set(expected):
        raise VerificationFailedError(
            f"the database is at {revision_field(tuple(recorded))} instead of {revision_field(tuple(expected))}",
            hint="see whether env.py commits its own transaction, or what else writes the version table",
        )
