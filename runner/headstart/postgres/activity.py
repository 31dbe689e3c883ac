"""What can be seen of another session: who blocks it, how far it is, what it left behind.

PostgreSQL manual: 'pg_blocking_pids', 'Progress Reporting', 'Building Indexes Concurrently'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from headstart.sql.tokens import tokens

SPEAK = 8.0
"""Seconds after which long work reports that it still runs."""

_BLOCKERS = """
select b.pid, b.application_name, b.usename::pg_catalog.text as user, b.client_addr::pg_catalog.text as client_addr,
       b.state, coalesce(pg_catalog.left(b.query, 200), '') as query,
       extract(epoch from pg_catalog.clock_timestamp() - b.xact_start)::pg_catalog.float8 as transaction_seconds,
       pg_catalog.quote_ident(current_user) as viewer
from pg_catalog.pg_stat_activity b where b.pid in (
    select pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiting.pid)) from pg_catalog.pg_stat_activity waiting
    where waiting.pid = $1::pg_catalog.int4 or waiting.application_name = $2::pg_catalog.text)
order by b.xact_start
"""

_PROGRESS = """
select phase, blocks_done, blocks_total, tuples_done, tuples_total, lockers_total, lockers_done
from pg_catalog.pg_stat_progress_create_index where pid = $1
"""


_HIDDEN = "<insufficient privilege>"
"""What pg_stat_activity shows to a role that is neither the session's nor a member of pg_read_all_stats."""

_LOOKED_AT = 20_000  # characters of a statement, which may have millions


def summary(statement: str, length: int = 500) -> str:
    """A statement, or its beginning, as a message shows it: on one line, cut, without comments and string constants.

    A constant may be a password, or a person's data.
    """
    text, shown, end = statement[:_LOOKED_AT], "", 0
    for token in tokens(text):
        shown += " " if token.start > end and shown else ""
        shown += "'...'" if token.kind == "string" else token.text
        end = token.start + len(token.text)
    return cut(shown, length)


def cut(text: str, length: int) -> str:
    """A text's beginning, with dots where something is missing."""
    return text if len(text) <= length else text[: length - 3] + "..."


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """A session that holds a lock which a statement of ours waits for."""

    pid: int
    application_name: str
    user: str | None
    client_addr: str | None
    state: str | None
    query: str
    transaction_seconds: float | None
    viewer: str

    @property
    def hidden(self) -> bool:
        """Whether the server shows the statement only to others than `viewer`."""
        return self.query == _HIDDEN

    def __str__(self) -> str:
        known = [
            f"user {self.user}" if self.user else "",
            f"its statement is hidden from {self.viewer}" if self.hidden else self.state or "",
            f"in a transaction for {self.transaction_seconds:.0f} s" if self.transaction_seconds is not None else "",
        ]
        text = f"pid {self.pid} {self.application_name}".rstrip() + f" ({', '.join(filter(None, known))})"
        return text if self.hidden or not self.query else f"{text}: {summary(self.query, 200)}"


async def blockers(
    connection: asyncpg.Connection, pid: int | None = None, *, application_name: str | None = None
) -> list[Blocker]:
    """Which sessions are waited for at this moment: by the backend `pid`, or by all those of an application."""
    return [Blocker(**row) for row in await connection.fetch(_BLOCKERS, pid, application_name)]


def remedy(found: Sequence[Blocker]) -> str:
    """What to type about blockers; there is one at least."""
    each = "; ".join(f"select pg_terminate_backend({one.pid})" for one in found)
    text = f"wait for {'it' if len(found) == 1 else 'them'}, or end {'it' if len(found) == 1 else 'each'}: {each}"
    viewers = sorted({one.viewer for one in found if one.hidden})
    return text + "".join(f"; to see what runs there: grant pg_read_all_stats to {one}" for one in viewers)


async def progress_of(connection: asyncpg.Connection, pid: int) -> dict[str, Any] | None:
    """How far the backend `pid` is with building an index; None if it builds none."""
    row = await connection.fetchrow(_PROGRESS, pid)
    return dict(row) if row is not None else None
