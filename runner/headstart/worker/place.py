"""Where env.py's own session finds the version table; and whether Alembic may go there, before it does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from headstart.errors import HeadstartError
from headstart.postgres.table_trust import array, by_name, lock_of, look
from headstart.postgres.version_table import Place

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    from alembic.runtime.migration import MigrationContext

    from headstart.postgres.table_trust import Looked


class Guard:
    """Looks at the version table each time before Alembic reads it. Entered around a run of env.py.

    Args:
        writing: whether Alembic is to write it, too.

    Attributes:
        place: what was found last.
    """

    def __init__(self, *, writing: bool) -> None:
        self._writing = writing
        self._refused: HeadstartError | None = None
        self.place: Place | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise what was refused, whatever env.py has made of it."""
        if self._refused is not None and error is not self._refused:
            raise self._refused from error

    def watch(self, context: MigrationContext) -> None:
        """From now on look before this context reads.

        Args:
            context: that env.py has configured.
        """
        if context.as_sql or context.dialect.name != "postgresql":
            return
        read = context.get_current_heads

        def get_current_heads() -> tuple[str, ...]:
            self.look(context)
            return read()

        # An attribute of the instance: whatever Alembic does with the table, it begins with this.
        context.get_current_heads = get_current_heads  # type: ignore[method-assign]

    def look(self, context: MigrationContext) -> Place:
        """Where the version table is, or would be made.

        Raises:
            RefusedError: Alembic would execute code of a role that we have no reason to trust (21).
            ConfigurationError: it is not Alembic's (10).
        """
        self._refused = None
        try:
            self.place = _place(context, writing=self._writing)
        except HeadstartError as error:
            self._refused = error
            raise
        return self.place


def _place(context: MigrationContext, *, writing: bool) -> Place:
    connection = context.connection
    assert connection is not None  # noqa: S101  (online)
    table, configured = context.version_table, context.version_table_schema
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    schema = translated.get(configured, configured)
    schemas = "pg_catalog.current_schemas(true)" if schema is None else array((schema,))
    dbapi: Any = connection.connection.dbapi_connection
    with contextlib.closing(dbapi.cursor()) as cursor:
        found = _answered(look(by_name(table, schemas), writing=writing), cursor)
        if found.table is not None and found.table.foreign and not getattr(dbapi, "autocommit", False):
            cursor.execute(lock_of(found.table))  # it might be a view by now
            found = _answered(look(by_name(table, schemas), writing=writing), cursor)
    return Place(
        table=table,
        schema=(schema or found.schema) if found.table is None else found.table.schema,
        configured=configured,
        oid=None if found.table is None else found.table.oid,
        user=found.user,
    )


def _answered(asking: Generator[str, Sequence[Sequence[Any]], Looked], cursor: Any) -> Looked:  # noqa: ANN401  (of any driver)
    """What `look` finds in the session of a cursor."""
    sql = next(asking)
    while True:
        cursor.execute(sql)
        try:
            sql = asking.send(cursor.fetchall())
        except StopIteration as ended:
            found: Looked = ended.value
            return found
