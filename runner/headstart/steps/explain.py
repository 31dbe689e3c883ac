"""What a failed revision means: the error with its exit code, what it left behind, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart.errors import (
    HeadstartError,
    InterruptedMigrationError,
    MigrationFailedError,
    PartlyCommittedError,
    RefusedError,
    TableLocksNotObtainedError,
    named,
    remedies,
)
from headstart.postgres.blockers import remedy
from headstart.steps.committed import COMMITTED

if TYPE_CHECKING:
    from headstart.postgres.blockers import Blocker
    from headstart.worker.messages import Failed

RETRIED = frozenset({"55P03", "40P01", "40001"})
"""SQLSTATEs that mean a lost race, after which the same revision may succeed: lock_not_available and the like."""
CANCELED = "57014"
"""The SQLSTATE of a statement that has run into `statement_timeout`."""


class LostRaceError(MigrationFailedError):
    """A revision lost the race for its locks, and nothing of it was committed."""


def explain(
    failed: Failed,
    leftovers: list[str],
    *,
    blockers: Sequence[Blocker] = (),
    statement_timeout: float = 0,
    unversioned: bool = False,
    untouched: bool = False,
) -> HeadstartError:
    """The error that names revision, statement, SQLSTATE and position, and what was committed.

    Args:
        failed: what the worker says of a revision.
        leftovers: what it has committed all the same.
        blockers: who was in its way last.
        statement_timeout: seconds; 0 is none.
        unversioned: nothing was recorded before this run.
        untouched: nothing was committed in this run.

    Returns:
        LostRaceError where it may succeed if it is tried again; RefusedError where Alembic was not let write the
        version table, and the database is untouched; else a MigrationFailedError.
    """
    context: dict[str, Any] = {**failed.context, "revision": failed.revision}
    state = f" [{failed.sqlstate}]" if failed.sqlstate else ""
    where = f" ({failed.context['location']})" if failed.context.get("location") else ""
    message = f"revision {failed.revision} failed: {failed.message}{state}{where}"
    if leftovers:
        return partly(message, leftovers, context)
    if failed.sqlstate in RETRIED and not failed.chosen:
        return LostRaceError(message, cause=failed.message, **{"sqlstate": failed.sqlstate, **context})
    kind = named(failed.error)
    if not issubclass(kind, MigrationFailedError) and not (untouched and kind is RefusedError):
        kind = MigrationFailedError
    if failed.sqlstate == CANCELED and statement_timeout and not failed.chosen:
        named_blockers = {"blockers": [str(each) for each in blockers]} if blockers else {}
        return kind(message, hint=_of_timeout(blockers, statement_timeout), **named_blockers, **context)
    if unversioned and failed.sqlstate in remedies.THERE_ALREADY:
        return kind(message, hint=f"{remedies.ADOPT}; or else {failed.hint}", **context)
    return kind(message, hint=failed.hint, **context)


def interrupted(failed: Failed) -> InterruptedMigrationError:
    """The error of a revision during which the connection or the server has failed."""
    message = f"interrupted in revision {failed.revision}: {failed.message}"
    return InterruptedMigrationError(message, **{"revision": failed.revision, **failed.context})


def _of_timeout(blockers: Sequence[Blocker], statement_timeout: float) -> str:
    hint = (
        f"raise HEADSTART_STATEMENT_TIMEOUT ({statement_timeout:g} s; 0 is none), or let the revision say"
        " `set local statement_timeout`; then run again"
    )
    return f"another session was in its way: {remedy(blockers)}; or {hint}" if blockers else hint


def too_late(error: LostRaceError, blockers: Sequence[Blocker]) -> TableLocksNotObtainedError:
    """What a lost race becomes when nobody tries again."""
    way = remedy(blockers) if blockers else "the blockers have left again, unseen"
    hint = f"{way}; then run again, or raise HEADSTART_TABLE_LOCK_RETRY"
    context = {name: value for name, value in error.context.items() if name != "cause"}
    return TableLocksNotObtainedError(error.message, hint=hint, blockers=[str(each) for each in blockers], **context)


def partly(message: str, leftovers: list[str], context: dict[str, Any]) -> PartlyCommittedError:
    """The error of a revision that failed after something of it had been committed."""
    committed = sum(COMMITTED in each.partition(":")[0] for each in leftovers)
    ways = ["undo what the leftovers list as committed"] if committed else []
    if committed < len(leftovers):
        ways.append("run the command that stands after each INVALID index or prepared transaction")
    return PartlyCommittedError(message, hint=", ".join([*ways, "then run again"]), leftovers=leftovers, **context)
