"""A connection of asyncpg that takes whole scripts where one statement is expected.

asyncpg prepares whatever SQLAlchemy hands it, and the extended protocol takes one statement at a time (PostgreSQL
manual, 'Message Flow'). `connection_class` is asyncpg's public way in: this class looks at the text in `prepare`, and
answers for a script with an object that behaves as a prepared statement does. SQLAlchemy's BEGIN, its locks and its
mapping of errors stay as they are. Statements that give no rows back take the same way, because the simple protocol
needs one round trip where preparing needs two or three.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg.prepared_stmt import PreparedStatement

    from headstart.postgres.script_statement import RowlessStatement
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
    ) -> RowlessStatement | PreparedStatement[Any]:
        """As asyncpg's own, for scripts too.

        Args:
            query: one statement or many.
            options: asyncpg's: name, timeout, record_class.

        Raises:
            ScriptError: the text holds what no revision can run.
        """
        # The lexer's expressions take longer to compile than a no-op takes, which prepares nothing.
        from headstart.postgres.script_statement import RowlessStatement, ScriptStatement
        from headstart.sql.script import has_parameters, is_single, returns_rows

        if not is_single(query):
            statements = self.parse(query)
            if len(statements) != 1 or statements[0].kind in {"copy_in", "copy_out"}:
                return ScriptStatement(self, query, statements, self._run_script)
            query = statements[0].text if "\\" in query else query
        if not returns_rows(query) and not has_parameters(query):
            return RowlessStatement(self, query)
        prepared: PreparedStatement[Any] = await super().prepare(query, **options)
        return prepared

    async def _run_script(self, query: str, statements: list[Statement] | None) -> str:
        from headstart.postgres import script_run

        return await script_run.run(self, query, statements or self.parse(query))

    def parse(self, query: str) -> list[Statement]:
        """Splits by the session's own `standard_conforming_strings`."""
        from headstart.sql.script import split

        conforming = getattr(self.get_settings(), "standard_conforming_strings", "on") == "on"
        return split(query, standard_conforming=conforming)
