"""A backup restored: into a new database beside the live one, and with `swap` in its place.

`restore` reads from top to bottom as what is done: find the backup, reach the server, check every file, restore beside,
compare, and exchange the names. Until the last step the live database is not touched, and in none is it dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headstart.backup import dump as dumps
from headstart.backup import manifest as manifests
from headstart.backup.clients import Client, find_restorer, major_of
from headstart.backup.database import system_identifier
from headstart.backup.manifest import Backup
from headstart.backup.progress import progress
from headstart.backup.restoring import beside, choose, exchange, pg_restore, shape
from headstart.errors import BackupFailedError, LockNotObtainedError, RefusedError, RestoreFailedError
from headstart.history.graph import revision_field
from headstart.postgres.lock import ALONE, stop_if_lost
from headstart.postgres.readiness import Ready, wait_until_ready
from headstart.postgres.server import close, connect, prepare_session, refuse_transaction_pooler
from headstart.steps import aftermath
from headstart.steps.connect import locked
from headstart.steps.run import Run
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.backup.restoring.beside import Names, Recorded
    from headstart.backup.restoring.shape import Shape
    from headstart.postgres.connection import ScriptConnection

MAINTENANCE, ANOTHER = "postgres", "template1"
"""Where we connect to in order to create and rename other databases: the second if the first is the one to restore."""

ANOTHER_SESSION = 5.0
"""Seconds that a server gets to give us another session for what is left to be done."""

ANSWER = 40.0
"""Seconds that the server gets for a statement of ours, but to create or drop a database (`patient`)."""

Heartbeat = Callable[[], Awaitable[dict[str, object]]]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore has made: commands are for a shell, and hold no password."""

    backup: str
    database: str
    kept: str | None
    revision: str | list[str] | None
    go_back: str | None
    remove: str | None
    not_restored: tuple[str, ...] = ()


class _Job(NamedTuple):
    """What every step needs."""

    run: Run
    maintenance: Ready
    live: str
    backup: Backup
    client: Client

    async def another(self) -> ScriptConnection:
        return await connect(self.maintenance.dsn, timeout=10, application_name=self.run.application_name)


async def restore(
    run: Run, wanted: str, *, swap: bool, end_sessions: bool, trusted_owner: int | None = None
) -> Restored:
    """Restore a backup beside the database of DATABASE_URL, and put it in its place if asked to.

    Args:
        run: this run.
        wanted: a backup's name, a path, or `latest`.
        swap: exchange it with the live database by renaming; the old one stays under a dated name.
        end_sessions: end the sessions of others when it is exchanged, instead of refusing.
        trusted_owner: the uid of a user whose backups are restored by their path, wherever they are.

    Raises:
        ConfigurationError: there is no such backup (10).
        RefusedError: the role may not do that (21).
        UnsuitableServerError: there is no pg_restore that can read the dump (22).
        LockNotObtainedError: another restore or migration is at work (30).
        RestoreFailedError: the backup is damaged or another user's, it could not be restored, or others are connected
            (41).
    """
    settings, live = run.settings, run.settings.dsn.database
    with _as_restore():
        found = choose.candidates(settings.backup_dir, live, wanted, cwd=Path(run.cwd), trusted_owner=trusted_owner)
    async with _maintenance(run, live) as maintenance:
        identifier = await system_identifier(maintenance.connection)
        job = await _prepare(run, maintenance, live, choose.newest(found, identifier))
        there = await beside.require_privileges(maintenance.connection, live)
        with run.record.timed(Stage.CHECK), _as_restore():
            await pg_restore.check(job.backup, jobs=settings.backup_jobs, log=run.log)
        async with _exclusive(job), _migration_lock(job, there=there and swap) as holder:
            if holder is not None and not end_sessions:
                hint = f"nothing was restored: {exchange.STOP}"
                ours = [holder.connection.get_server_pid()]
                await exchange.refuse_others(maintenance.connection, live, ours, hint=hint)
            names = await beside.free_names(maintenance.connection, live, datetime.now(UTC))
            tables, missing = await _restore_beside(job, names, holder, there=there)
            run.record.restored = names.restored
            if swap:
                await _exchange(job, names, holder, tables, end_sessions=end_sessions)
            made = _result(job, names, tables, missing, swap=swap, there=there)
            if swap:
                run.log.info(
                    "databases_exchanged",
                    database=made.database,
                    restored=names.restored,
                    kept=made.kept,
                    go_back=made.go_back,
                    remove=made.remove,
                )
            pg_restore.record_restore(job.backup, manifests.timestamp(datetime.now(UTC)), log=run.log)
    return made


# -- the steps --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _maintenance(run: Run, live: str) -> AsyncIterator[Ready]:
    """A session in another database of the server, fit to create and rename databases."""
    with run.record.timed(Stage.WAIT):
        maintenance = await wait_until_ready(
            run.settings.dsn.with_database(ANOTHER if live == MAINTENANCE else MAINTENANCE),
            timeout=run.settings.wait_timeout,
            application_name=run.application_name,
            log=run.log,
            command_timeout=ANSWER,
        )
    try:
        await refuse_transaction_pooler(
            maintenance.connection, maintenance.server, maintenance.dsn, application_name=run.application_name
        )
        await prepare_session(maintenance.connection, lock_timeout=10, statement_timeout=0)
        # If we are ended while a database is being dropped, the server is to go on with that by itself.
        await maintenance.connection.execute("set client_connection_check_interval = 0")
        yield maintenance
    finally:
        await close(maintenance.connection)


async def _prepare(run: Run, maintenance: Ready, live: str, one: Backup) -> _Job:
    """Report the backup, and require a pg_restore for it."""
    manifest = one.manifest
    run.record.backup = str(one.path)
    client = await find_restorer(
        maintenance.server.version_num, manifest.client_version, path=run.environ.get("PATH", "")
    )
    if manifest.database != live:
        run.log.warning("backup_of_another_database", path=str(one.path), database=manifest.database, into=live)
    if major_of(manifest.server_version) > maintenance.server.version_num // 10000:
        run.log.warning(
            "backup_of_newer_server",
            server_version=maintenance.server.version,
            backup_server_version=manifest.server_version,
        )
    return _Job(run, maintenance, live, one, client)


@contextlib.asynccontextmanager
async def _exclusive(job: _Job) -> AsyncIterator[None]:
    """Exclude other restores of this database, and remove what killed ones have left."""
    conn, key = job.maintenance.connection, beside.key(job.live)
    if not await conn.fetchval(ALONE, key):
        raise LockNotObtainedError(
            f"another restore of {job.live} is at work", hint="wait until it has ended, then restore again"
        )
    await beside.sweep(conn, job.live, job.another, log=job.run.log)
    yield  # the lock ends with the session


@contextlib.asynccontextmanager
async def _migration_lock(job: _Job, *, there: bool) -> AsyncIterator[Ready | None]:
    """Hold the migration lock of the live database, where there is one that is to be exchanged."""
    if not there:
        yield None
        return
    run = job.run
    with run.record.timed(Stage.WAIT):
        live = await wait_until_ready(
            job.maintenance.dsn.with_database(job.live),
            timeout=run.settings.wait_timeout,
            application_name=run.application_name,
            log=run.log,
            command_timeout=ANSWER,
        )
    try:
        async with locked(run, live):
            yield live
    finally:
        await close(live.connection)


async def _restore_beside(job: _Job, names: Names, holder: Ready | None, *, there: bool) -> tuple[Recorded, list[str]]:
    """Make the new database, filled and compared. If that fails, it is dropped."""
    run = job.run
    guard = contextlib.nullcontext() if holder is None else stop_if_lost(holder.connection, RestoreFailedError)
    with run.record.timed(Stage.RESTORE):
        try:
            async with guard as heartbeat:
                tables, missing = await _made(job, names, heartbeat, there=there)
        except BaseException:  # outside the guard, which ends what it guards when the lock is lost
            await _discard(job, names.restoring)
            raise
    run.log.info(
        "restore_done",
        database=names.restored,
        backup=str(job.backup.path),
        revision=revision_field(beside.revisions_in(tables)),
        tables=job.backup.manifest.tables,
        not_restored=missing,
    )
    return tables, missing


async def _made(job: _Job, names: Names, heartbeat: Heartbeat | None, *, there: bool) -> tuple[Recorded, list[str]]:
    run, conn, client = job.run, job.maintenance.connection, job.client
    like = await _shape(job) if there else None
    like = like or await shape.of_dump(client, job.backup, env=dumps.bare(run.environ))
    run.log.info(
        "restore_started",
        backup=str(job.backup.path),
        database=names.restoring,
        expected_bytes=job.backup.manifest.database_bytes,
        tables=job.backup.manifest.tables,
        client_version=client.version,
        jobs=pg_restore.jobs_for(job.backup, run.settings.backup_jobs),
    )
    await beside.create(conn, names.restoring, like, job.another, there=there, log=run.log)
    tables = await _fill(job, names.restoring, heartbeat)
    return tables, await beside.finish(conn, names, like, log=run.log)


async def _discard(job: _Job, database: str) -> None:
    """Drop the incomplete database; over another session if ours is gone."""
    try:
        async with aftermath.session(job.run, job.maintenance, ANOTHER_SESSION) as conn:
            await beside.discard(conn, database, job.another, log=job.run.log)
    except aftermath.NO_ANSWER as error:
        job.run.log.warning("partial_database_kept", database=database, cause=str(error))


async def _shape(job: _Job) -> Shape | None:
    """The properties of the live database; None where they cannot be read."""
    run, libpq = job.run, job.maintenance.dsn.with_database(job.live).libpq_env()
    env = dumps.environment(libpq, run.environ, run_id=run.run_id, application=pg_restore.APPLICATION)
    return await shape.of_live(job.client, job.live, env=env, log=run.log, redact=run.redact)


async def _fill(job: _Job, database: str, heartbeat: Heartbeat | None) -> Recorded:
    """Run pg_restore and ANALYZE, and compare what is there with the manifest."""
    run, maintenance, backup = job.run, job.maintenance, job.backup
    dsn, stage = maintenance.dsn.with_database(database), "restore"

    def fields() -> dict[str, object]:
        return {"stage": stage, "expected_bytes": backup.manifest.database_bytes}

    async def watch() -> dict[str, object]:
        if heartbeat is not None:
            await heartbeat()
        query = "select pg_catalog.pg_database_size($1::pg_catalog.name)"
        return {"restored_bytes": await maintenance.connection.fetchval(query, database)}

    async with progress("restore_progress", fields, log=run.log, watch=watch):
        await pg_restore.run(
            job.client,
            backup,
            server_version_num=maintenance.server.version_num,
            jobs=pg_restore.jobs_for(backup, run.settings.backup_jobs),
            env=dumps.environment(dsn.libpq_env(), run.environ, run_id=run.run_id, application=pg_restore.APPLICATION),
            log=run.log,
            redact=run.redact,
        )
        stage = "analyze"
        conn = await connect(dsn, timeout=10, application_name=run.application_name)
        try:
            await prepare_session(conn, lock_timeout=0, statement_timeout=0)
            await conn.execute("analyze")
            return await beside.compare(conn, backup.manifest)
        finally:
            await close(conn)


async def _exchange(job: _Job, names: Names, holder: Ready | None, tables: Recorded, *, end_sessions: bool) -> None:
    """Let the restored database take the live one's name."""
    run, conn = job.run, job.maintenance.connection
    with run.record.timed(Stage.EXCHANGE):
        try:
            if holder is None:
                await exchange.take_place(conn, live=job.live, restored=names.restored)
            else:
                there = await beside.recorded(holder.connection)
                run.record.found(beside.revisions_in({name: there[name] for name in tables if name in there}))
                await exchange.exchange(
                    conn,
                    live=job.live,
                    restored=names.restored,
                    before=names.before,
                    holder=holder.connection,
                    end_sessions=end_sessions,
                    log=run.log,
                )
        except (RestoreFailedError, RefusedError) as error:
            renames = (job.live, names.before), (names.restored, job.live)
            error.context["exchange_command"] = exchange.command(job.maintenance.dsn, *renames)
            drop = exchange.drop_command(job.maintenance.dsn, names.restored)
            error.hint += f"; what was restored stays as {names.restored}, and `{drop}` removes it"
            raise
    run.record.restored = job.live
    run.record.found(beside.revisions_in(tables))


# -- in words ---------------------------------------------------------------------------------------------------------


def _result(job: _Job, names: Names, tables: Recorded, missing: list[str], *, swap: bool, there: bool) -> Restored:
    database = job.live if swap else names.restored
    old = names.before if swap and there else None
    removable = old if swap else database
    return Restored(
        backup=str(job.backup.path),
        database=database,
        kept=old,
        revision=revision_field(beside.revisions_in(tables)),
        go_back=old and exchange.command(job.maintenance.dsn, (job.live, names.restored), (old, job.live)),
        remove=None if removable is None else exchange.drop_command(job.maintenance.dsn, removable),
        not_restored=tuple(missing),
    )


@contextlib.contextmanager
def _as_restore() -> Iterator[None]:
    """Turn errors of the backup folder, which are failed backups elsewhere, into failed restores."""
    try:
        yield
    except BackupFailedError as error:
        raise RestoreFailedError(error.message, hint=error.hint, **error.context) from error
