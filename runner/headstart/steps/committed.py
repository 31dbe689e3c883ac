"""What a revision that failed has committed all the same: by what the server says of its transactions.

PostgreSQL manual: 'Transaction ID and Snapshot Information Functions'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headstart.worker.messages import Committing, RevisionApplied, StatementEnded, StatementStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from headstart.worker.messages import Message

_START = r"\s*(?:--[^\n]*\n\s*|/\*(?:[^*]|\*(?!/))*\*/\s*)*"
_READS = re.compile(_START + r"(select|values|table|with)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(into|insert|update|delete|merge)\b", re.IGNORECASE)
_MAY_WRITE = re.compile(r"\(|\binto\b|\banalyze\b", re.IGNORECASE)
_LEAVES_NOTHING = re.compile(_START + r"(show|set|reset|vacuum|analyze|checkpoint|discard|commit|end)\b", re.IGNORECASE)
_ON_DRIVER = "whatever it has executed on the driver's own connection before a commit there"

_COMMITTED = "select pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8) = 'committed'"
# Of a statement in no transaction the id is not known, but that it lies between two others. Where none was committed
# there, it has written nothing.
_COMMITTED_BETWEEN = """
select exists (
    select from pg_catalog.generate_series($1::pg_catalog.int8, -1 + coalesce($2::pg_catalog.int8,
        pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8)) xid
    where pg_catalog.pg_xact_status(xid::pg_catalog.text::pg_catalog.xid8) = 'committed')
"""


@dataclass
class _Alone:
    """A statement in no transaction of the revision's."""

    statement: str
    since: int
    until: int | None = None


@dataclass
class Committed:
    """Hears what the revision at work may commit before its end, and asks what became of it."""

    _transactions: dict[str, list[str]] = field(default_factory=dict)
    _alone: list[_Alone] = field(default_factory=list)
    _at_work: _Alone | None = None

    def hear(self, message: Message) -> None:
        """Take note of a message."""
        match message:
            case RevisionApplied(committed=True):
                self._transactions.clear()
                self._alone.clear()
                self._at_work = None
            case Committing(statements=None):
                self._transactions.pop(message.xid, None)
            case Committing():
                executed = _written(message.statements or ())
                self._transactions[message.xid] = [*executed, _ON_DRIVER] if message.unheard else executed
            case StatementStarted() if message.alone is not None:
                self._at_work = _Alone(message.statement, message.alone)
                self._alone.append(self._at_work)
            case StatementEnded() if self._at_work is not None:
                self._at_work.until = message.until
                if message.rolled_back:
                    self._alone.remove(self._at_work)
                self._at_work = None
            case _:
                pass

    async def leftovers(self, connection: asyncpg.Connection[Any]) -> list[str]:
        """The statements that were committed.

        Args:
            connection: to the same database, when the sessions of the revision have ended.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the server does not answer.
        """
        found: list[str] = []
        for xid, statements in self._transactions.items():
            if await connection.fetchval(_COMMITTED, xid):
                found += statements
        for each in self._alone:
            if _written([each.statement]) and await connection.fetchval(_COMMITTED_BETWEEN, each.since, each.until):
                found.append(each.statement)
        return found


def _written(statements: Sequence[str]) -> list[str]:
    """Those that have written; where none has for certain, those that may have done it by a function."""
    found = [each for each in statements if not _LEAVES_NOTHING.match(each)]
    certain = [each for each in found if not _READS.match(each) or _WRITES.search(each)]
    return certain or [each for each in found if _MAY_WRITE.search(each)]
