"""Alembic's account of the heads, whose one statement for each revision need not come through SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.runtime.migration import HeadMaintainer
from sqlalchemy.util import await_only

from headstart.alembic_bridge.workbench import driven_by_asyncpg
from headstart.postgres import literal

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from headstart.script_connection import ScriptConnection


class Heads(HeadMaintainer):
    """Alembic's own, but for the version table's UPDATE on our connection.

    Building and compiling it takes SQLAlchemy as long as the server takes for an index, and whether it hit its one row
    need only be known before COMMIT. Where that is not our connection, or the revision has left no transaction open, it
    goes Alembic's own way.
    """

    def _update_version(self, from_: str, to_: str) -> None:
        context = self.context
        raw = None if context.as_sql or context.connection is None else _ours(context.connection)
        if raw is None:
            super()._update_version(from_, to_)
            return
        self.heads.remove(from_)
        self.heads.add(to_)
        table = context.dialect.identifier_preparer.format_table(context._version)  # noqa: SLF001  (no other way to it)
        query = f"UPDATE {table} SET version_num={literal(to_)} WHERE version_num = {literal(from_)}"  # noqa: S608
        await_only(raw.move(query))
        if len(context.on_version_apply_callbacks) > 1:  # env.py's own are called once it is certain, and not before
            await_only(raw.arrived())


def _ours(connection: Connection) -> ScriptConnection | None:
    """Our connection, in a transaction, where a table's name means to it what it means to SQLAlchemy."""
    if "schema_translate_map" in connection.get_execution_options():
        return None
    raw = driven_by_asyncpg(connection)
    return raw if raw is not None and raw.ahead and raw.is_in_transaction() else None
