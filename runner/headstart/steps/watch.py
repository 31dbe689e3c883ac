"""While the worker works: are both sessions alive, who blocks the worker, and a word every ten seconds.

PostgreSQL manual: 'pg_blocking_pids', 'Progress Reporting', 'pg_stat_activity'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from headstart.errors import EnvironmentWritesError, InterruptedMigrationError
from headstart.postgres.activity import SPEAK, Pace, progress_of, summary
from headstart.postgres.blockers import remedy
from headstart.steps.blockers import Blockers
from headstart.worker.messages import TaskFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from headstart.postgres.blockers import Blocker
    from headstart.steps.run import Run
    from headstart.worker.messages import StatementStarted

HEARTBEAT = 2.0
"""Seconds between two heartbeats of the supervisor's session."""
ANSWER = 15.0
"""Seconds that the server may take to answer one of these small questions before the session counts as lost."""
LOST_ANSWER = 10.0
"""Seconds after which an answer of the server's that the worker does not have counts as lost on the way."""

_IDLE_SINCE = """
select extract(epoch from pg_catalog.clock_timestamp() - state_change)::pg_catalog.float8
from pg_catalog.pg_stat_activity where pid = $1::pg_catalog.int4
  and state <> 'active' and state <> 'fastpath function call'
"""


class AtWork(Protocol):
    """Who executes statements."""

    @property
    def statement(self) -> StatementStarted | None:
        """At work now; None for none."""

    @property
    def backends(self) -> Collection[int]:
        """The pids of its sessions."""

    @property
    def since(self) -> float:
        """When it began, or the last one ended, by the monotonic clock."""


class Watch:
    """Watches a task of the worker, or a statement of ours.

    Args:
        at_work: whose statement is watched.
        connection: the supervisor's own session; nobody else may use it meanwhile.
        shortest: seconds of the shorter one of table lock and statement timeout: blockers are looked for well before.
        withheld: nothing is committed: whoever waits for another session of its own waits for ever.
        run: this run; its log gets `statement_blocked`, `statement_running`, `revision_running`.

    Attributes:
        revision: at work now; None before the first and between two.
        blockers: who was in its way last.
    """

    def __init__(
        self,
        at_work: AtWork,
        connection: asyncpg.Connection[asyncpg.Record],
        *,
        shortest: float,
        run: Run,
        withheld: bool = False,
    ) -> None:
        self._withheld = withheld
        self._at_work = at_work
        self._connection = connection
        self._interval = max(min(1.0, shortest / 4), 0.05) if shortest else 1.0
        self._log = run.log
        self._in_the_way = Blockers(run, connection)
        self._paced: tuple[StatementStarted | None, Pace] = None, Pace()
        self._quiet_since = time.monotonic()
        self.revision: str | None = None
        self.blockers: list[Blocker] = []

    def heard(self) -> None:
        """The log has just spoken of this task."""
        self._quiet_since = time.monotonic()

    def at(self, revision: str | None) -> None:
        """Take note of the revision that is at work from now on."""
        self.revision, self.blockers = revision, []

    async def over(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  (what the work gives)
        """Have work done, and watch it meanwhile. If this is cancelled, or raises, whoever does it has to be ended.

        Args:
            work: what.

        Raises:
            InterruptedMigrationError: as `until_lost`; or env.py could not prove where it is connected, because the
                supervisor's session, by which it does so, is gone (63).
        """
        doing = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self.until_lost())
        try:
            await asyncio.wait([doing, watching], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                watching.result()  # raises
            return await doing
        except TaskFailedError as error:
            watching.cancel()  # it may be asking something over the same session
            await asyncio.gather(watching, return_exceptions=True)
            if error.failed.revision is None and not error.failed.lost:
                await self._require_session()
            raise
        finally:
            for each in (doing, watching):
                each.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def until_lost(self) -> None:
        """Watch until this is cancelled.

        Raises:
            InterruptedMigrationError: the supervisor's session is gone, and with it the lock (63); or the worker waits
                for an answer that the server has given already.
            EnvironmentWritesError: `withheld`, and its sessions wait for each other.
        """
        heartbeat = time.monotonic()
        while True:
            await asyncio.sleep(self._interval)
            now = time.monotonic()
            statement, seconds = self._at_work.statement, now - self._at_work.since
            slow = statement if seconds >= self._interval else None
            if slow is None and now - heartbeat < HEARTBEAT and now - self._quiet_since < SPEAK:
                continue
            heartbeat = now
            try:
                async with asyncio.timeout(ANSWER):
                    if slow is not None:
                        await self._look(slow)
                    else:
                        await self._connection.fetchval("select 1")
            except TimeoutError:
                cause = "the server has stopped answering the session that holds the lock"
                raise InterruptedMigrationError(cause) from None
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if self._connection.is_closed():
                    cause = f"the session that holds the migration lock was lost: {error}"
                    raise InterruptedMigrationError(cause) from error
                state = getattr(error, "sqlstate", None)
                self._log.info("watch_unavailable", error=type(error).__name__, sqlstate=state)
            if now - self._quiet_since >= SPEAK:
                await self._speak(statement, seconds)

    async def _require_session(self) -> None:
        try:
            async with asyncio.timeout(ANSWER):
                await self._connection.fetchval("select 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            cause = f"the session that holds the migration lock was lost: {str(error) or type(error).__name__}"
            raise InterruptedMigrationError(cause) from error

    async def _look(self, statement: StatementStarted) -> None:
        found = await self._in_the_way.look(statement.backend)
        if self._withheld and any(each.pid in self._at_work.backends for each in found):
            raise EnvironmentWritesError(
                "sessions of env.py's wait for each other where what they write is not committed"
            )
        new = {each.pid for each in found} - {each.pid for each in self.blockers}
        self.blockers = found or self.blockers
        if new:
            shown = [str(each) for each in found]
            self._log.warning("statement_blocked", revision=self.revision, blockers=shown, hint=remedy(found))
        idle = await self._connection.fetchval(_IDLE_SINCE, statement.backend)
        if idle is not None and idle >= LOST_ANSWER and self._at_work.statement is statement:
            raise InterruptedMigrationError(
                f"the server answered {idle:.0f} s ago, and the answer has not arrived: the network lost it"
            )

    async def _speak(self, statement: StatementStarted | None, seconds: float) -> None:
        self.heard()
        if statement is None:
            event = "env_running" if self.revision is None else "revision_running"
            self._log.info(event, revision=self.revision, running_seconds=seconds)
            return
        seen = None
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(ANSWER):  # what is wrong, the next look says
                seen = await progress_of(self._connection, statement.backend)
        if self._paced[0] is not statement:
            self._paced = statement, Pace()
        fields = seen.fields(self._paced[1].left_seconds(seen, time.monotonic())) if seen is not None else {}
        self._log.info(
            "statement_running",
            revision=self.revision,
            statement=summary(statement.statement),
            running_seconds=seconds,
            blockers=[str(each) for each in self.blockers],
            **fields,
        )
