"""What is known of a run so far, so that a half-finished run is a value too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from headstart.steps.stage import Stage


class AppliedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision that was run and committed, and the seconds it took."""

    revision: str
    seconds: float


class Record:
    """What a run has found, done and left. Written by the steps, read by whoever reports.

    Attributes:
        stage: what the run is doing, or has failed in.
        before: the recorded revisions that were found first; None before anybody has looked.
        after: those that were found last; None if nobody knows.
        applied: in their order; reverted ones where the way goes down.
        failed: the revision that has failed.
        pending: the revisions that are still to be run.
        backup: the folder of the one that was taken, or restored.
        restored: the database that a backup was restored into.
        counts: of tenants.
        leftovers: what a failed revision has committed all the same.
        seconds: of each stage.
        last_line: the fields of `run_finished`.
        started: when the run began, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.stage = Stage.START
        self.before: tuple[str, ...] | None = None
        self.after: tuple[str, ...] | None = None
        self.applied: list[AppliedRevision] = []
        self.failed: str | None = None
        self.pending: tuple[str, ...] = ()
        self.backup: str | None = None
        self.restored: str | None = None
        self.counts: dict[str, int] = {}
        self.leftovers: list[str] = []
        self.seconds: dict[str, float] = {}
        self.last_line: dict[str, Any] = {}
        self.started = time.monotonic()

    def found(self, revisions: tuple[str, ...]) -> None:
        """Note what the database records: what it was before, if this is the first look, and what it is now."""
        if self.before is None:
            self.before = revisions
        self.after = revisions

    @contextlib.contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Name the stage that the run is in, and add up the seconds it takes."""
        outer, self.stage = self.stage, stage
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started
        self.stage = outer  # after a failure its name stays: it is where the run failed
