"""Writes the ledger's rows on env.py's own session, in the transaction that Alembic has open."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from headstart.ledger.writer import SAVEPOINT, Writer
from headstart.postgres.version_table import Place
from headstart.worker import failure, sessions
from headstart.worker.messages import Logged

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

    from headstart.worker import tasks
    from headstart.worker.port import Port


def writer_of(given: tasks.Ledger | None, place: Place) -> Writer | None:
    """What makes the rows that a task asks for; None if it asks for none."""
    if given is None:
        return None
    writer = Writer(given.history, run_id=given.run_id, image=given.image, backup=given.backup, version_table=place.oid)
    writer.there = given.there
    return writer


def record(context: MigrationContext, rows: tuple[str, ...], port: Port) -> bool:
    """Write to the ledger in the transaction that Alembic has open; give whether it could be done.

    Role and session are the user's by then: they may keep the rows out. If env.py has ended the transaction by itself,
    the rows get one of their own.
    """
    assert context.connection is not None  # noqa: S101  (online)
    dbapi: Any = context.connection.connection.dbapi_connection
    inside = sessions.in_transaction(context.connection)
    try:
        if inside:
            _execute(dbapi, f"savepoint {SAVEPOINT}", *rows, f"release savepoint {SAVEPOINT}")
        else:
            _execute(dbapi, *rows)
            dbapi.commit()
    except Exception as error:  # noqa: BLE001  (any driver's)
        _take_back(dbapi, error, inside=inside)
        port.send(Logged(level="info", event="ledger_refused", fields={"cause": failure.first_line(error)}))
        return False
    return True


def _take_back(dbapi: Any, error: Exception, *, inside: bool) -> None:  # noqa: ANN401  (of any driver)
    """Go on as if the rows had not been tried; where that fails, the transaction had failed before."""
    try:
        if inside:
            _execute(dbapi, f"rollback to savepoint {SAVEPOINT}", f"release savepoint {SAVEPOINT}")
        else:
            dbapi.rollback()
    except Exception:  # noqa: BLE001  (any driver's)
        raise error from None


def _execute(dbapi: Any, *statements: str) -> None:  # noqa: ANN401  (of any driver)
    """Run statements of ours beside SQLAlchemy."""
    if sessions.is_asyncpg(dbapi):  # past the cursor that SQLAlchemy puts before it, and in one round trip
        dbapi.run_async(lambda connection: connection.execute(";\n".join(statements)))
        return
    with contextlib.closing(dbapi.cursor()) as cursor:
        for each in statements:
            cursor.execute(each)
