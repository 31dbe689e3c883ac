"""Where env.py's own session finds the version table; and whether Alembic may go there, before it does."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Self

from headstart.errors import HeadstartError
from headstart.postgres.table_trust import all_named, array, by_name, lock_of, look
from headstart.postgres.version_table import Place
from headstart.worker import rollback, sessions

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    import sqlalchemy
    from alembic.runtime.migration import MigrationContext, RevisionStep

    from headstart.postgres.table_trust import Looked


class Guard:
    """Looks at the version table before Alembic reads it, or writes what a revision has led to.

    Entered around a run of env.py.

    Args:
        writing: whether Alembic is to write it, too.

    Attributes:
        place: what was found last.
    """

    def __init__(self, *, writing: bool) -> None:
        self._writing = writing
        self._refused: HeadstartError | None = None
        self._exposed = False  # as the last look has found it
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
            place = self.look(context)
            return all_named(place.table, read())

        # An attribute of the instance: whatever Alembic does with the table, it begins with this.
        context.get_current_heads = get_current_heads  # type: ignore[method-assign]

    def watch_step(self, step: RevisionStep, context: MigrationContext) -> None:
        """Look between what the revision executes and Alembic's write, if the table may be exchanged meanwhile.

        Args:
            step: before it is given to Alembic.
            context: of Alembic.
        """
        if not self._exposed:
            return
        migrate = step.migration_fn

        @functools.wraps(migrate)  # Alembic's log has its name
        def migration_fn(**given: Any) -> None:  # noqa: ANN401  (run_migrations' own)
            migrate(**given)
            self.look(context)

        step.migration_fn = migration_fn

    def look(self, context: MigrationContext) -> Place:
        """Where the version table is, or would be made. It stays what it is to the end of the transaction.

        Raises:
            RefusedError: Alembic would execute code of a role that we have no reason to trust (21).
            ConfigurationError: it is not Alembic's (10).
        """
        self._refused = None
        connection = context.connection
        assert connection is not None  # noqa: S101  (online)
        table, configured = context.version_table, context.version_table_schema
        translated = connection.get_execution_options().get("schema_translate_map") or {}
        schema = translated.get(configured, configured)
        schemas = "pg_catalog.current_schemas(true)" if schema is None else array((schema,))
        try:
            found = self._look(connection, by_name(table, schemas))
        except HeadstartError as error:
            self._refused = error
            raise
        self._exposed = found.table is not None and found.table.exposed
        self.place = Place(
            table=table,
            schema=(schema or found.schema) if found.table is None else found.table.schema,
            configured=configured,
            oid=None if found.table is None else found.table.oid,
            user=found.user,
        )
        return self.place

    def _look(self, connection: sqlalchemy.Connection, which: str) -> Looked:
        """What is there; if somebody may exchange it, it is locked, and judged again: it might be another by now."""
        rollback.make_writable(connection)
        dbapi: Any = connection.connection.dbapi_connection
        locked: int | None = None
        with contextlib.closing(dbapi.cursor()) as cursor:
            while True:
                found = _answered(look(which, writing=self._writing), cursor)
                table = found.table
                if table is None or not table.exposed or table.oid == locked or not sessions.in_transaction(connection):
                    return found
                cursor.execute(lock_of(table, writing=self._writing))
                locked = table.oid


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
