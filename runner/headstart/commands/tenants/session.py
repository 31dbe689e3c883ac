"""The supervisor's session on a database whose schemas are tenants: one for all of them, however many are worked on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import msgspec

from headstart.commands.tenants.lock import share, work_of
from headstart.commands.tenants.targets import Target
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.readiness import Ready
from headstart.postgres.server import close
from headstart.steps.connect import access, prepare, reach
from headstart.steps.run import Run
from headstart.steps.stage import Stage
from headstart.worker.tasks import Access


class Session:
    """Holds the database's gate, shared, from `lock` on. When it is lost it is opened again for the tenants to come.

    Args:
        run: of all tenants.
        ready: the session to begin with, whose owner closes it.
        stack: closes those that are opened in its place.
    """

    def __init__(self, run: Run, ready: Ready, stack: contextlib.AsyncExitStack) -> None:
        self._run = run
        self._ready = ready
        self._stack = stack
        self._access: Access | None = None
        self._locks = False
        self._reconnecting = asyncio.Lock()

    async def lock(self) -> None:
        """Let no `up`, backup or restore of the whole database begin before this run ends.

        Raises:
            LockNotObtainedError: another runner holds the migration lock for too long (30).
        """
        async with self._reconnecting:
            self._locks = True
            await self._lock(await self._alive())

    async def for_tenant(self, own: Run, target: Target) -> tuple[Ready, Access]:
        """The session as one tenant's run is to use it, and how the worker's sessions are verified.

        Args:
            own: the tenant's run.
            target: the tenant.
        """
        async with self._reconnecting:
            ready = await self._alive()
            if self._access is None:
                self._access = await access(self._run, ready, work_key=None)
        assert target.schema is not None  # noqa: S101  (a schema)
        dsn = msgspec.structs.replace(ready.dsn, params=target.dsn.params)
        proof = msgspec.structs.replace(
            self._access,
            dsn=dsn,
            schema=target.schema,
            work_key=work_of(target.schema),
            read_only=False,
            application_name=own.application_name,
        )
        return ready._replace(dsn=dsn), proof

    async def _alive(self) -> Ready:
        if self._ready.connection.is_closed():
            run, self._access = self._run, None
            again = await reach(run)
            self._stack.push_async_callback(close, again.connection)
            if self._locks:
                await self._lock(again)
            self._ready = again
        if not isinstance(self._ready.connection, _InTurn):
            self._ready = self._ready._replace(connection=cast("ScriptConnection", _InTurn(self._ready.connection)))
        return self._ready

    async def _lock(self, ready: Ready) -> None:
        run = self._run
        with run.record.timed(Stage.LOCK):
            await prepare(run, ready)
            await share(ready.connection, timeout=run.settings.lock_timeout, log=run.log)


class _InTurn:
    """A connection that several tasks use: each statement has it to itself."""

    def __init__(self, connection: ScriptConnection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever a connection has)
        found = getattr(self._connection, name)
        if name not in {"execute", "fetch", "fetchrow", "fetchval"}:
            return found

        async def in_turn(*args: Any, **named: Any) -> Any:  # noqa: ANN401  (asyncpg's own)
            async with self._turn:
                return await found(*args, **named)

        return in_turn
