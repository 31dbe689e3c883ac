"""Waiting: until a query is answered on the target database, by a primary that is there to stay.

The first attempt is made at once. Only when it fails for a reason that may pass is tenacity imported and asked to go
on, with jitter, bounded by the time elapsed. `diagnose` decides what may pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from headstart.errors import HeadstartError
from headstart.postgres.diagnosis import NotYet, Verdict, diagnose
from headstart.postgres.server import connect, identify, require_primary

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.server import Server
    from headstart.settings.dsn import Dsn

ATTEMPT = 10.0
"""Seconds that one attempt may take: a peer that is silent for longer is asked again."""

GRACE = 5.0
"""Seconds for what may still come about but mostly does not: a database being created, a standby being promoted."""

FIRST = 1.0
"""Seconds that the first attempt gets, however little time there is: with less, a server that is ready looks dead."""

PAUSE = 2.0
"""Seconds between two attempts, at most."""

SPEAK = 10.0
"""Seconds of silence, at most, as long as nothing changes."""

_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError, NotYet)


class Ready(NamedTuple):
    """A connection that answered, what it is connected to, the URL narrowed down to the host that did, and all of it.

    A standby of `everywhere` may take over from that host.
    """

    connection: ScriptConnection
    server: Server
    dsn: Dsn
    everywhere: Dsn


async def wait_until_ready(
    dsn: Dsn,
    *,
    timeout: float,
    application_name: str,
    log: FilteringBoundLogger,
    command_timeout: float | None = None,
) -> Ready:
    """Connect to the first host of `dsn` that is a primary; try again while the failure may pass and there is time.

    Args:
        dsn: where to.
        timeout: seconds from now for all attempts together; 0 is one attempt.
        application_name: how pg_stat_activity shows us.
        log: gets a line when the first attempt has failed, when the cause changes, and every ten seconds.
        command_timeout: seconds that each later query of the session may take; None is for ever.

    Raises:
        NotReadyError: the time ran out (exit 20).
        RefusedError: waiting would not help (exit 21).
        UnsuitableServerError: a standby, a pooler, or too old (exit 22).
    """
    started = time.monotonic()
    attempts = _Attempts(
        dsn, deadline=started + timeout, application_name=application_name, command_timeout=command_timeout
    )
    try:
        ready = await attempts.once()
    except HeadstartError:
        raise
    except _FAILURES as error:
        attempts.judge(error, log)
        if timeout <= 0:  # asked to try once
            raise attempts.given_up(error) from error
        ready = await _persist(attempts, log)
    log.info(
        "server_ready",
        server=ready.dsn.display(),
        version=ready.server.version,
        waited_seconds=time.monotonic() - started,
        attempts=attempts.count,
    )
    return ready


async def _persist(attempts: _Attempts, log: FilteringBoundLogger) -> Ready:
    import tenacity  # 45 ms that a server which is ready at once does not cost

    left = attempts.deadline - time.monotonic()
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_before_delay(left),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=PAUSE),
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, _FAILURES)),
        reraise=True,
    )

    async def attempt() -> Ready:
        try:
            return await attempts.once()
        except _FAILURES as error:
            attempts.judge(error, log)
            raise

    try:
        return await retrying(attempt)
    except _FAILURES as error:
        raise attempts.given_up(error) from error


class _Attempts:
    """Makes and counts the attempts, and gives up on what cannot pass."""

    def __init__(self, dsn: Dsn, *, deadline: float, application_name: str, command_timeout: float | None) -> None:
        self._command_timeout = command_timeout
        self.dsn = dsn
        self.deadline = deadline
        self.count = 0
        self._application_name = application_name
        self._grace_ends = math.inf
        self._began = 0.0
        self._spoke = (float("-inf"), "")

    async def once(self) -> Ready:
        """Try each host once; the first primary wins, and the last failure is raised."""
        self.count += 1
        self._began = time.monotonic()
        failure: BaseException | None = None
        for host, port in self.dsn.hosts:
            try:
                return await self._try(self.dsn.with_host(host, port))
            except _FAILURES as error:
                if failure is None or diagnose(error, self.dsn).verdict is not Verdict.AGAIN:
                    failure = error
        assert failure is not None  # noqa: S101  (a Dsn has at least one host)
        raise failure

    async def _try(self, dsn: Dsn) -> Ready:
        left = self.deadline - time.monotonic()
        timeout = min(ATTEMPT, max(left, FIRST if self.count == 1 else 0.1))
        connection = await connect(
            dsn, timeout=timeout, application_name=self._application_name, command_timeout=self._command_timeout
        )
        try:
            async with asyncio.timeout(timeout):
                server = await identify(connection)
            require_primary(server, on_socket=dsn.hosts[0][0].startswith(("/", "@")))
        except BaseException:
            connection.terminate()
            raise
        return Ready(connection, server, dsn, self.dsn)

    def judge(self, error: BaseException, log: FilteringBoundLogger) -> None:
        """Log a failed attempt, if that is news or it is time to speak; raise when trying again would not help."""
        diagnosis = diagnose(error, self.dsn)
        now = time.monotonic()
        if diagnosis.verdict is Verdict.GRACE:
            self._grace_ends = min(self._grace_ends, now + GRACE)
        ends = {Verdict.STOP: now, Verdict.GRACE: self._grace_ends, Verdict.AGAIN: math.inf}[diagnosis.verdict]
        if now >= ends:
            raise diagnosis.error(diagnosis.cause, hint=diagnosis.hint, sqlstate=diagnosis.sqlstate) from error
        spoke, cause = self._spoke
        next_chance = now + PAUSE + (now - self._began)  # if the next attempt takes as long
        if cause == diagnosis.cause and next_chance - spoke <= SPEAK:
            return
        self._spoke = now, diagnosis.cause
        log.info(
            "server_not_ready",
            attempt=self.count,
            cause=diagnosis.cause,
            error=type(error).__name__,
            sqlstate=diagnosis.sqlstate,
            left_seconds=max(min(self.deadline, ends) - now, 0.0),
        )

    def given_up(self, error: BaseException) -> HeadstartError:
        """The error of a wait that has run out of time."""
        diagnosis = diagnose(error, self.dsn)
        return diagnosis.error(
            f"{diagnosis.cause}, after {self.count} attempt{'s' if self.count > 1 else ''}",
            hint=diagnosis.hint or "see that the server runs and is reachable, or raise HEADSTART_WAIT_TIMEOUT",
            sqlstate=diagnosis.sqlstate,
        )
