"""What `ScriptConnection.prepare` gives for a script: an object that behaves like asyncpg's prepared statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from headstart.postgres import script_run

if TYPE_CHECKING:
    from asyncpg import Record

    from headstart.postgres.connection import ScriptConnection
    from headstart.sql.script import Statement


class ScriptStatement:
    """Behaves like a prepared statement that has no parameters and gives no rows back."""

    def __init__(self, connection: ScriptConnection, query: str, statements: list[Statement]) -> None:
        self._connection = connection
        self._query = query
        self._statements = statements
        self._status = ""

    def get_attributes(self) -> tuple[()]:
        """No columns."""
        return ()

    def get_parameters(self) -> tuple[()]:
        """No parameters."""
        return ()

    def get_query(self) -> str:
        """The text as it was given."""
        return self._query

    def get_statusmsg(self) -> str:
        """The server's command tag for the last statement, such as `UPDATE 1`."""
        return self._status

    async def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:  # noqa: ARG002  (asyncpg's)
        """Runs it. There are no rows."""
        if args:
            message = f"the server expects 0 arguments for this query, {len(args)} were passed"
            raise asyncpg.InterfaceError(message)
        self._status = await script_run.run(self._connection, self._query, self._statements)
        return []
