"""The schema file, written from a replay of all revisions on a scratch server, or compared with one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from headstart import ledger
from headstart.commands.schema.files import locate, write_text
from headstart.commands.schema.pg_dump import dump_entries
from headstart.commands.schema.script import Entry, differing, parse, to_text
from headstart.errors import VerificationFailedError
from headstart.history.graph import revision_field
from headstart.postgres.scratch import scratch_server
from headstart.postgres.server import close, connect
from headstart.steps.replay import replay
from headstart.steps.schema_file import AtHand, SchemaFile, SchemaFileError
from headstart.steps.stage import Stage
from headstart.worker.supervise import Worker

if TYPE_CHECKING:
    from headstart.postgres.scratch import Scratch
    from headstart.settings.dsn import Dsn
    from headstart.steps.replay import Replay
    from headstart.steps.run import Run


class Made(NamedTuple):
    """The schema as the revisions make it."""

    now: AtHand
    entries: list[Entry]


async def dump(run: Run, file: str | None) -> Path:
    """Write the schema file; one that is of these revisions already stays as it is.

    Args:
        run: this run; its database is neither needed nor touched.
        file: its path; HEADSTART_SCHEMA_FILE or `DEFAULT` when left out.

    Raises:
        ConfigurationError: there is no scratch server, or the file cannot be written (10).
        MigrationFailedError: a revision fails (60).
    """
    path = locate(run, file)
    async with _replayed(run) as (scratch, dsn, history):
        made = await make(run, dsn, history)
        body = to_text(made.entries)
        if path.is_file():
            with contextlib.suppress(SchemaFileError):
                before = SchemaFile.read(path)
                if not await _differences(run, scratch, history, made, before.body):
                    body = before.body
    write_text(path, str(SchemaFile.of(body, made.now)))
    run.log.info(
        "schema_dumped", file=str(path), revision=revision_field(made.now.revisions), entries=len(made.entries)
    )
    return path


async def check(run: Run, file: str | None) -> Path:
    """See whether the schema file is what `dump` would write.

    Raises:
        VerificationFailedError: it is stale, or not there (80).
    """
    path = locate(run, file)
    async with _replayed(run) as (scratch, dsn, history):
        reason = await stale(run, scratch, dsn, history, path)
    if reason is not None:
        command = "headstart schema dump" + (f" --file {file}" if file is not None else "")
        raise VerificationFailedError(reason, hint=f"{command}, and commit what it writes")
    run.log.info("schema_file_fresh", file=str(path))
    return path


async def stale(run: Run, scratch: Scratch, dsn: Dsn, history: Replay, path: Path) -> str | None:
    """Why a schema file is not that of the revisions; None if it is.

    Two files that give the same schema are the same, even if another version of pg_dump writes it otherwise.

    Args:
        run: this run.
        scratch: where another database may be made.
        dsn: the scratch database of the replay.
        history: at head.
        path: the file.
    """
    try:
        file = SchemaFile.read(path)
    except SchemaFileError as error:
        return error.message
    made = await make(run, dsn, history)
    reason = file.stale(made.now)
    if reason is None and (found := await _differences(run, scratch, history, made, file.body)):
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")  # noqa: PLR2004  (enough to see what it is)
        reason = f"it differs from what the revisions make: {shown}"
    return None if reason is None else f"the schema file {path} is stale: {reason}"


async def make(run: Run, dsn: Dsn, history: Replay) -> Made:
    """The schema of a replay's database.

    Args:
        run: this run.
        dsn: the scratch database.
        history: brought to where the schema is wanted.
    """
    entries = await dump_entries(run, history.connection, dsn, history.place)
    table = ledger.key(history.place.table, history.place.configured)
    return Made(AtHand(history.recorded, history.applied, table), entries)


async def _differences(run: Run, scratch: Scratch, history: Replay, made: Made, body: str) -> list[str]:
    """What a schema file gives otherwise than the revisions: as text, or else loaded into a database and dumped."""
    found = differing(parse(body), made.entries)
    if not found:
        return []
    async with scratch.database() as dsn:
        connection = await connect(dsn, timeout=10, application_name=run.application_name)
        try:
            script = await connection.prepare(body)
            await script.fetch()
            entries = await dump_entries(run, connection, dsn, history.place)
        except asyncpg.PostgresError:
            return found
        finally:
            await close(connection)
    return differing(entries, made.entries)


@contextlib.asynccontextmanager
async def _replayed(run: Run) -> AsyncIterator[tuple[Scratch, Dsn, Replay]]:
    worker = Worker(cwd=run.cwd, environ=run.environ)
    worker.start()  # it imports while the server is made ready
    async with (
        worker,
        scratch_server(run.settings, log=run.log) as scratch,
        scratch.database() as dsn,
        replay(run, dsn, worker) as history,
    ):
        with run.record.timed(Stage.REPLAY):
            await history.up(run.settings.target)
        yield scratch, dsn, history
