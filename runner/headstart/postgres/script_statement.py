"""What `ScriptConnection.prepare` gives: objects that behave like asyncpg's prepared statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg import Record

    from headstart.sql.script import Statement

    Connection = asyncpg.Connection[Record]


class RowlessStatement:
    """Behaves like a prepared statement: one statement without parameters that gives no rows back."""

    def __init__(self, connection: Connection, query: str) -> None:
        self._connection = connection
        self._query = query
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
        """The server's command tag, such as `UPDATE 1`."""
        return self._status

    async def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:
        """Runs it. There are no rows."""
        if args:
            message = f"the server expects 0 arguments for this query, {len(args)} were passed"
            raise asyncpg.InterfaceError(message)
        self._status = await self._run(timeout)
        return []

    async def cursor(self, *args: object) -> RowlessStatement:
        """Runs it; what comes back is a cursor that is at its end."""
        await self.fetch(*args)
        return EmptyCursor(self._connection, self._query)

    async def _run(self, timeout: float | None) -> str:
        return await self._connection.execute(self._query, timeout=timeout)


class EmptyCursor(RowlessStatement):
    """A cursor without rows."""

    async def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:  # noqa: ARG002
        """Nothing is left."""
        return []


class ScriptStatement(RowlessStatement):
    """Behaves like a prepared statement: a script."""

    def __init__(
        self,
        connection: Connection,
        query: str,
        statements: list[Statement],
        run: Callable[[str, list[Statement] | None], Awaitable[str]],
    ) -> None:
        super().__init__(connection, query)
        self._statements: list[Statement] | None = statements
        self._run_script = run

    async def _run(self, timeout: float | None) -> str:  # noqa: ARG002
        # SQLAlchemy keeps prepared statements: let go of the pieces, they are as large as the text.
        statements, self._statements = self._statements, None
        return await self._run_script(self._query, statements)
