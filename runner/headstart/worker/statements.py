"""What the sessions of env.py execute: which statement is at work, for which revision, and what has been committed.

SQLAlchemy manual, 'Core Events': ConnectionEvents.
"""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from headstart.observe import summary
from headstart.sqlscript import builds_concurrently
from headstart.worker import sessions
from headstart.worker.messages import Executed, StatementEnded, StatementStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy

    from headstart.worker.tasks import Port

LISTED = 20
"""Statements of one revision that are kept for the report: it may have thousands."""

_READS = re.compile(r"\s*(?:--[^\n]*\n\s*)*(select|show|explain|set|reset|values|table)\b", re.IGNORECASE)
_SENT = "headstart_statements"
_NO_LOCK_TIMEOUT = "select pg_catalog.set_config('lock_timeout', '0', false)"
_LOCK_TIMEOUT = "select pg_catalog.current_setting('lock_timeout')"


class Statements:
    """Hears what every engine executes and commits.

    Args:
        port: is told which statement is at work.
        whole: each statement of a revision is reported as it is, after it was executed.

    Attributes:
        revision: at work now; None between two.
        path: its file.
        up: whether it is being applied.
        versioned: the version table says so already: what follows is the commit.
        outside: statements of it that have been committed by themselves.
        on_indexes: those that name an index.
        line: of the revision's file that executed the last statement.
        error: the last that a statement raised, and who swallows it has to answer for it.
    """

    def __init__(self, port: Port, *, whole: bool) -> None:
        self._port = port
        self._whole = whole
        self._inside: list[str] = []
        self._lock_timeout: str | None = None
        self.revision: str | None = None
        self.path = ""
        self.up = True
        self.versioned = False
        self.outside: list[str] = []
        self.on_indexes: list[str] = []
        self.line: int | None = None
        self.error: BaseException | None = None
        _PRESENT[:] = [self]

    def begin(self, revision: str, path: str, *, up: bool) -> None:
        """A revision begins."""
        self.revision, self.path, self.up, self.versioned = revision, path, up, False
        self.outside, self._inside, self.on_indexes, self.line, self.error = [], [], [], None, None

    def end(self) -> None:
        """It has ended."""
        self.revision = None

    def since_commit(self, connection: sqlalchemy.Connection) -> int:
        """How many statements env.py has executed in the transaction that is open on a connection."""
        return int(connection.info.get(_SENT, 0))

    def before(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        """A statement is about to go to the server."""
        connection.info[_SENT] = self.since_commit(connection) + 1
        if self.revision is not None:
            self.line = self._calling_line()
        backend = sessions.backend_of(connection)
        if backend is not None:
            if builds_concurrently(statement):
                dbapi = connection.connection.dbapi_connection
                self._lock_timeout = _asked(dbapi, _LOCK_TIMEOUT)
                _asked(dbapi, _NO_LOCK_TIMEOUT)
            self._port.send(StatementStarted(backend=backend, statement=summary(statement)))

    def after(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        """It has returned."""
        self._ended(connection)
        if self.revision is None or self.versioned:
            return
        inside = sessions.in_transaction(connection)
        if self._whole:
            self._port.send(
                Executed(
                    revision=self.revision,
                    text=statement,
                    path=self.path,
                    line=self.line,
                    in_transaction=inside,
                    up=self.up,
                )
            )
        if _READS.match(statement):
            return
        if "index" in statement.lower() and len(self.on_indexes) < LISTED:
            self.on_indexes.append(statement)
        if len(self._inside) < LISTED:
            self._inside.append(statement)
        if not inside:  # in an autocommit_block, or after a COMMIT of the revision's own
            self._all_committed()

    def failed(self, context: Any) -> None:  # noqa: ANN401  (SQLAlchemy's ExceptionContext)
        """It has failed."""
        self.error = context.sqlalchemy_exception or context.original_exception
        if context.connection is not None and not context.is_disconnect:
            self._ended(context.connection)

    def _ended(self, connection: sqlalchemy.Connection) -> None:
        if sessions.backend_of(connection) is None:
            return
        self._port.send(StatementEnded())
        before, self._lock_timeout = self._lock_timeout, None
        if before is not None and not sessions.in_transaction(connection):  # a rollback would put it back, too
            dbapi = connection.connection.dbapi_connection
            _asked(dbapi, f"select pg_catalog.set_config('lock_timeout', '{before}', false)")

    def committed(self, connection: sqlalchemy.Connection) -> None:
        """A transaction is about to be committed."""
        connection.info.pop(_SENT, None)
        if self.revision is not None and not self.versioned:
            self._all_committed()  # what precedes an autocommit_block is committed by it

    def rolled_back(self, connection: sqlalchemy.Connection) -> None:
        """A transaction is about to be rolled back."""
        connection.info.pop(_SENT, None)

    def _all_committed(self) -> None:
        self.outside = [*self.outside, *self._inside][:LISTED]
        self._inside = []

    def _calling_line(self) -> int | None:
        """The line of the revision's file that executes a statement."""
        frame: FrameType | None = sys._getframe(3)  # noqa: SLF001  (inspect.stack reads source files)
        while frame is not None and frame.f_code.co_filename != self.path:
            frame = frame.f_back
        return frame.f_lineno if frame is not None else None


_PRESENT: list[Statements] = []


def _heard(name: str) -> Callable[..., None]:
    """A listener that lives as long as the process, and tells what the present task's `Statements` is to know."""

    def listener(*args: Any) -> None:  # noqa: ANN401  (SQLAlchemy's own)
        for each in _PRESENT:
            getattr(each, name)(*args)

    return listener


def _returned(_dbapi: object, record: Any, _state: object) -> None:  # noqa: ANN401  (SQLAlchemy's own)
    """A connection goes back to its pool, and whatever was open on it ends."""
    record.info.pop(_SENT, None)


def _asked(dbapi: Any, query: str) -> str:  # noqa: ANN401  (of any driver)
    """The one value of a query of ours, by a cursor of its own beside SQLAlchemy's."""
    cursor = dbapi.cursor()
    try:
        cursor.execute(query)
        return str(cursor.fetchone()[0])
    finally:
        cursor.close()


event.listen(Engine, "before_cursor_execute", _heard("before"))
event.listen(Engine, "after_cursor_execute", _heard("after"))
event.listen(Engine, "handle_error", _heard("failed"))
event.listen(Engine, "commit", _heard("committed"))
event.listen(Engine, "rollback", _heard("rolled_back"))
event.listen(Pool, "reset", _returned)
