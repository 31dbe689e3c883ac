"""CREATE ... IF NOT EXISTS of what is there, in a session that may not write.

Postgres refuses it there, although it would do nothing. Many an env.py begins with one (a schema, an extension), and
has to be asked in such sessions where its version table is.

PostgreSQL manual, 'SET TRANSACTION': what a read-only transaction disallows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

from headstart.postgres.server import literal
from headstart.sql.reader import Reader
from headstart.sql.script import ScriptError, split
from headstart.sql.tokens import tokens
from headstart.worker import rollback, sessions  # noqa: F401  (`rollback` listens, and before this: here is asked)
from headstart.worker.statements import asked

if TYPE_CHECKING:
    import sqlalchemy

_CREATES: Final = re.compile(r"\bif\s+not\s+exists\b", re.IGNORECASE)
_NOTHING: Final = "select 1"
_TRUE: Final = "true"

_RELATIONS: Final = (("TABLE",), ("SEQUENCE",), ("MATERIALIZED", "VIEW"))

_SCHEMA: Final = """
select exists(select from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) {name})::pg_catalog.text
"""
_EXTENSION: Final = """
select exists(select from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) {name})::pg_catalog.text
"""
# Without a schema, it is the first of the search path in which Postgres would create it.
_RELATION: Final = """
select exists(select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    where c.relname operator(pg_catalog.=) {name}
    and n.nspname operator(pg_catalog.=) coalesce({schema}, pg_catalog.current_schema()))::pg_catalog.text
"""  # noqa: E501


def instead(
    connection: sqlalchemy.Connection,
    _cursor: object,
    statement: str,
    parameters: Any,  # noqa: ANN401  (SQLAlchemy's own)
    _context: object,
    _many: object,
) -> tuple[str, Any]:
    """What is executed instead of a statement: nothing, where that is what the server would do."""
    if _CREATES.search(statement) and sessions.reads_only() and sessions.backend_of(connection) is not None:
        dbapi = connection.connection.dbapi_connection
        questions = _questions(statement)
        if questions and all(asked(dbapi, each) == _TRUE for each in questions):
            return _NOTHING, parameters
    return statement, parameters


def _questions(script: str) -> list[str] | None:
    """How the server is asked whether all that a script creates is there; None if it does anything else."""
    try:
        found = [_question(Reader(tuple(tokens(each.text)), schema="")) for each in split(script)]
    except ScriptError:
        return None
    return [each for each in found if each is not None] if None not in found else None


def _question(statement: Reader) -> str | None:
    if not statement.take("CREATE"):
        return None
    statement.take("UNLOGGED")
    if statement.take("SCHEMA", "IF", "NOT", "EXISTS"):
        query = _SCHEMA
    elif statement.take("EXTENSION", "IF", "NOT", "EXISTS"):
        query = _EXTENSION
    elif any(statement.take(*kind, "IF", "NOT", "EXISTS") for kind in _RELATIONS):
        query = _RELATION
    else:
        return None
    named = statement.relation()
    if named is None:
        return None
    schema = f"{literal(named.schema)}::pg_catalog.name" if named.schema else "null"
    return query.format(name=f"{literal(named.name)}::pg_catalog.name", schema=schema)


event.listen(Engine, "before_cursor_execute", instead, retval=True)
