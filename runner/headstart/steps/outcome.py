"""How a run ended, as a value and as the last line of its log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from headstart.errors.exits import Exit
from headstart.history.graph import revision_field
from headstart.log.logger import clean

if TYPE_CHECKING:
    from headstart.errors import HeadstartError
    from headstart.steps.record import AppliedRevision
    from headstart.steps.run import Run


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, and where it left the database. `exit` decides; the rest says what happened on the way."""

    exit: Exit
    run_id: str
    error: str | None
    hint: str | None
    context: dict[str, Any]
    revision_before: tuple[str, ...] | None
    revision_after: tuple[str, ...] | None
    applied: tuple[AppliedRevision, ...]
    failed: str | None
    pending: tuple[str, ...]
    backup: str | None
    seconds: dict[str, float]
    restored: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the database is where it should be."""
        return self.exit is Exit.DONE


def outcome_of(run: Run, error: HeadstartError | None) -> Outcome:
    """A run as it stands, as a value. `error` is what ended it."""
    record = run.record
    seconds = {**record.seconds, "total": time.monotonic() - record.started}
    return Outcome(
        exit=error.exit if error else Exit.DONE,
        run_id=run.run_id,
        error=run.redact(error.message) if error else None,
        hint=run.redact(error.hint) if error else None,
        context=clean(error.context, run.redact) if error else {},
        revision_before=record.before,
        revision_after=record.after,
        applied=tuple(record.applied),
        failed=record.failed,
        pending=record.pending,
        backup=record.backup,
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        restored=record.restored,
    )


def fields_of(outcome: Outcome) -> dict[str, Any]:
    """What is logged of every outcome, and printed of a tenant's."""
    return {
        "outcome": outcome.exit.outcome,
        "exit_code": int(outcome.exit),
        "revision_before": revision_field(outcome.revision_before),
        "revision_after": revision_field(outcome.revision_after),
        "applied": [each.revision for each in outcome.applied],
        "backup": outcome.backup,
    }


def finish(run: Run, error: HeadstartError | None, *, quiet: bool = False, event: str = "run_finished") -> Outcome:
    """Log `run_finished`, the last line of every run, and return the same as a value.

    Args:
        run: this run.
        error: what ended it; None if it did what it was to do.
        quiet: say nothing after a success: for verbs that only read.
        event: its name where the run is one of several.
    """
    outcome = outcome_of(run, error)
    fields = fields_of(outcome)
    fields |= {"restored": outcome.restored} if outcome.restored is not None else {}
    if error is not None:
        fields |= {"error": outcome.error, "hint": outcome.hint, "stage": run.record.stage}
        fields |= {"failed": outcome.failed} if outcome.failed else {}
        fields |= {"pending": list(outcome.pending)} if outcome.pending else {}
        fields |= {"leftovers": run.record.leftovers} if run.record.leftovers else {}
        fields |= outcome.context
    fields |= run.record.counts
    fields |= {f"{stage}_seconds": value for stage, value in outcome.seconds.items()}
    run.record.last_line = fields
    if error is not None:
        run.log.error(event, **fields)
    elif not quiet:
        run.log.info(event, **fields)
    return outcome
