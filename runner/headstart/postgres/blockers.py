"""Who holds what a session of ours waits for, and what to do about it.

PostgreSQL manual: 'pg_blocking_pids', 'pg_stat_activity', 'pg_prepared_xacts', 'Server Signaling Functions'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from headstart.postgres.activity import summary

_BLOCKERS: Final = """
with waiting as materialized (
    select w.pid, pg_catalog.pg_blocking_pids(w.pid) as blockers from pg_catalog.pg_stat_activity w
    where w.pid = $1::pg_catalog.int4 or w.application_name = $2::pg_catalog.text)
select b.pid, b.application_name, b.usename::pg_catalog.text as user, b.client_addr::pg_catalog.text as client_addr,
       b.state, coalesce(pg_catalog.left(b.query, 200), '') as query,
       extract(epoch from pg_catalog.clock_timestamp() - b.xact_start)::pg_catalog.float8 as transaction_seconds,
       extract(epoch from pg_catalog.clock_timestamp() - b.state_change)::pg_catalog.float8 as state_seconds,
       null::pg_catalog.text as prepared, pg_catalog.quote_ident(current_user) as viewer
from pg_catalog.pg_stat_activity b where b.pid in (select pg_catalog.unnest(w.blockers) from waiting w)
union all
select 0, '', p.owner::pg_catalog.text, null, null, '',
       extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::pg_catalog.float8, null, p.gid,
       pg_catalog.quote_ident(current_user)
from pg_catalog.pg_prepared_xacts p where p.database = pg_catalog.current_database() and exists (
    select from waiting w join pg_catalog.pg_locks l on l.pid = w.pid and not l.granted
    where 0 = any(w.blockers) and (l.transactionid = p.transaction or l.relation in (
        select h.relation from pg_catalog.pg_locks h join pg_catalog.pg_locks x using (virtualtransaction)
        where h.pid is null and x.pid is null and x.transactionid = p.transaction)))
order by transaction_seconds desc nulls last
"""

# The state is looked at again in the moment of the signal: what has begun a statement meanwhile is left alone.
_END_IDLE: Final = """
with idle as materialized (
    select b.pid from pg_catalog.pg_stat_activity b
    where b.pid = $1::pg_catalog.int4 and b.state in ('idle in transaction', 'idle in transaction (aborted)')
      and pg_catalog.clock_timestamp() - b.state_change >= pg_catalog.make_interval(secs => $2::pg_catalog.float8))
select pg_catalog.pg_terminate_backend(pid) from idle
"""

_HIDDEN: Final = "<insufficient privilege>"
"""What pg_stat_activity shows to a role that is neither the session's nor a member of pg_read_all_stats."""


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """A session, or a prepared transaction, that holds a lock which a statement of ours waits for."""

    pid: int
    application_name: str
    user: str | None
    client_addr: str | None
    state: str | None
    query: str
    transaction_seconds: float | None
    state_seconds: float | None
    prepared: str | None
    viewer: str

    @property
    def hidden(self) -> bool:
        """Whether the server shows the statement only to others than `viewer`."""
        return self.query == _HIDDEN

    @property
    def idle_seconds(self) -> float | None:
        """For how long it has been idle in a transaction; None if it is not, or if that is hidden."""
        return self.state_seconds if (self.state or "").startswith("idle in transaction") else None

    @property
    def end(self) -> str:
        """The statement that ends it."""
        if self.prepared is not None:
            return "rollback prepared '" + self.prepared.replace("'", "''") + "'"
        return f"select pg_terminate_backend({self.pid})"

    def __str__(self) -> str:
        state = f"its statement is hidden from {self.viewer}" if self.hidden else self.state or ""
        known = [
            f"user {self.user}" if self.user else "",
            f"{state} for {self.idle_seconds:.0f} s" if self.idle_seconds is not None else state,
            f"in a transaction for {self.transaction_seconds:.0f} s" if self.transaction_seconds is not None else "",
        ]
        who = f"pid {self.pid} {self.application_name}" if self.prepared is None else f"prepared {self.prepared}"
        text = f"{who.rstrip()} ({', '.join(filter(None, known))})"
        return text if self.hidden or not self.query else f"{text}: {summary(self.query, 200)}"


async def blockers(
    connection: asyncpg.Connection, pid: int | None = None, *, application_name: str | None = None
) -> list[Blocker]:
    """Who is waited for at this moment: by the backend `pid`, or by all those of an application."""
    return [Blocker(**row) for row in await connection.fetch(_BLOCKERS, pid, application_name)]


def remedy(found: Sequence[Blocker]) -> str:
    """What to type about blockers; there is one at least."""
    each = "; ".join(one.end for one in found)
    text = f"wait for {'it' if len(found) == 1 else 'them'}, or end {'it' if len(found) == 1 else 'each'}: {each}"
    if any(one.idle_seconds is not None for one in found):
        text += "; HEADSTART_BLOCKERS=terminate ends those that are idle in a transaction"
    viewers = sorted({one.viewer for one in found if one.hidden})
    return text + "".join(f"; to see what runs there: grant pg_read_all_stats to {one}" for one in viewers)


async def end_if_idle(connection: asyncpg.Connection, pid: int, idle_seconds: float) -> bool:
    """End a session if it has been idle in a transaction for at least so many seconds; whether it was ended.

    Raises:
        asyncpg.InsufficientPrivilegeError: this role may not.
    """
    return bool(await connection.fetchval(_END_IDLE, pid, idle_seconds))
