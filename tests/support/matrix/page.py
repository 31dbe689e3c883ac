"""docs/faults.md: what each cell of the matrix has ended as."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from support.matrix.cell import not_applicable
from support.matrix.faults import FAULTS, GROUPS
from support.matrix.phases import PHASES

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).resolve().parents[3] / "docs/faults.md"

HEAD = """\
# Faults

<!-- Written by `make test-faults WRITE=1` from what the runs have ended as; the tables are in tests/support/matrix. -->

A run may be left alone. Below, each fault happens to a run in each of its phases. After each of them: the run has
ended within the time that the fault allows, a minute at most, by the exit code shown; its report is what the version
table, the rows and the ledger say, or says that this is not known; no row of the app's has changed; no session, lock,
process, half of a backup or half-made database is left, except by a run that was killed or whose server is away, and
then the next run removes it; what is listed as a backup is whole; the next run succeeds. No revision is applied twice.

`make test-faults` runs all of it, and compares this page. `make stress SECONDS=600` makes any fault happen at any
moment, over and over. A cell is the exit code ([Exit codes](exit-codes.md); -N: ended by signal N) and the database:
**untouched**: at r1, where it was; **at r2**: what was committed before stays, the rest is rolled back; **at head**:
all is applied; **backup**: the backup that was taken stays; **restored**: the backup is in the live database's place.
A dash: the fault cannot happen there; the number leads to the reason below the table.
"""

ABSENT = """\
## Not there yet

- Phase: loading a schema file.
- Faults: a disk that is full, here or in the server; the clock set; descriptors, memory or connections short; an app
  that holds locks, beyond the table that pg_dump waits for.
- A network that drops packets. Here it is a proxy that falls silent: that the server notices it by itself, by TCP
  keepalive, is not seen.
- The session that watches a revision is the one that holds the lock: it has no column of its own.
"""


def compose(cells: Mapping[tuple[str, str], str]) -> str:
    """The page.

    Args:
        cells: what each pair of a phase and a fault has ended as, by their names.
    """
    parts = [HEAD]
    for group in GROUPS:
        faults = [fault for fault in FAULTS if fault.group == group]
        reasons: list[str] = []
        rows = [["phase", *(fault.name for fault in faults)], ["---"] * (len(faults) + 1)]
        for phase in PHASES:
            row = [phase.name]
            for fault in faults:
                reason = not_applicable(phase, fault)
                if reason and reason not in reasons:
                    reasons.append(reason)
                row.append(f"- {reasons.index(reason) + 1}" if reason else cells[phase.name, fault.name])
            rows.append(row)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
        what = "\n".join(f"- **{fault.name}**: {fault.about}" for fault in faults)
        parts.append(f"## {group}\n\n{what}\n\n{table}\n" + (f"\n{notes}\n" if notes else ""))
    parts.append(ABSENT)
    return "\n".join(parts)


def wanted() -> set[tuple[str, str]]:
    """The cells that there are, by the names of phase and fault."""
    return {(phase.name, fault.name) for phase in PHASES for fault in FAULTS if not not_applicable(phase, fault)}


def difference(cells: Mapping[tuple[str, str], str]) -> str:
    """How the page that there is differs from what it should be; "" if it does not."""
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    lines = difflib.unified_diff(
        there.splitlines(), compose(cells).splitlines(), "docs/faults.md", "found", lineterm="", n=0
    )
    return "\n".join(lines)


def write(cells: Mapping[tuple[str, str], str]) -> None:
    """Write it."""
    PAGE.write_text(compose(cells), encoding="utf-8")
