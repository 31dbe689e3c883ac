"""A statement -> what it does: a recogniser for the statements that the rules are about.

It is not a parser: whatever it does not know is one act of kind `other`. PostgreSQL manual, 'SQL Commands'.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from headstart.sql.reader import Reader, parts
from headstart.sql.rules.acts import Act, flags
from headstart.sql.rules.alter import alter
from headstart.sql.rules.columns import Column, Constraint, read_column, read_constraint
from headstart.sql.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from headstart.sql.script import Statement

_TEMPORARY = frozenset({"TEMP", "TEMPORARY"})
_DROPPED_IN_TWO_WORDS = frozenset({("MATERIALIZED", "VIEW"), ("FOREIGN", "TABLE"), ("ACCESS", "METHOD")})
_WRITES = frozenset({"UPDATE", "DELETE", "INSERT", "MERGE"})


def acts(statement: Statement, schema: str = "public") -> list[Act]:
    """What one statement does.

    Args:
        statement: as `script.split` gives it.
        schema: where names without a schema are.
    """
    if statement.kind == "transaction_control":
        return [Act(kind="control transaction", name=statement.keyword)]
    if statement.keyword not in _KNOWN:  # rows by the thousand are not taken into words
        return [Act(kind="other")]
    return list(_acts(Reader(list(tokens(statement.text)), schema))) or [Act(kind="other")]


def _acts(reader: Reader) -> Iterable[Act]:
    if reader.peek() == "WITH":
        reader.until(_WRITES)
    word = reader.take_any(_READERS)
    return _READERS[word](reader) if word else ()


def _create(reader: Reader) -> Iterator[Act]:
    reader.take("OR", "REPLACE")
    reader.take_any({"GLOBAL", "LOCAL"})
    temporary = bool(reader.take_any(_TEMPORARY))
    reader.take("UNLOGGED")
    unique = reader.take("UNIQUE")
    if reader.take("INDEX"):
        yield from _create_index(reader, unique=unique)
    elif reader.take("TABLE") or reader.take("FOREIGN", "TABLE"):
        yield from _create_table(reader, temporary=temporary)
    elif reader.take("MATERIALIZED", "VIEW"):
        reader.take("IF", "NOT", "EXISTS")
        table = reader.relation()
        yield Act(kind="create materialized view", table=table, has=flags(no_data=reader.has("WITH", "NO", "DATA")))
    elif reader.take("SCHEMA"):
        reader.take("IF", "NOT", "EXISTS")
        yield Act(kind="create schema", name="" if reader.take("AUTHORIZATION") else reader.name())
    elif reader.take_any({"TYPE", "DOMAIN", "VIEW", "SEQUENCE", "FUNCTION", "PROCEDURE"}):
        yield Act(kind="create type", table=reader.relation())
    elif reader.take("DATABASE") or reader.take("TABLESPACE"):
        yield Act(kind="other", has=flags(alone=True))


def _create_index(reader: Reader, *, unique: bool) -> Iterator[Act]:
    concurrently = reader.take("CONCURRENTLY")
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = "" if reader.peek() == "ON" else reader.name()
    if reader.take("ON"):
        only = reader.take("ONLY")
        has = flags(concurrently=concurrently, if_not_exists=if_not_exists, only=only, unique=unique)
        yield Act(kind="create index", table=reader.relation(), name=name, has=has)


def _create_table(reader: Reader, *, temporary: bool) -> Iterator[Act]:
    reader.take("IF", "NOT", "EXISTS")
    table = reader.relation()
    if reader.take("PARTITION", "OF") or reader.take("OF"):
        reader.relation()
    columns: list[Column] = []
    constraints: list[Constraint] = []
    for part in parts(reader.group() or ()):
        element = Reader(part, reader.schema)
        if constraint := read_constraint(element):
            constraints.append(constraint)
        elif element.peek() != "LIKE" and (column := read_column(element)):
            columns.append(column)
    yield Act(
        kind="create table",
        table=table,
        has=flags(temporary=temporary),
        columns=tuple(columns),
        constraints=tuple(constraints),
    )


def _drop(reader: Reader) -> Iterator[Act]:
    what = " ".join(pair) if (pair := (reader.peek(), reader.peek(1))) in _DROPPED_IN_TWO_WORDS else reader.peek()
    reader.take(*what.split()) if what else None
    concurrently = reader.take("CONCURRENTLY")
    reader.take("IF", "EXISTS")
    reader.take("BY")
    has = flags(concurrently=concurrently, cascade=reader.has("CASCADE"), alone=what in {"DATABASE", "TABLESPACE"})
    for found in reader.relations():
        yield Act(kind="drop", table=found, name=what.lower(), has=has)


def _reindex(reader: Reader) -> Iterator[Act]:
    options = Reader(reader.group() or ())
    what = reader.take_any({"INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM"})
    concurrently = reader.take("CONCURRENTLY") or options.has("CONCURRENTLY")
    has = flags(concurrently=concurrently, alone=what in {"SCHEMA", "DATABASE", "SYSTEM"})
    yield Act(kind="reindex", table=reader.relation(), name=what.lower(), has=has)


def _refresh(reader: Reader) -> Iterator[Act]:
    if reader.take("MATERIALIZED", "VIEW"):
        concurrently = reader.take("CONCURRENTLY")
        yield Act(kind="refresh", table=reader.relation(), has=flags(concurrently=concurrently))


def _truncate(reader: Reader) -> Iterator[Act]:
    reader.take("TABLE")
    reader.take("ONLY")
    for table in reader.relations():
        yield Act(kind="truncate", table=table, has=flags(cascade=reader.has("CASCADE")))


def _lock(reader: Reader) -> Iterator[Act]:
    reader.take("TABLE")
    reader.take("ONLY")
    tables = reader.relations()
    mode = "access exclusive"
    if reader.take("IN"):
        mode = " ".join(token.text.lower() for token in reader.until({"MODE"}))
    for table in tables:
        yield Act(kind="lock", table=table, name=mode)


def _vacuum(reader: Reader) -> Iterator[Act]:
    options = Reader(reader.group() or ())
    full = options.has("FULL")
    while option := reader.take_any({"FULL", "FREEZE", "VERBOSE", "ANALYZE", "ANALYSE"}):
        full = full or option == "FULL"
    yield Act(kind="vacuum", table=reader.relation(), has=flags(full=full, alone=True))


def _cluster(reader: Reader) -> Iterator[Act]:
    reader.group()
    reader.take("VERBOSE")
    table = reader.relation()
    yield Act(kind="cluster", table=table, has=flags(alone=table is None))


def _set(reader: Reader) -> Iterator[Act]:
    local = reader.take("LOCAL")
    reader.take("SESSION")
    if reader.take("SEARCH_PATH"):
        reader.take_any({"TO", "="})
        schema = reader.string() or reader.name()
        yield Act(kind="set search path", name=schema.partition(",")[0].strip(' "'), has=flags(local=local))


def _write(reader: Reader, name: str) -> Iterator[Act]:
    reader.take_any({"FROM", "INTO"})
    reader.take("ONLY")
    yield Act(kind="write", table=reader.relation(), name=name, has=flags(where=name == "merge" or reader.has("WHERE")))


_READERS: Mapping[str, Callable[[Reader], Iterator[Act]]] = {
    "ALTER": alter,
    "CLUSTER": _cluster,
    "CREATE": _create,
    "DELETE": partial(_write, name="delete"),
    "DROP": _drop,
    "LOCK": _lock,
    "MERGE": partial(_write, name="merge"),
    "REFRESH": _refresh,
    "REINDEX": _reindex,
    "SET": _set,
    "TRUNCATE": _truncate,
    "UPDATE": partial(_write, name="update"),
    "VACUUM": _vacuum,
}
_KNOWN = frozenset({*_READERS, "WITH"})
