"""What the sessions of env.py execute: which statement is at work, for which revision, and what it may commit.

A revision may commit before its end: with an autocommit_block, a COMMIT of its own, or `commit()` of the driver. The
server knows in the end what became of such a transaction, so its id is reported to the supervisor before.

SQLAlchemy manual, 'Core Events': ConnectionEvents. PostgreSQL manual, 'Transaction ID and Snapshot Information
Functions'.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from headstart.history.imports import with_imports
from headstart.sql.script import builds_concurrently
from headstart.worker import effects, sessions
from headstart.worker.messages import Committing, Executed, StatementEnded, StatementStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy

    from headstart.worker.port import Port

BEGINNING = 2_000
"""Characters of a statement that are reported: nobody is shown more."""

# What a revision's source holds, in lower case and with single spaces, where it works on the driver's own connection,
# or has to have the first word in a transaction.
_ON_DRIVER = (b".connection", b"raw_connection", b"dbapi", b"cursor")
_ISOLATES = (
    *(b"transaction_isolation", b"isolation_level", b"set transaction", b"set local transaction", b"set_session"),
    *(b".autocommit =", b".autocommit=", b"set_autocommit", b".read(", b"read_text("),  # SQL from elsewhere, too
)
_PROGRAMS = (b"subprocess", b"os.system", b"popen", b"os.spawn")  # with sessions of their own
_XID = "select pg_catalog.pg_current_xact_id()::pg_catalog.text"
_ASSIGNED_XID = "select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text"
_NEXT_XID = "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text"
_ISOLATION = "show transaction_isolation"
_WRITES = """
select coalesce(pg_catalog.sum(n_tup_ins operator(pg_catalog.+) n_tup_upd operator(pg_catalog.+) n_tup_del), 0)
    ::pg_catalog.text
from pg_catalog.pg_stat_xact_all_tables
"""
_SENT = "headstart_statements"
_NO_LOCK_TIMEOUT = "select pg_catalog.set_config('lock_timeout', '0', false)"
_LOCK_TIMEOUT = "select pg_catalog.current_setting('lock_timeout')"


class Statements:
    """Hears what every engine executes and commits.

    Args:
        port: gets a message for each statement.
        executed: also report each statement of a revision with its full text, after it was executed.

    Attributes:
        executed: how many statements so far.
        revision: at work now; None between two.
        path: its file.
        up: whether it is being applied.
        versioned: the version table says so already: what follows is the commit.
        line: of the revision's file that executed the last statement that has failed.
        unheard: the revision, or what it imports, works on the driver's own connection, and may commit there.
        elsewhere: or it starts a program that may.
    """

    def __init__(self, port: Port, *, executed: bool) -> None:
        self._port = port
        self._reports_executed = executed
        self._sets_first = False
        self._alone = False  # the statement at work is in no transaction
        self._ends = False  # or it ends the one it is in
        self._xid: str | None = None  # of the transaction in which it is, where that was asked
        self._open: dict[int, effects.Executed] = {}  # in the transaction that is open, by backend
        self._writes: dict[int, str | None] = {}  # that it had made when the revision came to it, by backend
        self._lock_timeout: str | None = None
        self.executed = 0
        self.revision: str | None = None
        self.path = ""
        self.up = True
        self.versioned = False
        self.unheard = self.elsewhere = False
        self.line: int | None = None
        _PRESENT[:] = [self]

    def begin(
        self, revision: str, path: str, source: bytes, *, up: bool, connection: sqlalchemy.Connection | None
    ) -> None:
        """A revision begins.

        Args:
            revision: its id.
            path: its file; "" for none.
            source: of that file.
            up: whether it is applied.
            connection: on which Alembic runs it.
        """
        self.revision, self.path, self.up, self.versioned = revision, path, up, False
        self.line = None
        self._open.clear()
        self._writes.clear()
        words = b" ".join(with_imports(source, sys.path).lower().split())
        self.unheard = any(each in words for each in _ON_DRIVER)
        self.elsewhere = any(each in words for each in _PROGRAMS)
        self._sets_first = any(each in words for each in _ISOLATES)  # nothing may be asked before
        if connection is not None and connection.in_transaction():  # env.py's own, or what a revision has left
            self.begun(connection)

    def end(self) -> None:
        """It has ended."""
        self.revision = None

    def since_commit(self, connection: sqlalchemy.Connection) -> int:
        """How many statements env.py has executed in the transaction that is open on a connection."""
        return int(connection.info.get(_SENT, 0))

    def begun(self, connection: sqlalchemy.Connection) -> None:
        """A transaction begins."""
        backend = sessions.backend_of(connection)
        if backend is None or not self.unheard or self._sets_first or not self._at_work:
            return
        dbapi = connection.connection.dbapi_connection
        if asked(dbapi, _ISOLATION) == "read committed":  # in another one, a question would take the snapshot
            self._writes[backend] = asked(dbapi, _WRITES)
            self._committing(connection, backend, _XID)

    def before(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        """A statement is about to go to the server."""
        self.executed += 1
        connection.info[_SENT] = self.since_commit(connection) + 1
        backend = sessions.backend_of(connection)
        if backend is None:
            return
        bare = effects.without_comments(statement)
        since = self._placed(connection, backend, bare) if self._at_work else None
        self._alone = since is not None
        if builds_concurrently(bare):
            dbapi = connection.connection.dbapi_connection
            self._lock_timeout = asked(dbapi, _LOCK_TIMEOUT)
            asked(dbapi, _NO_LOCK_TIMEOUT)
        self._port.send(
            StatementStarted(
                backend=backend,
                statement=bare[:BEGINNING],
                alone=since,
                certain=since is not None and effects.defines(bare),
            )
        )

    @property
    def _at_work(self) -> bool:
        return self.revision is not None and not self.versioned

    def _placed(self, connection: sqlalchemy.Connection, backend: int, statement: str) -> int | None:
        """Give a statement to its transaction; if it has none, and may write, give the next transaction's id."""
        dbapi: Any = connection.connection.dbapi_connection
        first = effects.needs_no_snapshot(statement)
        alone = bool(getattr(dbapi, "autocommit", False))
        if self._has_ended(connection, backend) and not first and not alone:
            asked(dbapi, "select 1")  # which begins another, by some drivers
            alone = not sessions.in_transaction(connection)
        self._ends = effects.ends(statement)
        if alone:
            return (_next_xid(connection) or 1) if effects.may_write(statement) else None
        self._open.setdefault(backend, effects.Executed()).add(statement, statement[:BEGINNING])
        self._xid = None
        if effects.controls(statement):  # what it does after its COMMIT is in a transaction that nobody has seen begin
            since = (_next_xid(connection) or 1) if effects.leaves(statement) else None
            self._committing(connection, backend, _ASSIGNED_XID)
            del self._open[backend]
            return since
        if effects.commits(statement):
            self._committing(connection, backend, _ASSIGNED_XID)
        elif not first and (self.unheard or effects.may_commit(statement)):
            self._committing(connection, backend, _XID)
        return None

    def _has_ended(self, connection: sqlalchemy.Connection, backend: int) -> bool:
        """Whether the transaction of the last statement is over, though SQLAlchemy has not ended it.

        If that statement does not say so, it was ended on the driver's own connection, before its id was asked for.
        """
        if backend not in self._open or sessions.in_transaction(connection):
            return False
        executed = self._open.pop(backend).statements
        if not self._ends:
            if executed and not self.unheard:
                self._port.send(Committing(xid="", statements=executed, unheard=True))
            self.unheard = True
        return True

    def _committing(self, connection: sqlalchemy.Connection, backend: int, query: str) -> None:
        """Tell the id of the transaction that is open: it may be committed now."""
        if not sessions.in_transaction(connection):
            return
        self._xid = asked(connection.connection.dbapi_connection, query)
        if self._xid is not None:
            executed = self._open.get(backend, effects.Executed()).statements
            self._port.send(Committing(xid=self._xid, statements=executed, unheard=self.unheard))

    def after(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        """It has returned."""
        self._ended(connection)
        if self.revision is None or self.versioned:
            return
        if self._reports_executed:
            self._port.send(
                Executed(
                    revision=self.revision,
                    text=statement,
                    path=self.path,
                    line=self._calling_line(),
                    in_transaction=sessions.in_transaction(connection),
                    up=self.up,
                )
            )

    def failed(self, context: Any) -> None:  # noqa: ANN401  (SQLAlchemy's ExceptionContext)
        """It has failed."""
        self.line = self._calling_line()
        if context.connection is not None and not context.is_disconnect:
            nothing_stays = effects.fails_as_one(effects.without_comments(context.statement or ""))
            self._ended(context.connection, rolled_back=nothing_stays)

    def _ended(self, connection: sqlalchemy.Connection, *, rolled_back: bool = False) -> None:
        if sessions.backend_of(connection) is None:
            return
        dbapi: Any = connection.connection.dbapi_connection
        until, alone, self._alone = None, self._alone, False
        if alone and not rolled_back and not sessions.in_transaction(connection):
            until = _next_xid(connection)
        self._port.send(StatementEnded(until=until, rolled_back=rolled_back))
        before, self._lock_timeout = self._lock_timeout, None
        if before is not None and not sessions.in_transaction(connection):  # a rollback would put it back, too
            asked(dbapi, f"select pg_catalog.set_config('lock_timeout', '{before}', false)")

    def committed(self, connection: sqlalchemy.Connection) -> None:
        """A transaction is about to be committed."""
        connection.info.pop(_SENT, None)
        backend = sessions.backend_of(connection)
        if not self._at_work or backend is None or not sessions.in_transaction(connection):
            return
        self._committing(connection, backend, _ASSIGNED_XID)  # what precedes an autocommit_block is committed by it
        if self.unheard and self._xid is not None:
            writes = asked(connection.connection.dbapi_connection, _WRITES)
            if writes == self._writes.get(backend):  # it has an id because we have asked
                self._port.send(Committing(xid=self._xid, statements=None, unheard=True))
        self._open.pop(backend, None)

    def rolled_back(self, connection: sqlalchemy.Connection) -> None:
        """A transaction is about to be rolled back."""
        if connection.invalidated:  # with its session it has ended
            return
        connection.info.pop(_SENT, None)
        backend = sessions.backend_of(connection) or 0
        if self._at_work:
            self._has_ended(connection, backend)
        self._open.pop(backend, None)

    def _calling_line(self) -> int | None:
        """The line of the revision's file that executes a statement."""
        frame: FrameType | None = sys._getframe()  # noqa: SLF001  (inspect.stack reads source files)
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


def _next_xid(connection: sqlalchemy.Connection) -> int | None:
    """The id that the server gives next; None if it does not say. A session in no transaction is in none after it."""
    dbapi: Any = connection.connection.dbapi_connection
    idle = not sessions.in_transaction(connection)
    found = int(asked(dbapi, _NEXT_XID) or 0) or None
    if idle and sessions.in_transaction(connection):
        with contextlib.suppress(Exception):  # what env.py executes next says so
            dbapi.rollback()
    return found


def asked(dbapi: Any, query: str) -> str | None:  # noqa: ANN401  (of any driver)
    """The one value of a query of ours, a text, by a cursor of its own beside SQLAlchemy's; None where there is none.

    In a transaction that has failed there is none, nor in a session that is lost: what env.py executes next says so.
    """
    with contextlib.suppress(Exception), contextlib.closing(dbapi.cursor()) as cursor:
        cursor.execute(query)
        value: str | None = cursor.fetchone()[0]
        return value
    return None


event.listen(Engine, "begin", _heard("begun"))
event.listen(Engine, "before_cursor_execute", _heard("before"))
event.listen(Engine, "after_cursor_execute", _heard("after"))
event.listen(Engine, "handle_error", _heard("failed"))
event.listen(Engine, "commit", _heard("committed"))
event.listen(Engine, "rollback", _heard("rolled_back"))
event.listen(Pool, "reset", _returned)
