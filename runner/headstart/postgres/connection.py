"""A connection of asyncpg that takes whole scripts where one statement is expected.

asyncpg prepares whatever SQLAlchemy hands it, and the extended protocol takes one statement at a time (PostgreSQL
manual, 'Message Flow'). `connection_class` is asyncpg's public way in: this class looks at the text in `prepare`, and
answers for a script with an object that behaves as a prepared statement does. SQLAlchemy's BEGIN, its locks and its
mapping of errors stay as they are.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg.prepared_stmt import PreparedStatement

    from headstart.sql.script import Statement


def _reporting_loss(method: Callable[..., Awaitable[Any]]) -> Any:
    """A method of asyncpg's that reports a lost session as one.

    asyncpg takes a session that ends at the very moment of a call for a bug of its own (InternalClientError).
    """

    @functools.wraps(method)
    async def call(self: ScriptConnection, *args: Any, **options: Any) -> Any:
        try:
            return await method(self, *args, **options)
        except asyncpg.InternalClientError as error:
            self.terminate()  # nothing more can be sent over it
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation") from error

    return call


class ScriptStatement:
    """Behaves like a prepared statement that has no parameters and gives no rows back.

    Args:
        connection: that runs it.
        query: the text.
        statements: what it consists of; None for one that is sent as it is. That takes one round trip, where to
            prepare it takes two more: of the time of a thousand small revisions a quarter.
    """

    def __init__(self, connection: asyncpg.Connection[Any], query: str, statements: list[Statement] | None) -> None:
        self._connection = connection
        self._query = query
        self._statements = statements
        self._status = ""

    def get_attributes(self) -> tuple[()]:
        """No columns."""
        return ()

    def get_statusmsg(self) -> str:
        """The server's command tag for the last statement, such as `UPDATE 1`."""
        return self._status

    async def fetch(self, *args: object, timeout: float | None = None) -> list[Any]:
        """Runs it. There are no rows."""
        if args:
            message = f"the server expects 0 arguments for this query, {len(args)} were passed"
            raise asyncpg.InterfaceError(message)
        if self._statements is None:
            self._status = await self._connection.execute(self._query, timeout=timeout)
            return []
        from headstart.postgres import script_run

        self._status = await script_run.run(self._connection, self._query, self._statements)
        return []

    async def cursor(self, *args: object) -> ScriptStatement:
        """Runs it; what comes back is a cursor that is at its end."""
        await self.fetch(*args)
        return ScriptStatement(self._connection, "", [])


class ScriptConnection(asyncpg.Connection):
    """What to give to `asyncpg.connect(connection_class=...)`.

    Attributes:
        schemas: the session's own search path, as the role, the database or the URL give it, where ours is another.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schemas: tuple[str, ...] = ()

    execute = _reporting_loss(asyncpg.Connection.execute)
    fetch = _reporting_loss(asyncpg.Connection.fetch)
    fetchrow = _reporting_loss(asyncpg.Connection.fetchrow)
    fetchval = _reporting_loss(asyncpg.Connection.fetchval)

    async def prepare(  # type: ignore[override]  # it behaves the same
        self, query: str, **options: Any
    ) -> ScriptStatement | PreparedStatement[Any]:
        """As asyncpg's own, for scripts too.

        Args:
            query: one statement or many.
            options: asyncpg's: name, timeout, record_class.

        Raises:
            ScriptError: the text holds what no revision can run.
        """
        # The lexer's expressions take longer to compile than a no-op takes, which prepares nothing.
        from headstart.sql.script import is_rowless, is_single

        if not is_single(query):
            statements = self.parse(query)
            if len(statements) != 1 or statements[0].kind in {"copy_in", "copy_out"}:
                return ScriptStatement(self, query, statements)
            query = statements[0].text if "\\" in query else query
        if is_rowless(query):
            return ScriptStatement(self, query, None)
        prepared: PreparedStatement[Any] = await super().prepare(query, **options)
        return prepared

    def parse(self, query: str) -> list[Statement]:
        """Splits by the session's own `standard_conforming_strings`."""
        from headstart.sql.script import split

        conforming = getattr(self.get_settings(), "standard_conforming_strings", "on") == "on"
        return split(query, standard_conforming=conforming)
