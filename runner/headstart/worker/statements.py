"""What the sessions of env.py execute: which statement is at work, for which revision, and what it may commit.

A revision may commit before its end: with an autocommit_block, a COMMIT of its own, or `commit()` of the driver. The
server says in the end what became of such a transaction, so the supervisor is told its id before.

SQLAlchemy manual, 'Core Events': ConnectionEvents. PostgreSQL manual, 'Transaction ID and Snapshot Information
Functions'.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from headstart.observe import cut, summary
from headstart.sqlscript import builds_concurrently
from headstart.worker import sessions
from headstart.worker.messages import Committing, Executed, StatementEnded, StatementStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy

    from headstart.worker.tasks import Port

LISTED = 20
"""Statements of one revision that are kept: it may have thousands."""
SHOWN = 300
"""Characters of a statement that is shown among others."""

_START = r"\s*(?:--[^\n]*\n\s*|/\*(?:[^*]|\*(?!/))*\*/\s*)*"
_READS = re.compile(_START + r"(select|show|explain|set|reset|values|table)\b", re.IGNORECASE)
# No question may come before these: SET TRANSACTION has to be first, and LOCK before the transaction's first snapshot.
_BEFORE_SNAPSHOT = re.compile(_START + r"(set|show|reset|lock|savepoint)\b", re.IGNORECASE)
_COMMITS = re.compile(_START + r"(commit|end)\b", re.IGNORECASE)
_MAY_COMMIT = re.compile(r"\b(commit|end|rollback|abort)\b", re.IGNORECASE)  # somewhere in a script
_ROLLS_BACK = re.compile(_START + r"(rollback|abort)\b", re.IGNORECASE)
_SAVEPOINT = re.compile(_START + r"savepoint\s+([^\s;]+)", re.IGNORECASE)
_RELEASES = re.compile(_START + r"release\s+(?:savepoint\s+)?([^\s;]+)", re.IGNORECASE)
_ROLLS_BACK_TO = re.compile(_START + r"rollback\s+(?:\w+\s+)?to\s+(?:savepoint\s+)?([^\s;]+)", re.IGNORECASE)
_IN_STEPS = re.compile(_START + r"(call|do)\b", re.IGNORECASE)  # a procedure may commit before it fails
_ON_DRIVER = re.compile(rb"\.connection\b|raw_connection|dbapi|cursor")
_ISOLATES = re.compile(rb"transaction_isolation|set\s+(local\s+)?transaction|isolation_level", re.IGNORECASE)
_IMPORTED = re.compile(rb"\b(?:from\s+([\w.]+)\s+import|import\s+([\w.]+(?:\s*,\s*[\w.]+)*))")
_CONTROLS = re.compile(
    _START + r"(show|set|reset|lock|release|begin|start|commit|end|rollback|abort|vacuum|analyze)\b[^;]*;?\s*",
    re.IGNORECASE,
)
_MAY_WRITE = re.compile(r"\(|\binto\b|\banalyze\b", re.IGNORECASE)
_KNOWN = sys.stdlib_module_names | {"alembic", "sqlalchemy"}

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
        port: is told which statement is at work.
        whole: each statement of a revision is reported as it is, after it was executed.

    Attributes:
        revision: at work now; None between two.
        path: its file.
        up: whether it is being applied.
        versioned: the version table says so already: what follows is the commit.
        on_indexes: those that name an index.
        line: of the revision's file that executed the last statement.
        unheard: the revision, or what it imports, works on the driver's own connection, and may commit there.
        error: the last that a statement raised, and who swallows it has to answer for it.
    """

    def __init__(self, port: Port, *, whole: bool) -> None:
        self._port = port
        self._whole = whole
        self._sets_first = False
        self._alone = False  # the statement at work is in no transaction
        self._xid: str | None = None  # of the transaction in which it is, where that was asked
        self._open: dict[int, list[str]] = {}  # what was executed in the transaction that is open, by backend
        self._writes: dict[int, str | None] = {}  # that it had made when the revision came to it, by backend
        self._savepoints: list[tuple[int, str, int]] = []  # backend, name, how much had been executed then
        self._lock_timeout: str | None = None
        self.revision: str | None = None
        self.path = ""
        self.up = True
        self.versioned = False
        self.unheard = False
        self.on_indexes: list[str] = []
        self.line: int | None = None
        self.error: BaseException | None = None
        _PRESENT[:] = [self]

    def begin(self, revision: str, path: str, *, up: bool, connection: sqlalchemy.Connection | None) -> None:
        """A revision begins.

        Args:
            revision: its id.
            path: its file; "" for none.
            up: whether it is applied.
            connection: on which Alembic runs it.
        """
        self.revision, self.path, self.up, self.versioned = revision, path, up, False
        self.on_indexes, self.line, self.error = [], None, None
        self._open.clear()
        self._writes.clear()
        self._savepoints.clear()
        source = _with_what_it_imports(Path(path).read_bytes()) if path else b""
        self.unheard = _ON_DRIVER.search(source) is not None
        self._sets_first = _ISOLATES.search(source) is not None  # nothing may be asked before
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
        connection.info[_SENT] = self.since_commit(connection) + 1
        if self.revision is not None:
            self.line = self._calling_line()
        backend = sessions.backend_of(connection)
        if backend is not None:
            told = summary(statement)
            since = self._placed(connection, backend, statement, told) if self._at_work else None
            self._alone = since is not None
            if builds_concurrently(statement):
                dbapi = connection.connection.dbapi_connection
                self._lock_timeout = asked(dbapi, _LOCK_TIMEOUT)
                asked(dbapi, _NO_LOCK_TIMEOUT)
            self._port.send(StatementStarted(backend=backend, statement=told, alone=since))

    @property
    def _at_work(self) -> bool:
        return self.revision is not None and not self.versioned

    def _placed(self, connection: sqlalchemy.Connection, backend: int, statement: str, told: str) -> int | None:
        """Give a statement to its transaction; if it has none, give the next transaction's id."""
        dbapi: Any = connection.connection.dbapi_connection
        first = _BEFORE_SNAPSHOT.match(statement) is not None
        alone = bool(getattr(dbapi, "autocommit", False))
        if backend in self._open and not sessions.in_transaction(connection):  # ended behind SQLAlchemy's back
            del self._open[backend]
            if not first and not alone:
                asked(dbapi, "select 1")  # which begins another, by some drivers
                alone = not sessions.in_transaction(connection)
        if alone:
            return int(asked(dbapi, _NEXT_XID) or 1)
        self._executing(backend, told)
        self._xid = None
        if _COMMITS.match(statement):
            self._committing(connection, backend, _ASSIGNED_XID)
        elif not first and (self.unheard or _MAY_COMMIT.search(statement)) and not _ROLLS_BACK.match(statement):
            self._committing(connection, backend, _XID)
        return None

    def _executing(self, backend: int, statement: str) -> None:
        """Note a statement among those of its transaction, if it may write."""
        executed = self._open.setdefault(backend, [])
        if (made := _SAVEPOINT.match(statement)) is not None:
            self._savepoints.append((backend, made[1].lower(), len(executed)))
        elif (released := _RELEASES.match(statement)) is not None:
            del self._savepoints[self._savepoint(backend, released[1]) :]
        elif (taken := _ROLLS_BACK_TO.match(statement)) is not None:
            at = self._savepoint(backend, taken[1])
            del self._savepoints[at + 1 :]
            del executed[self._savepoints[at][2] if at < len(self._savepoints) else len(executed) :]
        elif _CONTROLS.fullmatch(statement) or (_READS.match(statement) and not _MAY_WRITE.search(statement)):
            return
        elif len(executed) < LISTED:
            executed.append(cut(statement, SHOWN))
        elif len(executed) == LISTED:
            executed.append("others after these")

    def _savepoint(self, backend: int, name: str) -> int:
        """Which of the savepoints is meant: the last of that name."""
        found = [at for at, each in enumerate(self._savepoints) if each[:2] == (backend, name.lower())]
        return found[-1] if found else len(self._savepoints)

    def _committing(self, connection: sqlalchemy.Connection, backend: int, query: str) -> None:
        """Tell the id of the transaction that is open: it may be committed now."""
        self._xid = asked(connection.connection.dbapi_connection, query)
        if self._xid is not None and sessions.in_transaction(connection):
            executed = tuple(self._open.get(backend, ()))
            self._port.send(Committing(xid=self._xid, statements=executed, unheard=self.unheard))

    def after(self, connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        """It has returned."""
        self._ended(connection)
        if self.revision is None or self.versioned:
            return
        inside = sessions.in_transaction(connection)
        backend = sessions.backend_of(connection)
        if inside and self._xid is not None and backend in self._open:
            if asked(connection.connection.dbapi_connection, _ASSIGNED_XID) != self._xid:  # `commit; begin` in one
                del self._open[backend]
            self._xid = None
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
        if "index" in statement.lower() and len(self.on_indexes) < LISTED and not _READS.match(statement):
            self.on_indexes.append(statement)

    def failed(self, context: Any) -> None:  # noqa: ANN401  (SQLAlchemy's ExceptionContext)
        """It has failed."""
        self.error = context.sqlalchemy_exception or context.original_exception
        if context.connection is not None and not context.is_disconnect:
            text = (context.statement or "").strip().rstrip(";")
            in_steps = _IN_STEPS.match(text)
            whole = (
                ";" not in text if in_steps is None else in_steps[1].lower() == "do" and "commit" not in text.lower()
            )
            self._ended(context.connection, rolled_back=whole)

    def _ended(self, connection: sqlalchemy.Connection, *, rolled_back: bool = False) -> None:
        if sessions.backend_of(connection) is None:
            return
        dbapi: Any = connection.connection.dbapi_connection
        until, alone, self._alone = None, self._alone, False
        if alone and not rolled_back and not sessions.in_transaction(connection):
            until = int(asked(dbapi, _NEXT_XID) or 0) or None
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
        connection.info.pop(_SENT, None)
        self._open.pop(sessions.backend_of(connection) or 0, None)

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


def _with_what_it_imports(source: bytes) -> bytes:
    """The text of a revision and of the modules that it imports, the libraries' apart."""
    named = {
        name.strip().decode()
        for one, several in _IMPORTED.findall(source)
        for name in (one or several).split(b",")
        if name.strip().partition(b".")[0].decode() not in _KNOWN
    }
    files = (file for name in named for file in _files_of(name) if file.is_file())
    return b"\n".join([source, *(file.read_bytes() for file in files)])


def _files_of(module: str) -> list[Path]:
    """Where the source of a module may be. It may not have been imported yet."""
    top, *below = module.split(".")
    with contextlib.suppress(Exception):  # whatever the project has among its finders
        spec = importlib.util.find_spec(top)
        if spec is not None and not below:
            return [Path(spec.origin or "")]
        folders = [] if spec is None else spec.submodule_search_locations or []
        return [Path(f"{Path(each, *below)}{end}") for each in folders for end in (".py", "/__init__.py")]
    return []


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
