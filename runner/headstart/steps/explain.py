"""What a failed revision means: the error with its exit code, what it left behind, and what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.errors import (
    MigrationFailedError,
    PartlyCommittedError,
    TableLocksNotObtainedError,
    VerificationFailedError,
    named,
)

if TYPE_CHECKING:
    from headstart.worker.messages import Failed

RETRIED = {"55P03": "lock_not_available", "40P01": "deadlock_detected", "40001": "serialization_failure"}
"""SQLSTATEs that mean a lost race, after which the same revision may succeed."""


class LostRaceError(MigrationFailedError):
    """A revision lost the race for its locks, and nothing of it was committed."""


def explain(failed: Failed, leftovers: list[str]) -> MigrationFailedError:
    """The error that names revision, statement, SQLSTATE and position, and what was committed.

    Args:
        failed: what the worker says of a revision.
        leftovers: what it has committed all the same.

    Returns:
        LostRaceError where it may succeed if it is tried again.
    """
    context: dict[str, Any] = {**failed.context, "revision": failed.revision}
    state = f" [{failed.sqlstate}]" if failed.sqlstate else ""
    where = f" ({failed.context['location']})" if failed.context.get("location") else ""
    message = f"revision {failed.revision} failed: {failed.message}{state}{where}"
    if leftovers:
        return partly(message, leftovers, context)
    if failed.sqlstate in RETRIED:
        return LostRaceError(message, cause=failed.message, **{"sqlstate": failed.sqlstate, **context})
    kind = named(failed.error)
    if not issubclass(kind, MigrationFailedError):
        kind = MigrationFailedError
    return kind(message, hint=failed.hint, **context)


def too_late(error: LostRaceError, blockers: list[str]) -> TableLocksNotObtainedError:
    """What a lost race becomes when nobody tries again."""
    seen = "; ".join(blockers) or "sessions that have left again"
    hint = f"end or wait for the blockers, then run again, or raise HEADSTART_TABLE_LOCK_RETRY; seen: {seen}"
    context = {name: value for name, value in error.context.items() if name != "cause"}
    return TableLocksNotObtainedError(error.message, hint=hint, blockers=blockers, **context)


def refuse_useless(now: frozenset[str], before: frozenset[str], on_indexes: list[str]) -> None:
    """Refuse an INVALID index that was left by what has been run, or that it has passed over.

    Where nothing has been run, with none before, every INVALID index.

    Args:
        now: the INVALID indexes.
        before: those that were there already.
        on_indexes: the statements that were run and name an index.

    Raises:
        VerificationFailedError: there is one (80).
    """
    text = "\n".join(on_indexes)
    ours = sorted(name for name in now if name not in before or name.rpartition(".")[2].strip('"') in text)
    if ours:
        raise VerificationFailedError(
            f"INVALID, and so of no use to any query: index {', '.join(ours)}",
            hint="; ".join(f"reindex index concurrently {name};" for name in ours),
            invalid_indexes=ours,
        )


def partly(message: str, leftovers: list[str], context: dict[str, Any]) -> PartlyCommittedError:
    """The error of a revision that failed after something of it had been committed."""
    hint = "undo what the failed revision has committed already, then run again: " + "; ".join(leftovers)
    return PartlyCommittedError(message, hint=hint, leftovers=leftovers, **context)
