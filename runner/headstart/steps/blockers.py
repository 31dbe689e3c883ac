"""Looks for who is in the way, says so, and ends those that are idle in a transaction where HEADSTART_BLOCKERS says so.

PostgreSQL manual: 'Server Signaling Functions'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from headstart.postgres.blockers import Blocker, blockers, end_if_idle

if TYPE_CHECKING:
    from headstart.steps.run import Run


class Blockers:
    """Those who hold up a session of ours, look after look.

    Args:
        run: this run.
        connection: the supervisor's own session.
    """

    def __init__(self, run: Run, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._run = run
        self._connection = connection
        self._own = run.application_name.replace("headstart ", "headstart worker ", 1)[:63]
        self._not_ended: set[int] = set()  # backends that this role may not end

    async def look(self, pid: int | None = None, *, application_name: str | None = None) -> list[Blocker]:
        """Who holds up the backend `pid`, or those of an application. One that is idle for too long is ended."""
        found = await blockers(self._connection, pid, application_name=application_name)
        if self._run.settings.blockers == "terminate":
            for one in found:
                await self._end(one, self._run.settings.blockers_idle)
        return found

    async def _end(self, one: Blocker, idle_seconds: float) -> None:
        if (
            one.idle_seconds is None
            or one.idle_seconds < idle_seconds
            or one.pid in self._not_ended
            or one.application_name == self._own
        ):
            return
        try:
            if await end_if_idle(self._connection, one.pid, idle_seconds):
                self._run.log.warning("blocker_ended", blocker=str(one))
        except asyncpg.InsufficientPrivilegeError:
            self._not_ended.add(one.pid)
            hint = f"grant pg_signal_backend to {one.viewer}; a superuser's session only a superuser may end"
            self._run.log.warning("blocker_not_ended", blocker=str(one), hint=hint)
