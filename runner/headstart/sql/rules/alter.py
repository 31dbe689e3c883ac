"""The ALTER statements that the rules are about. PostgreSQL manual, 'ALTER TABLE', 'ALTER TYPE' and 'ALTER DOMAIN'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.reader import Reader, Relation, parts
from headstart.sql.rules.acts import Act, Kind, flags
from headstart.sql.rules.columns import read_column, read_constraint, read_type

if TYPE_CHECKING:
    from collections.abc import Iterator

_STORAGE = {"LOGGED": "logged", "UNLOGGED": "unlogged", "TABLESPACE": "tablespace", "ACCESS": "access method"}


def alter(reader: Reader) -> Iterator[Act]:
    """What follows the word ALTER, an act for each action."""
    reader.take("FOREIGN")
    what = reader.take_any({"TABLE", "VIEW", "SCHEMA", "TYPE", "DOMAIN"})
    if reader.take("MATERIALIZED", "VIEW"):
        what = "VIEW"
    reader.take("IF", "EXISTS")
    reader.take("ONLY")
    table = reader.relation() if what else None
    reader.take("*")
    if table is None:
        return
    if what in {"VIEW", "SCHEMA"}:
        if reader.peek() == "RENAME" or reader.has("SET", "SCHEMA"):
            yield from _alter_action(reader, table, what)
    elif what == "TYPE":
        yield from _alter_type(reader, table)
    elif what == "DOMAIN":
        added = reader.take("ADD") or (reader.peek() == "SET" and reader.has("SET", "NOT", "NULL"))
        if added:
            yield Act(kind="domain constraint", table=table, has=flags(not_valid=reader.has("NOT", "VALID")))
    else:
        for part in parts(reader.tokens[reader.position :]):
            yield from _alter_action(Reader(part, reader.schema), table, what)


def _alter_type(reader: Reader, table: Relation) -> Iterator[Act]:
    if reader.take("ADD", "VALUE"):
        reader.take("IF", "NOT", "EXISTS")
        yield Act(kind="add enum value", table=table, name=reader.string() or "")
    elif reader.take("RENAME", "VALUE"):
        yield Act(kind="rename enum value", table=table, name=reader.string() or "")


def _alter_action(reader: Reader, table: Relation, what: str) -> Iterator[Act]:  # noqa: C901, PLR0912  (a table)
    if reader.take("ADD"):
        yield _add(reader, table)
    elif reader.take("RENAME", "TO"):
        yield Act(kind="rename", table=table, name=what.lower(), other=Relation(table.schema, reader.name()))
    elif reader.take("SET", "SCHEMA"):
        yield Act(kind="rename", table=table, name=what.lower(), other=Relation(reader.name(), table.name))
    elif reader.take("RENAME"):
        if not reader.take("CONSTRAINT"):
            reader.take("COLUMN")
            yield Act(kind="rename column", table=table, name=reader.name())
    elif reader.take("ALTER", "CONSTRAINT"):
        yield Act(kind="alter table", table=table)
    elif reader.take("ALTER"):
        yield _alter_column(reader, table)
    elif reader.take("DROP"):
        yield _drop_part(reader, table)
    elif reader.take("VALIDATE", "CONSTRAINT"):
        yield Act(kind="validate constraint", table=table, name=reader.name())
    elif reader.take("ATTACH", "PARTITION"):
        yield Act(kind="attach partition", table=table, other=reader.relation())
    elif reader.take("DETACH", "PARTITION"):
        other = reader.relation()
        concurrently = bool(reader.take_any({"CONCURRENTLY", "FINALIZE"}))
        yield Act(kind="detach partition", table=table, other=other, has=flags(concurrently=concurrently))
    elif reader.take("DISABLE", "TRIGGER"):
        yield Act(kind="disable trigger", table=table, name=reader.name())
    elif reader.peek() == "SET" and reader.peek(1) in _STORAGE:
        yield Act(kind="change storage", table=table, name=_STORAGE[reader.peek(1)])
    elif reader.peek(1) != "(":  # storage parameters lock out no one but VACUUM
        yield Act(kind="alter table", table=table)


def _add(reader: Reader, table: Relation) -> Act:
    if constraint := read_constraint(reader):
        return Act(kind="add constraint", table=table, name=constraint.name, constraint=constraint)
    reader.take("COLUMN")
    reader.take("IF", "NOT", "EXISTS")
    column = read_column(reader)
    return Act(kind="add column" if column else "alter table", table=table, column=column)


def _alter_column(reader: Reader, table: Relation) -> Act:
    reader.take("COLUMN")
    name = reader.name()
    if reader.take("TYPE") or reader.take("SET", "DATA", "TYPE"):
        new = read_type(reader)
        return Act(kind="change type", table=table, name=name, type=new, has=flags(using=reader.has("USING")))
    if reader.take("SET", "NOT", "NULL"):
        return Act(kind="set not null", table=table, name=name)
    if reader.take("DROP", "NOT", "NULL"):
        return Act(kind="drop not null", table=table, name=name)
    return Act(kind="alter column", table=table, name=name)


def _drop_part(reader: Reader, table: Relation) -> Act:
    is_constraint = reader.take("CONSTRAINT")
    reader.take("COLUMN")
    reader.take("IF", "EXISTS")
    kind: Kind = "drop constraint" if is_constraint else "drop column"
    return Act(kind=kind, table=table, name=reader.name(), has=flags(cascade=reader.take("CASCADE")))
