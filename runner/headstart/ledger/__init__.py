"""The ledger: which revision was applied when, by whom, from which source. A table in a schema of its own.

A row is written in the transaction of its revision, so it is there exactly if the revision is. If a row cannot be
written, the revision is applied all the same: without the privilege, all the rest works.

`table` makes the ledger, `state` finds out whether it is to be written, `writer` writes it, `trust` reads rows where
they can be trusted, `read` asks for what a run needs, and `source` compares what was applied with the files.

Begin with `read`.
"""

from headstart.ledger.read import Row, applied, entries, key, refuse_edited, rows
from headstart.ledger.trust import SCHEMA, LedgerLockedError, fetch, unreadable

__all__ = [
    "SCHEMA",
    "LedgerLockedError",
    "Row",
    "applied",
    "entries",
    "fetch",
    "key",
    "refuse_edited",
    "rows",
    "unreadable",
]
