"""The supervisor's own session: waited for, proven fit, and holding the migration lock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from headstart import history
from headstart.postgres.lock import WORK, migration_lock
from headstart.postgres.readiness import wait_until_ready
from headstart.postgres.server import close, connect, prepare_session, refuse_transaction_pooler
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker
    from headstart.worker.tasks import Access


ANSWER = 30.0
"""Seconds that the server gets to answer a question of the supervisor's; none of them is a long one."""


def find(run: Run) -> History:
    """Locate the Alembic project by Alembic's own rules, and read its revision files.

    Raises:
        ConfigurationError: there is no such project (10).
        BrokenHistoryError: the files are no history (70).
    """
    settings = run.settings
    return history.read(settings.config, cwd=run.cwd, explicit=settings.config_explicit, section=run.section)


@contextlib.asynccontextmanager
async def connected(run: Run) -> AsyncIterator[Ready]:
    """Wait until the server is ready; the session that proved it is the supervisor's until the end."""
    with run.record.timed(Stage.WAIT):
        ready = await reach(run)
    try:
        yield ready
    finally:
        await close(ready.connection)


async def reach(run: Run, *, timeout: float | None = None) -> Ready:
    """Wait until the server is ready, and give the session that proved it.

    Args:
        run: this run.
        timeout: seconds; the setting when left out.

    Raises:
        NotReadyError, RefusedError, UnsuitableServerError: as `wait_until_ready` (20, 21, 22).
    """
    return await wait_until_ready(
        run.settings.dsn,
        timeout=run.settings.wait_timeout if timeout is None else timeout,
        application_name=run.application_name,
        log=run.log,
        command_timeout=ANSWER,
    )


@contextlib.asynccontextmanager
async def locked(run: Run, ready: Ready) -> AsyncIterator[None]:
    """Hold the migration lock on the supervisor's session, which is fit to hold one."""
    async with contextlib.AsyncExitStack() as stack:
        with run.record.timed(Stage.LOCK):
            await prepare(run, ready)
            lock = migration_lock(ready.connection, timeout=run.settings.lock_timeout, log=run.log)
            await stack.enter_async_context(lock)
        yield


async def prepare(run: Run, ready: Ready) -> None:
    """Make the session fit to hold a lock, or refuse what cannot be."""
    await refuse_transaction_pooler(ready.connection, ready.server, ready.dsn, application_name=run.application_name)
    await set_timeouts(run, ready.connection)


async def set_timeouts(run: Run, connection: ScriptConnection) -> None:
    """Give a session the run's timeouts."""
    settings = run.settings
    await prepare_session(
        connection, lock_timeout=settings.table_lock_timeout, statement_timeout=settings.statement_timeout
    )


@contextlib.asynccontextmanager
async def beside(run: Run, ready: Ready) -> AsyncIterator[ScriptConnection]:
    """A second session while the first one holds the lock. It has the work key: nobody else gets in before it ends."""
    session = await connect(ready.dsn, timeout=10, application_name=run.application_name)
    try:
        await set_timeouts(run, session)
        await session.fetchval("select pg_catalog.pg_try_advisory_lock_shared($1)", WORK)
        yield session
    finally:
        await close(session)


async def access(run: Run, ready: Ready, *, work_key: int | None = WORK, schema: str | None = None) -> Access:
    """What the worker's sessions are proven by, and given.

    Args:
        run: this run.
        ready: the supervisor's session; with a work key it holds the migration lock.
        work_key: of the lock; None: nothing may be changed.
        schema: the tenant's, if it is one.
    """
    import secrets

    from headstart.worker.tasks import Access  # a no-op needs nothing of the worker's

    token = secrets.randbits(62)
    await ready.connection.execute(f"select pg_catalog.pg_advisory_lock('{token}'::pg_catalog.int8)")
    return Access(
        dsn=ready.dsn,
        backend=await ready.connection.fetchval("select pg_catalog.pg_backend_pid()"),
        token=token,
        work_key=work_key,
        read_only=work_key is None,
        schema=schema,
        application_name=run.application_name.replace("headstart ", "headstart worker ", 1)[:63],
        lock_timeout=run.settings.table_lock_timeout,
        statement_timeout=run.settings.statement_timeout,
    )


@contextlib.asynccontextmanager
async def working(run: Run, shared: Worker | None = None) -> AsyncIterator[Worker]:
    """The worker, which imports Alembic while the supervisor goes on.

    Args:
        run: this run.
        shared: one that several runs share, and which outlives this one; when left out, that which has read the
            command line, or one of its own.
    """
    from headstart.worker.supervise import Worker

    if shared is not None:
        shared.start()
        yield shared
        return
    async with run.worker or Worker(cwd=run.cwd, environ=run.environ) as worker:
        worker.start()
        yield worker
