"""`up` for a tenant that is a schema: the same steps, in sessions whose search_path begins with that schema.

So an unmodified env.py and its revisions, which name no schema, find and make everything there, the version table too.
Three things differ from `up`: the version table is looked for in that schema and nowhere else, the lock is the tenant's
own, and the backup, of the whole database, was taken before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import event
from sqlalchemy.engine import Engine

from headstart import postgres
from headstart.errors import ConfigurationError
from headstart.history import History
from headstart.run import Run
from headstart.tenants import lock
from headstart.up import ask_alembic, compare, connected, find
from headstart.version_table import creation_schema
from headstart.work import Work

if TYPE_CHECKING:
    from headstart.alembic_bridge.scripts import Recorded, Scripts
    from headstart.alembic_bridge.workbench import Workbench
    from headstart.readiness import Ready


class SchemaRun(Run):
    """A run on one schema. `settings.dsn` has it first in its search_path.

    Attributes:
        schema: its name.
    """

    schema: str


class SchemaWork(Work):
    """One run's work on one schema."""

    def __init__(self, run: SchemaRun, ready: Ready, scripts: Scripts, workbench: Workbench, found: Recorded) -> None:
        if found.version_schema not in {None, run.schema}:
            raise ConfigurationError(
                f"env.py keeps the version table in schema {found.version_schema!r}, not in the tenant's",
                hint="leave version_table_schema out, or let env.py compute it from the argument -x tenant=...",
            )
        self.schema = run.schema
        super().__init__(run, ready, scripts, workbench, msgspec.structs.replace(found, version_schema=run.schema))


async def up(run: SchemaRun) -> None:
    """Bring one schema, found to need it, to the target: wait, lock, compare again, guard, upgrade, verify, record."""
    found = _within(find(run), run.schema)
    async with connected(run) as ready:
        await _arrive(run, ready)
        await _lock(run, ready)
        plan = await compare(run, ready, found)  # again: another runner may have been quicker
        if plan is not None and plan.nothing_pending:
            return
        with _in_schema(run.schema, ready), run.timed("load"):
            work = await SchemaWork.load(run, ready, found)
        steps = await work.steps_up(run.settings.target)
        if steps:
            await work.guard()
            with _in_schema(run.schema, ready):
                await work.run(steps)
        await work.verify()


async def status(run: SchemaRun) -> None:
    """Note where one schema stands, changing nothing.

    Raises:
        ConfigurationError: env.py writes before it can be asked (10).
    """
    found = _within(find(run), run.schema)
    async with connected(run) as ready:
        await _arrive(run, ready)
        plan = await compare(run, ready, found)
        if plan is None:
            with _in_schema(run.schema, ready):
                plan = await ask_alembic(run, ready, found, kind=SchemaWork)
        if plan is None:
            raise ConfigurationError("env.py cannot be asked without its writing to the database", unaskable=True)
        run.pending = plan.pending


def _within(found: History, schema: str) -> History:
    return History(msgspec.structs.replace(found.project, version_schema=schema), found.graph)


async def _arrive(run: SchemaRun, ready: Ready) -> None:
    """See that an object without a schema would be made in the tenant's.

    Raises:
        ConfigurationError: it would not: the schema has gone, or the role may not use it (10).
    """
    if creation_schema(ready.connection.schemas) != run.schema:
        raise ConfigurationError(
            f"there is no schema {run.schema!r} that the role {ready.server.user} may use",
            hint=f"grant usage, create on schema {postgres.quote(run.schema)} to {postgres.quote(ready.server.user)}",
        )


async def _lock(run: SchemaRun, ready: Ready) -> None:
    settings = run.settings
    with run.timed("lock"):
        await postgres.refuse_transaction_pooler(
            ready.connection, ready.server, ready.dsn, application_name=run.application_name
        )
        await postgres.prepare_session(
            ready.connection,
            lock_timeout=settings.table_lock_timeout,
            statement_timeout=settings.statement_timeout,
            log=run.log,
        )
        await lock.take(ready.connection, run.schema, timeout=settings.lock_timeout, log=run.log)


@contextlib.contextmanager
def _in_schema(schema: str, ready: Ready) -> Iterator[None]:
    """While env.py runs: each session that it opens by itself works in the tenant's schema, and holds its work key."""
    asked = (
        f"select current_schema() is not distinct from {postgres.literal(schema)},"  # noqa: S608  (a literal)
        f" pg_catalog.pg_try_advisory_lock_shared({lock.work_of(schema)})"
    )

    def opened(dbapi: Any, _record: object) -> None:  # noqa: ANN401  (of any driver)
        if getattr(dbapi, "driver_connection", dbapi) is ready.connection:
            return
        cursor = dbapi.cursor()
        cursor.execute(asked)
        there, locked = cursor.fetchone()
        dbapi.commit()
        if not there or not locked:
            raise ConfigurationError(
                f"env.py opens a connection of its own, which is not in the tenant's schema {schema!r}",
                hint="let env.py take its URL from DATABASE_URL without `options`, or use asyncpg",
            )

    event.listen(Engine, "connect", opened)
    try:
        yield
    finally:
        event.remove(Engine, "connect", opened)
