"""The steps of one migration: handed to Alembic one by one, timed, and known well enough to explain a failure."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from headstart.alembic_bridge.workbench import driven_by_asyncpg
from headstart.errors import HeadstartError
from headstart.observe import summary
from headstart.run import AppliedRevision

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from structlog.typing import FilteringBoundLogger

    from headstart.alembic_bridge.workbench import Workbench
    from headstart.ledger.writer import Writer
    from headstart.observe import Activity

RETRIED = {"55P03": "lock_not_available", "40P01": "deadlock_detected", "40001": "serialization_failure"}
"""SQLSTATEs that mean a lost race, after which the same revision may succeed."""

LISTED = 20
"""Statements of one revision that are kept for the report: it may have thousands."""

Executed = Callable[["RevisionStep", str, int | None, bool], None]
"""Told of a statement: the step, its text, the line of the revision's file, whether a transaction was open."""

_READS = re.compile(r"\s*(?:--[^\n]*\n\s*)*(select|show|explain|set|reset|values|table)\b", re.IGNORECASE)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed: what the report is made of."""

    cause: str
    sqlstate: str | None = None
    statement: str | None = None
    position: int | None = None
    location: str | None = None
    detail: str | None = None


class Steps:
    """Hands the steps to Alembic, and remembers which are done and what the current one has already committed.

    Args:
        steps: in the order in which they are run.
        workbench: whose connections do the work.
        activity: told what is being done, for the watcher.
        record: called with each revision after its commit.
        log: gets `revision_applied` or `revision_reverted`.
        executed: told what each step has executed: the step, the statement, the line of the revision's file that did it
            (None where that is not to be seen), and whether a transaction was open.
    """

    def __init__(
        self,
        steps: Sequence[RevisionStep],
        workbench: Workbench,
        activity: Activity,
        record: Callable[[AppliedRevision], None],
        log: FilteringBoundLogger,
        executed: Executed | None = None,
    ) -> None:
        self.steps = list(steps)
        self.done = 0
        self.outside: list[str] = []
        self.on_indexes: list[str] = []
        self._inside: list[str] = []
        self._versioned = False
        self._begun = False
        self._started = 0.0
        self._path = ""
        self._places: list[tuple[str, int | None]] = []
        self._workbench = workbench
        self._activity = activity
        self._record = record
        self._log = log
        self._executed = executed

    @property
    def current(self) -> RevisionStep | None:
        """The first step that is not committed."""
        return self.steps[self.done] if self.done < len(self.steps) else None

    def pending(self) -> tuple[str, ...]:
        """The ids of the revisions that are left."""
        return tuple(revision_of(step) for step in self.steps[self.done :])

    def feed(self, _heads: object, context: MigrationContext) -> Iterator[RevisionStep]:
        """Alembic's `fn`: the steps that are left. What follows a `yield` runs once its step has been committed."""
        connection = context.connection
        assert connection is not None  # noqa: S101  (online)
        if not self._begun:
            self._begun = True
            await_only(self._workbench.connection.watch_role(str(context._version)))  # noqa: SLF001  (the same)
        external = context._in_external_transaction  # noqa: SLF001  (no public way to learn it)
        for step in self.steps[self.done :]:
            self.outside, self._inside, self._versioned = [], [], False
            self._activity.revision = revision_of(step)
            self._path, self._places = str(getattr(step.revision, "path", "")), []
            self._started = time.monotonic()
            yield step
            if external:
                self._commit_underneath(connection)
            self.done += 1
            applied = AppliedRevision(revision=revision_of(step), seconds=round(time.monotonic() - self._started, 3))
            self._record(applied)
            self._activity.revision = None
            self._log.info(
                "revision_applied" if step.is_upgrade else "revision_reverted",
                revision=applied.revision,
                description=step.doc,
                applied_seconds=applied.seconds,
                done=self.done,
                of=len(self.steps),
            )

    @staticmethod
    def _commit_underneath(connection: sqlalchemy.Connection) -> None:
        """Commit a step although env.py wraps all of them in a transaction of its own (`engine.begin()`).

        The server sees COMMIT and BEGIN; SQLAlchemy goes on believing in its one transaction, whose COMMIT
        ends the last.
        """
        raw = driven_by_asyncpg(connection)
        if raw is not None:
            await_only(raw.execute("commit; begin"))
        else:
            connection.exec_driver_sql("commit")
            connection.exec_driver_sql("begin")

    def applied(self, **_: object) -> None:
        """Alembic's `on_version_apply`: the step's work is done, its commit comes next."""
        self._versioned = True

    def record_in(self, ledger: Writer | None, context: MigrationContext) -> None:
        """Let the current step's transaction write its own row, if there is a ledger."""
        step = self.current
        connection = context.connection
        if ledger is None or step is None or connection is None:
            return
        statement = ledger.record(
            "applied" if step.is_upgrade else "reverted",
            revision_of(step),
            follows=step.revision._all_down_revisions,  # noqa: SLF001  (down_revision and depends_on, resolved)
            path=str(getattr(step.revision, "path", "")),
            seconds=round(time.monotonic() - self._started, 3),
        )
        self._workbench.before_commit(context, statement)

    @contextlib.contextmanager
    def noticing(self) -> Iterator[None]:
        """Listen to what every engine executes and commits."""
        listeners: list[tuple[str, Callable[..., None]]] = [
            ("before_cursor_execute", self._before),
            ("after_cursor_execute", self._after),
            ("commit", self._committed),
        ]
        for name, listener in listeners:
            event.listen(Engine, name, listener)
        ours = self._workbench.connection
        pid = ours.get_server_pid()

        def at_work(statement: str | None) -> None:
            if statement is None:
                self._activity.end()
            else:
                self._activity.begin(statement, pid)

        ours.ahead, ours.at_work = True, at_work
        try:
            yield
        finally:
            ours.ahead = False
            for name, listener in listeners:
                event.remove(Engine, name, listener)

    def _before(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        if self._activity.revision is not None:
            self._places = [*self._places[-1:], (statement, self._line())]
        if self._is_ours(connection):
            self._workbench.connection.follows = True  # SQLAlchemy begins a transaction when its first statement comes
        else:  # ours tells by itself when a statement is sent, and when it has ended
            self._activity.begin(statement, self._workbench.pid_of(connection))

    def _after(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        if not self._is_ours(connection):
            self._activity.end()
        if self._activity.revision is None:
            return
        if self._executed is not None and self.current is not None and not self._versioned:
            self._executed(self.current, statement, self._places[-1][1], _in_transaction(connection))
        if _READS.match(statement):
            return
        if "index" in statement.lower():
            self.on_indexes.append(statement)
        if len(self._inside) < LISTED:
            self._inside.append(statement)
        if not _in_transaction(connection):  # in an autocommit_block, or after a COMMIT of the revision's own
            self._all_committed()

    def _is_ours(self, connection: sqlalchemy.Connection) -> bool:
        return driven_by_asyncpg(connection) is self._workbench.connection

    def _line(self) -> int | None:
        """The line of the revision that executes a statement: an error may come to light some statements later."""
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  (inspect.stack reads source files)
        while frame is not None and frame.f_code.co_filename != self._path:
            frame = frame.f_back
        return frame.f_lineno if frame is not None else None

    def _committed(self, _connection: sqlalchemy.Connection) -> None:
        if self._activity.revision is not None and not self._versioned:
            self._all_committed()  # what precedes an autocommit_block is committed by it

    def _all_committed(self) -> None:
        self.outside = [*self.outside, *self._inside][:LISTED]
        self._inside = []

    def failure(self, error: BaseException) -> Failure:
        """Explain what ended the current step."""
        location = self._location(error)
        if isinstance(error, HeadstartError):
            return Failure(cause=error.message, location=location)
        database = _find(error, DBAPIError)
        # What fails on our connection beside SQLAlchemy, in `move` say, comes as the driver raised it.
        original = error if database is None else database.orig
        if database is None and not isinstance(error, asyncpg.PostgresError):
            text = str(error).splitlines()[0] if str(error) else ""
            return Failure(cause=f"{type(error).__name__}: {text}".rstrip(": "), location=location)
        server = getattr(original, "__cause__", None) or original
        diagnostics = getattr(original, "diag", None)
        state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        position = getattr(server, "position", None) or getattr(diagnostics, "statement_position", None)
        statement = database.statement if database is not None else None
        script = self._workbench.connection.last_error
        if script is not None and script.error is server:
            location = self._place_of(script.statement) or location
            statement, position = script.statement, script.position
        cause = getattr(server, "message", None) or getattr(diagnostics, "message_primary", None) or str(original)
        return Failure(
            cause=str(cause).strip().splitlines()[0],
            sqlstate=state,
            statement=summary(statement) if statement else None,
            position=int(position) if position else None,
            location=location,
            detail=getattr(server, "detail", None) or getattr(diagnostics, "message_detail", None),
        )

    def _place_of(self, statement: str) -> str | None:
        lines = [line for text, line in self._places if text == statement and line is not None]
        return f"{self._path}:{lines[-1]}" if lines else None

    def _location(self, error: BaseException) -> str | None:
        """File and line of the revision that the error came through."""
        if self.current is None:
            return None
        path = str(getattr(self.current.revision, "path", ""))
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        return f"{path}:{frames[-1].lineno}" if frames else path or None


def revision_of(step: Any) -> str:  # noqa: ANN401  (RevisionStep has no public name for it)
    """The id of the revision that a step applies or reverts."""
    return str(step.revision.revision)


def _in_transaction(connection: sqlalchemy.Connection) -> bool:
    raw = driven_by_asyncpg(connection)
    if raw is not None:
        return raw.is_in_transaction()
    return not getattr(connection.connection.dbapi_connection, "autocommit", False)


def _find(error: BaseException, kind: type[DBAPIError]) -> DBAPIError | None:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
