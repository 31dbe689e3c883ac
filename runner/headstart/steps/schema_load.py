"""Loads a schema file into an empty database, in one transaction, and records it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from headstart.errors import ConfigurationError, MigrationFailedError, VerificationFailedError
from headstart.history.graph import Revision, revision_field
from headstart.ledger.state import prepare
from headstart.ledger.writer import Writer, complete
from headstart.log.printable import first_and_last
from headstart.postgres import catalog
from headstart.postgres.activity import summary
from headstart.postgres.lock import stop_if_lost
from headstart.postgres.script_run import failure_of
from headstart.postgres.server import first_line, literal
from headstart.postgres.version_table import find_version_table, recorded_revisions, require_write_privilege
from headstart.sql.constants import without_constants
from headstart.steps import backup
from headstart.steps.compare import Undetermined
from headstart.steps.connect import beside
from headstart.steps.run import Run
from headstart.steps.schema_file import AtHand, SchemaFile, at_hand
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.readiness import Ready
    from headstart.steps.compare import Comparison

_IN_THE_WAY = ("table ", "foreign table ", "view ", "materialized view ", "sequence ")


async def load_instead(run: Run, ready: Ready, history: History, state: Comparison) -> bool:
    """Bring an empty database to the target by the schema file of the settings, if it is provably the target's.

    Args:
        run: this run; HEADSTART_SCHEMA_FILE is set.
        ready: the connection that holds the migration lock.
        history: the revision files.
        state: what the comparison under the lock has given.

    Returns:
        Whether it did. Otherwise nothing is changed, and the log says why.

    Raises:
        MigrationFailedError: the file does not run; nothing of it is kept (60).
    """
    if not isinstance(state, Undetermined) and state.recorded:
        return False  # ordinary revisions on a database that is in use: nothing to say about
    path = Path(run.cwd, run.settings.schema_file or "")
    try:
        file, now = await _usable(run, ready, history, path)
    except ConfigurationError as error:
        run.log.warning(
            "schema_file_not_used",
            file=str(path),
            reason=error.message,
            hint=f"the revisions are run one by one instead; {error.hint}",
        )
        return False
    if run.settings.backup == "always":
        await backup.back_up(run, ready, before=(), intended=file.revisions)
    await load(run, ready, file, now.files, path=path)
    return True


async def _usable(run: Run, ready: Ready, history: History, path: Path) -> tuple[SchemaFile, AtHand]:
    now = await at_hand(run, history)
    file = SchemaFile.read(path)
    file.require_fresh(now, path)
    recorded = await recorded_revisions(ready.connection, *file.place)
    if recorded:  # where only env.py knew of it
        raise ConfigurationError(f"the database is at {revision_field(recorded)}")
    await require_empty(ready.connection, file.version_table)
    return file, now


async def require_empty(connection: ScriptConnection, version_table: str) -> None:
    """Refuse a database with tables.

    Raises:
        ConfigurationError: it names some of them (10).
    """
    found = await catalog.read(connection, passing_over=(version_table,))
    taken = [what for what in found if what.startswith(_IN_THE_WAY)]
    if taken:
        hint = "`headstart up` migrates it; `headstart adopt` takes over a database that others have made"
        raise ConfigurationError(f"the database is not empty: it holds {first_and_last(taken)}", hint=hint)


async def load(run: Run, ready: Ready, file: SchemaFile, files: list[Revision], *, path: Path) -> None:
    """Run the file in one transaction, with the version table's rows, and the ledger's: each revision as `stamped`.

    Args:
        run: this run.
        ready: the connection that holds the migration lock, to an empty database; the file has a session of its own.
        file: what is loaded; proven.
        files: the revision files that it stands for.
        path: where it was read from, for messages.

    Raises:
        MigrationFailedError: it does not run; nothing of it is kept (60).
        VerificationFailedError: the version table is not where it is looked for; nothing is kept (80).
        RefusedError: the role may not write the version table (21).
    """
    connection = ready.connection
    table, schema = file.place
    await require_write_privilege(connection, ready.server.user, table, schema)
    run.record.found(())
    with run.record.timed(Stage.UPGRADE):
        writer = None
        if await prepare(connection, mode=run.settings.ledger, log=run.log, version_table=file.version_table):
            writer = Writer(file.version_table, run_id=run.run_id, image=run.settings.image, backup=run.record.backup)
        run.log.info("schema_loading", file=str(path), revision=revision_field(file.revisions))
        async with stop_if_lost(ready.connection), beside(run, ready) as session:
            try:
                async with session.transaction():
                    await _fill(session, file, files, writer)
                    run.record.after = None  # until the server has answered the COMMIT
            except asyncpg.PostgresError as error:
                raise _failed(error, path) from error
        run.record.after = file.revisions
        if writer is not None:
            await complete(connection, run.run_id, expected=len(files), log=run.log, version_table=file.version_table)
    run.log.info("schema_loaded", revision=revision_field(file.revisions), revisions=len(files), file=str(path))


async def _fill(connection: ScriptConnection, file: SchemaFile, files: list[Revision], writer: Writer | None) -> None:
    table, schema = file.place
    there = await find_version_table(connection, table, schema)
    if there is not None:
        await connection.execute(f"drop table {there}")  # empty: an env.py may have made it
    script = await connection.prepare(file.body)
    await script.fetch()
    name = await find_version_table(connection, table, schema)
    if name is not None and file.revisions:
        rows = ", ".join(f"({literal(revision)})" for revision in file.revisions)
        await connection.execute(f"insert into {name} (version_num) values {rows}")  # noqa: S608  (quoted)
    if writer is not None and files:
        with contextlib.suppress(asyncpg.PostgresError):  # `complete` says so
            async with connection.transaction():
                await connection.execute(";\n".join(writer.record_all("stamped", files)))
    found = await recorded_revisions(connection, table, schema)
    if set(found) != set(file.revisions):
        raise VerificationFailedError(
            f"the database is at {revision_field(found)} instead of {revision_field(file.revisions)};"
            " nothing of it was kept",
            hint="see whether the role's search_path leads to the schema of the version table",
        )


def _failed(error: asyncpg.PostgresError, path: Path) -> MigrationFailedError:
    """What the server said, and to which statement."""
    failure = failure_of(error)
    at = f": {summary(failure.statement)}" if failure is not None else ""
    cause = without_constants(first_line(error), error.sqlstate, failure.statement if failure is not None else "")
    return MigrationFailedError(
        f"the schema file {path} failed ({error.sqlstate}): {cause}{at}; nothing of it was kept",
        hint="see what the database or role lacks (a role, an extension, a privilege), or run the revisions one by one:"
        " `headstart up` without HEADSTART_SCHEMA_FILE",
        sqlstate=error.sqlstate,
    )
