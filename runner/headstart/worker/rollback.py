"""Sessions in which env.py is only asked: what it writes is rolled back at their end.

Such a session is read only, but for the transactions that SQLAlchemy begins there. These may write, and are not
committed once they have written: env.py goes on in the same transaction, and sees what it has made. So an env.py that
makes its schema, or counts its runs, can be asked without its leaving anything. What ends its transactions by itself,
or writes where there is none (AUTOCOMMIT, the driver's own cursor), is refused.

SQLAlchemy manual, 'Core Internals': Dialect.do_commit. PostgreSQL manual, 'SET TRANSACTION'.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine, TwoPhaseTransaction
from sqlalchemy.pool import Pool

from headstart.errors import EnvironmentWritesError
from headstart.worker import effects, sessions
from headstart.worker.statements import asked

if TYPE_CHECKING:
    import sqlalchemy

_WRITABLE: Final = "set transaction read write"
_ASSIGNED_XID: Final = "select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text"

_MENDED: weakref.WeakSet[Any] = weakref.WeakSet()  # dialects


def prepare(dialect: Any, *_: object) -> None:  # noqa: ANN401  (any)
    """SQLAlchemy is about to connect: from now on have this dialect's commits looked at."""
    if dialect.name != "postgresql" or dialect in _MENDED:
        return
    _MENDED.add(dialect)
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:  # noqa: ANN401  (SQLAlchemy's own for the pool's)
        rolled_back = sessions.rolls_back() and sessions.backend_of(connection) is not None
        if rolled_back and (sessions.is_withheld(connection) or asked(connection.dbapi_connection, _ASSIGNED_XID)):
            sessions.withhold(connection)
        else:
            commit(connection)

    dialect.do_commit = do_commit  # an attribute of the instance: SQLAlchemy's Connection and pool look it up


def begin(connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
    """A statement is about to go to the server.

    Raises:
        EnvironmentWritesError: it would end the transaction.
    """
    if sessions.rolls_back() and sessions.backend_of(connection) is not None:
        bare = effects.without_comments(statement)
        if effects.commits(bare) or effects.controls(bare):
            raise EnvironmentWritesError("env.py writes to the database: it executes a COMMIT of its own")
        make_writable(connection)


def make_writable(connection: sqlalchemy.Connection) -> None:
    """Before the first statement of a transaction, ours or env.py's: it may write."""
    if not sessions.rolls_back() or sessions.backend_of(connection) is None or sessions.commits_each(connection):
        return
    two_phase = isinstance(connection.get_transaction(), TwoPhaseTransaction)
    if not (two_phase or sessions.is_withheld(connection) or sessions.in_driver_transaction(connection)):
        dbapi: Any = connection.connection.dbapi_connection
        with contextlib.closing(dbapi.cursor()) as cursor:
            cursor.execute(_WRITABLE)


event.listen(Engine, "do_connect", prepare)
event.listen(Engine, "before_cursor_execute", begin)
event.listen(Engine, "rollback", sessions.forget)
event.listen(Pool, "reset", lambda _dbapi, record, _state: sessions.forget(record))
