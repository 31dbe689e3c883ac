"""Alembic's account of the heads, whose one statement for each revision need not come through SQLAlchemy."""

from __future__ import annotations

from alembic.runtime.migration import HeadMaintainer
from sqlalchemy.util import await_only

from headstart.postgres import literal
from headstart.script_connection import ScriptConnection


class Heads(HeadMaintainer):
    """Alembic's own, but for the version table's UPDATE on our connection.

    Building and compiling it takes SQLAlchemy as long as the server takes for an index, and whether it hit its one row
    need only be known before COMMIT. Where that is not our connection, or the revision has left no transaction open, it
    goes Alembic's own way.
    """

    def _update_version(self, from_: str, to_: str) -> None:
        context = self.context
        connection = context.connection
        raw = connection and getattr(connection.connection.dbapi_connection, "driver_connection", None)
        if (
            connection is None
            or not isinstance(raw, ScriptConnection)
            or not (raw.ahead and raw.is_in_transaction())
            or "schema_translate_map" in connection.get_execution_options()
        ):
            super()._update_version(from_, to_)
            return
        self.heads.remove(from_)
        self.heads.add(to_)
        table = context.dialect.identifier_preparer.format_table(context._version)  # noqa: SLF001  (no other way to it)
        query = f"UPDATE {table} SET version_num={literal(to_)} WHERE version_num = {literal(from_)}"  # noqa: S608
        await_only(raw.move(query))
