"""The schema file: what `schema dump` has written is loaded into an empty database, in one transaction, and recorded.

Its first lines say what it is of: the revisions at head, and a digest of all the revision files that lead to them. A
file is used where they are those at hand, and its own text is as it was written; anything else is refused, with the
reason. A revision file that was only formatted or commented counts as the same (`ledger.fingerprint`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import msgspec

from headstart import ledger
from headstart.errors import ConfigurationError, MigrationFailedError, VerificationFailedError
from headstart.history.graph import Revision, spell
from headstart.history.plan import decide
from headstart.ledger.fingerprint import fingerprint
from headstart.ledger.state import prepare
from headstart.ledger.writer import Writer, complete
from headstart.postgres import catalog
from headstart.postgres.activity import SPEAK, summary
from headstart.postgres.lock import WORK, stop_if_lost
from headstart.postgres.script_run import failure_of
from headstart.postgres.server import close, connect, first_line, literal, prepare_session
from headstart.postgres.version_table import find_version_table, recorded_revisions, require_write_privilege
from headstart.steps import backup
from headstart.steps.compare import Undetermined
from headstart.steps.run import Run

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.readiness import Ready
    from headstart.steps.compare import Comparison

_TITLE: Final = "-- The schema at head, written by `headstart schema dump`. Not to be edited: write it anew."
_FORMAT: Final = "1"
_LINE = re.compile(r"-- ([a-z ]+): (.*)")
_IN_THE_WAY = ("table ", "foreign table ", "view ", "materialized view ", "sequence ")


class SchemaFileError(ConfigurationError):
    """The schema file cannot be used. The message is the reason."""


class AtHand(NamedTuple):
    """What an empty database records once it is at the target, the files that lead there, and where it is recorded."""

    revisions: tuple[str, ...]
    files: list[Revision]
    version_table: str | None


class SchemaFile(msgspec.Struct, frozen=True, kw_only=True):
    """A schema file.

    Args:
        revisions: what the version table holds at head.
        version_table: the project's, as the ledger names it (`ledger.key`).
        history: digest of the revision files.
        meaning: digest of what they do, whatever they look like.
        body: the SQL, which psql runs too.
    """

    revisions: tuple[str, ...]
    version_table: str
    history: str
    meaning: str
    body: str

    @classmethod
    def of(cls, body: str, now: AtHand) -> SchemaFile:
        """The file for a schema and the revisions that make it, whose version table is known."""
        return cls(
            revisions=tuple(sorted(now.revisions)),
            version_table=now.version_table or "",
            history=_history(now.files),
            meaning=_meaning(now.files),
            body=body,
        )

    @property
    def place(self) -> tuple[str, str | None]:
        """The version table's name, and its schema where env.py gives one."""
        schema, _, table = self.version_table.rpartition(".")
        return table, schema or None

    def __str__(self) -> str:
        fields = {
            "format": _FORMAT,
            "revision": ", ".join(self.revisions),
            "version table": self.version_table,
            "history": self.history,
            "meaning": self.meaning,
            "body": _sha256(self.body),
        }
        return "\n".join([_TITLE, *(f"-- {name}: {value}" for name, value in fields.items()), "", self.body])

    @classmethod
    def read(cls, path: Path) -> SchemaFile:
        """Read a file.

        Raises:
            SchemaFileError: there is none, it is none of ours, or it is not as it was written (10).
        """
        hint = "write it with `headstart schema dump`"
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            raise SchemaFileError(f"there is no schema file {path}", hint=hint) from None
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "not UTF-8"
            raise SchemaFileError(f"the schema file {path} cannot be read: {cause}", hint=hint) from None
        head, _, body = text.partition("\n\n")
        fields = {match[1]: match[2] for match in map(_LINE.fullmatch, head.splitlines()) if match}
        try:
            found = cls(
                revisions=tuple(filter(None, fields["revision"].split(", "))),
                version_table=fields["version table"],
                history=fields["history"],
                meaning=fields["meaning"],
                body=body,
            )
            written, form = fields["body"], fields["format"]
        except KeyError:
            raise SchemaFileError(f"{path} is no schema file of Headstart's", hint=hint) from None
        if form != _FORMAT:
            raise SchemaFileError(f"the schema file {path} has format {form}, this is for {_FORMAT}", hint=hint)
        if written != _sha256(body):
            cause = "is not as it was written: it was edited, merged, or got other line ends"
            raise SchemaFileError(f"the schema file {path} {cause}", hint=hint)
        return found

    def stale(self, now: AtHand) -> str | None:
        """Why it is not the schema of the revisions at hand; None if it is."""
        if now.version_table not in {None, self.version_table}:
            return f"it has the version table {self.version_table}, and env.py has {now.version_table}"
        head = tuple(sorted(now.revisions))
        if self.revisions != head:
            return f"it is of revision {', '.join(self.revisions) or 'base'}, and head is {', '.join(head) or 'base'}"
        if self.history != _history(now.files) and self.meaning != _meaning(now.files):
            return f"revisions up to {', '.join(head)} were edited, added or removed since it was written"
        return None

    def require_fresh(self, now: AtHand, path: Path) -> None:
        """Refuse a file that is not of the revisions at hand.

        Raises:
            SchemaFileError: with the reason (10).
        """
        reason = self.stale(now)
        if reason is not None:
            hint = "write it with `headstart schema dump`"
            raise SchemaFileError(f"the schema file {path} is stale: {reason}", hint=hint)


def _history(files: Iterable[Revision]) -> str:
    return _sha256("\n".join(sorted(f"{each.id} {each.sha256}" for each in files)))


def _meaning(files: Iterable[Revision]) -> str:
    return _sha256("\n".join(sorted(f"{each.id} {fingerprint(Path(each.path).read_bytes())}" for each in files)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def at_hand(run: Run, history: History) -> AtHand:
    """What a schema file has to be of.

    Raises:
        BrokenHistoryError: the files are no history, or have several heads (70).
        ConfigurationError: only Alembic knows where the target is (10).
    """
    (project, graph), target = history, run.settings.target
    table = ledger.key(project.version_table, project.version_schema) if project.conclusive else None
    plan = decide((), graph, target) if graph is not None else None
    if graph is not None and plan is not None:
        return AtHand(plan.after, [graph.revisions[i] for i in plan.pending], table)
    if target not in {"head", "heads"}:
        raise ConfigurationError(f"a schema file is of head, not of {target!r}", hint="leave HEADSTART_TARGET out")
    from headstart.steps.describe import describe
    from headstart.worker.supervise import Worker

    async with Worker(cwd=run.cwd, environ=run.environ) as worker:
        described = await describe(run, worker, project)
    return AtHand(described.heads, described.below(described.heads), table)


async def in_the_way(connection: ScriptConnection, version_table: str) -> list[str]:
    """The tables, views and sequences of a database that is not empty; nothing of the version table."""
    found = await catalog.read(connection, passing_over=(version_table,))
    return [what for what in found if what.startswith(_IN_THE_WAY)]


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
        raise ConfigurationError(f"the database is at {spell(recorded)}")
    await require_empty(ready.connection, file.version_table)
    return file, now


async def require_empty(connection: ScriptConnection, version_table: str) -> None:
    """Refuse a database with tables.

    Raises:
        ConfigurationError: it names some of them (10).
    """
    taken = await in_the_way(connection, version_table)
    if taken:
        hint = "`headstart up` migrates it; `headstart adopt` takes over a database that others have made"
        raise ConfigurationError(f"the database is not empty: it holds {_listed(taken)}", hint=hint)


def _listed(names: list[str]) -> str:
    shown = 5
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


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
    run.found(())
    with run.timed("upgrade"):
        writer = None
        if await prepare(connection, mode=run.settings.ledger, log=run.log, version_table=file.version_table):
            writer = Writer(file.version_table, run_id=run.run_id, image=run.settings.image, backup=run.backup)
        run.log.info("schema_loading", file=str(path), revision=spell(file.revisions))
        async with _session(run, ready) as session, _speaking(run, session):
            try:
                async with session.transaction():
                    await _fill(session, file, files, writer)
                    run.after = None  # until the server has answered the COMMIT
            except asyncpg.PostgresError as error:
                raise _failed(error, path) from error
        run.after = file.revisions
        if writer is not None:
            await complete(connection, run.run_id, expected=len(files), log=run.log, version_table=file.version_table)
    run.log.info("schema_loaded", revision=spell(file.revisions), revisions=len(files), file=str(path))


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
            f"the database is at {spell(found)} instead of {spell(file.revisions)}; nothing of it was kept",
            hint="see whether the role's search_path leads to the schema of the version table",
        )


def _failed(error: asyncpg.PostgresError, path: Path) -> MigrationFailedError:
    """What the server said, and to which statement."""
    failure = failure_of(error)
    at = f": {summary(failure.statement)}" if failure is not None else ""
    return MigrationFailedError(
        f"the schema file {path} failed ({error.sqlstate}): {first_line(error)}{at}; nothing of it was kept",
        hint="see what the database or role lacks (a role, an extension, a privilege), or run the revisions one by one:"
        " `headstart up` without HEADSTART_SCHEMA_FILE",
        sqlstate=error.sqlstate,
    )


@contextlib.asynccontextmanager
async def _session(run: Run, ready: Ready) -> AsyncIterator[ScriptConnection]:
    """A session for the file. It has the lock's second key: if the lock is lost, nobody gets in before it ends.

    Raises:
        InterruptedMigrationError: the lock's session was lost meanwhile (63); nothing is kept.
    """
    session = await connect(ready.dsn, timeout=10, application_name=run.application_name)
    try:
        await prepare_session(
            session,
            lock_timeout=run.settings.table_lock_timeout,
            statement_timeout=run.settings.statement_timeout,
            log=run.log,
        )
        await session.fetchval("select pg_catalog.pg_try_advisory_lock_shared($1)", WORK)
        async with stop_if_lost(ready.connection):
            yield session
    finally:
        await close(session)


@contextlib.asynccontextmanager
async def _speaking(run: Run, connection: ScriptConnection) -> AsyncIterator[None]:
    async def speak() -> None:
        while True:
            await asyncio.sleep(SPEAK)
            at, of = connection.progress or (0, 0)
            run.log.info("schema_loading", statement=at, statements=of)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
