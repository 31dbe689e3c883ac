"""The settings of the session in which revisions run: they hold again for the next one after one that changes them.

`RESET ALL`, `DISCARD ALL` and the head of each file of pg_dump's (`SET lock_timeout = 0`) last longer than the revision
that executes them. PostgreSQL manual, 'SET'.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

from headstart.postgres.server import literal
from headstart.worker import sessions

if TYPE_CHECKING:
    import sqlalchemy

_MAY_CHANGE: Final = re.compile(r"_timeout\b|\b(?:reset|discard)\b", re.IGNORECASE)
_CHANGED: Final = "headstart_settings_changed"

_READ: Final = """
select wanted.name, pg_catalog.current_setting(wanted.name)
from (values {names}) wanted (name) where pg_catalog.current_setting(wanted.name, true) is not null
"""
_SET: Final = (
    "select pg_catalog.set_config(before.name, before.value, false) from (values {before}) before (name, value)"
)


class SessionSettings:
    """What Headstart and env.py have set when the migrations begin.

    Args:
        connection: on which Alembic runs them.
    """

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        dbapi: Any = connection.connection.dbapi_connection
        self._set = ""
        if sessions.backend_of(connection) is None:
            return
        with contextlib.closing(dbapi.cursor()) as cursor:
            cursor.execute(_READ.format(names=", ".join(f"({literal(each)})" for each in sessions.settings())))
            before = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in cursor.fetchall())
        self._set = _SET.format(before=before)
        connection.info.pop(_CHANGED, None)

    def put_back(self, connection: sqlalchemy.Connection, *, unheard: bool, commit: bool) -> None:
        """Set it again, if the revision that has ended may have changed it.

        Args:
            connection: on which Alembic has run it.
            unheard: it may have executed more than SQLAlchemy has seen.
            commit: end the transaction that this takes.
        """
        if not (unheard or connection.info.pop(_CHANGED, False)) or not self._set:
            return
        dbapi: Any = connection.connection.dbapi_connection
        with contextlib.closing(dbapi.cursor()) as cursor:
            cursor.execute(self._set)
        if commit:
            dbapi.commit()


def _before(connection: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
    if _MAY_CHANGE.search(statement):
        connection.info[_CHANGED] = True


event.listen(Engine, "before_cursor_execute", _before)
