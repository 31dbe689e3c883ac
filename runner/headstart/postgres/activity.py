"""What can be seen of a session that works: what it executes, what it waits for, how far it is.

PostgreSQL manual: 'Progress Reporting', 'Wait Event Types'.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

from headstart.sql.tokens import ends_elsewhere, tokens

SPEAK = 8.0
"""Seconds after which long work reports that it still runs."""

_PROGRESS = """
select a.wait_event_type, a.wait_event, p.phase, p.done, p.total
from pg_catalog.pg_stat_activity a left join (
    select pid, phase, case when phase like '%waiting%' then lockers_done when phase like '%tuples%' then tuples_done
               else blocks_done end as done,
           case when phase like '%waiting%' then lockers_total when phase like '%tuples%' then tuples_total
               else blocks_total end as total
    from pg_catalog.pg_stat_progress_create_index
    union all select pid, phase, heap_blks_scanned, heap_blks_total from pg_catalog.pg_stat_progress_cluster
    union all select pid, phase, case when phase = 'vacuuming heap' then heap_blks_vacuumed else heap_blks_scanned end,
                     heap_blks_total from pg_catalog.pg_stat_progress_vacuum
    union all select pid, phase, sample_blks_scanned, sample_blks_total from pg_catalog.pg_stat_progress_analyze
    union all select pid, command, bytes_processed, bytes_total from pg_catalog.pg_stat_progress_copy
) p on p.pid = a.pid where a.pid = $1::pg_catalog.int4
"""
_LOOKED_AT = 20_000  # characters of a statement, which may have millions


def summary(statement: str, length: int = 500) -> str:
    """A statement, or its beginning, as a message shows it: on one line, cut, without comments and string constants.

    A constant may be a password, or a person's data. The statement is cut where it is not certain what is one.
    """
    text, shown, end = statement[:_LOOKED_AT], "", 0
    for token in tokens(text):
        shown += " " if token.start > end and shown else ""
        shown += "'...'" if token.kind == "string" else token.text
        end = token.start + len(token.text)
        if ends_elsewhere(token):
            shown += " ..." if end < len(statement) else ""
            break
    return cut(shown, length)


def cut(text: str, length: int) -> str:
    """A text's beginning, with dots where something is missing."""
    return text if len(text) <= length else text[: length - 3] + "..."


class Progress(NamedTuple):
    """How far a statement is.

    Args:
        waits_for: what it waits for, in the server's words; None while it works.
        phase: the server's name of the present phase; None for a statement whose progress is not told.
        done: blocks, rows or bytes of this phase.
        total: of how many; 0 where nobody knows.
    """

    waits_for: str | None
    phase: str | None
    done: int
    total: int

    @property
    def percent(self) -> float | None:
        """How much of the phase is done."""
        return min(100.0 * self.done / self.total, 100.0) if self.phase and self.total else None

    def fields(self, left_seconds: float | None) -> dict[str, object]:
        """The same for the log; what is not known is left out."""
        parts = [self.phase, None if self.percent is None else f"{self.percent:.0f} %"]
        parts.append(None if left_seconds is None else f"about {left_seconds:.0f} s left")
        fields = {
            "progress": ", ".join(filter(None, parts)) or None,
            "percent": self.percent,
            "left_seconds": left_seconds,
            "waits_for": self.waits_for,
        }
        return {name: value for name, value in fields.items() if value is not None}


async def progress_of(connection: asyncpg.Connection, pid: int) -> Progress | None:
    """How far the backend `pid` is; None if it is gone."""
    row = await connection.fetchrow(_PROGRESS, pid)
    if row is None:
        return None
    kind, event, phase, done, total = row
    waits_for = f"{kind}: {event}" if kind not in {None, "Client"} else None
    return Progress(waits_for=waits_for, phase=phase, done=done or 0, total=total or 0)


class Pace:
    """How fast a phase goes on: between the first look at it and the latest one."""

    def __init__(self) -> None:
        self._first: tuple[Progress, float] | None = None

    def left_seconds(self, now: Progress, moment: float) -> float | None:
        """Seconds that the present phase still takes at this pace; None if that cannot be told, or not yet.

        Args:
            now: the latest look.
            moment: of it, by the monotonic clock.
        """
        first, began = self._first or (now, moment)
        if (first.phase, first.total) != (now.phase, now.total) or now.done < first.done:
            first, began = now, moment
        self._first = first, began
        if not now.total or now.done == first.done:
            return None
        return max(now.total - now.done, 0) * (moment - began) / (now.done - first.done)
