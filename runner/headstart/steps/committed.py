"""What a revision that failed has committed all the same: by what the server says of its transactions.

PostgreSQL manual: 'Transaction ID and Snapshot Information Functions'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headstart.postgres.activity import cut, summary
from headstart.postgres.indexes import invalid_indexes
from headstart.postgres.server import literal
from headstart.steps.indexes import named_in, source_of
from headstart.worker.messages import Committing, RevisionApplied, StatementEnded, StatementStarted

if TYPE_CHECKING:
    import asyncpg

    from headstart.worker.messages import Message

SHOWN = 300
"""Characters of a statement that is shown among others."""

_ON_DRIVER = "whatever it has executed on the driver's own connection before a commit there"

_COMMITTED = "select pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8) = 'committed'"
# Of a statement in no transaction the id is not known, but that it lies between two others. Where none was committed
# there, it has written nothing. Others may lie there, too: of other sessions. So many are not looked through.
_COMMITTED_BETWEEN = """
select ids > 10000 or exists (
    select from pg_catalog.generate_series($1::pg_catalog.int8, $1 + least(ids, 10000) - 1) xid
    where pg_catalog.pg_xact_status(xid::pg_catalog.text::pg_catalog.xid8) = 'committed'), ids
from (select -$1::pg_catalog.int8 + coalesce($2::pg_catalog.int8, pg_catalog.pg_snapshot_xmax(
    pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8) as ids) between_them
"""
# Those that were prepared since this session began, and are neither committed nor rolled back.
_PREPARED = """
select p.gid from pg_catalog.pg_prepared_xacts p where p.database = pg_catalog.current_database() and p.prepared >= (
    select a.backend_start from pg_catalog.pg_stat_activity a where a.pid = pg_catalog.pg_backend_pid())
order by p.prepared
"""
# PostgreSQL manual, 'ALTER TABLE': DETACH PARTITION CONCURRENTLY works in two transactions.
_HALF_DETACHED = """
select parent.relname::pg_catalog.text, part.relname::pg_catalog.text,
       parent.oid::pg_catalog.regclass::pg_catalog.text, part.oid::pg_catalog.regclass::pg_catalog.text
from pg_catalog.pg_inherits i join pg_catalog.pg_class part on part.oid = i.inhrelid
join pg_catalog.pg_class parent on parent.oid = i.inhparent
where i.inhdetachpending order by 4
"""
_WITHOUT_XID = re.compile(r"alter\s+system\b", re.IGNORECASE)  # in no transaction, and so without an id of one
COMMITTED = "committed"
"""Begins, or ends, the word before the colon of a leftover that is a statement, and no command to type."""


@dataclass
class _Alone:
    """A statement in no transaction of the revision's."""

    statement: str
    certain: bool
    since: int
    until: int | None = None
    rolled_back: bool = False


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
            case Committing(statements=executed):
                shown = [cut(summary(each), SHOWN) for each in executed or ()]
                self._transactions[message.xid] = [*shown, *([_ON_DRIVER] if message.unheard else ())]
            case StatementStarted() if message.alone is not None:
                self._at_work = _Alone(message.statement, message.certain, message.alone)
                self._alone.append(self._at_work)
            case StatementEnded() if self._at_work is not None:
                self._at_work.until, self._at_work.rolled_back = message.until, message.rolled_back
                self._at_work = None
            case _:
                pass

    async def leftovers(self, connection: asyncpg.Connection[Any], path: str, schema: str | None = None) -> list[str]:
        """What a revision that failed has left: statements, prepared transactions, and indexes that stayed INVALID.

        Each begins with what it is, up to a colon. After it comes what was executed, or what to type.

        Args:
            connection: to the same database, when the sessions of the revision have ended.
            path: the revision's file.
            schema: where to look for indexes; everywhere when left out.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the server does not answer.
        """
        found = await self._committed(connection)
        gids = [literal(row[0]) for row in await connection.fetch(_PREPARED)]
        found += [f"prepared transaction {gid}: rollback prepared {gid}" for gid in gids]
        invalid = await invalid_indexes(connection, schema)
        executed = [each.statement for each in self._alone]  # also by what the revision imports
        left = named_in([*executed, source_of(path)], invalid) if invalid else ()
        found += [f"INVALID index {name}: drop index concurrently {name};" for name in sorted(left)]
        text = "\n".join([*executed, source_of(path)]).lower()
        for parent, part, its_parent, itself in await connection.fetch(_HALF_DETACHED):
            if "concurrently" in text and (parent.lower() in text or part.lower() in text):
                found.append(f"half detached {itself}: alter table {its_parent} detach partition {itself} finalize;")
        return found

    async def _committed(self, connection: asyncpg.Connection[Any]) -> list[str]:
        """The statements that were committed."""
        found: list[str] = []
        for xid, statements in self._transactions.items():
            if not xid or await connection.fetchval(_COMMITTED, xid):
                found += [f"{'' if xid else 'perhaps '}{COMMITTED}: {each}" for each in statements]
        for each in (each for each in self._alone if not each.rolled_back):
            [(committed, ids)] = await connection.fetch(_COMMITTED_BETWEEN, each.since, each.until)
            if _WITHOUT_XID.match(each.statement):
                committed, ids = True, 1
            if committed:
                certain = ids == 1 or (each.certain and each.until is not None)
                found.append(f"{'' if certain else 'perhaps '}{COMMITTED}: {summary(each.statement)}")
        return found
