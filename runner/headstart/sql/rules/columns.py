"""Columns, types and constraints as CREATE TABLE and ALTER TABLE spell them.

PostgreSQL manual, 'CREATE TABLE', 'ALTER TABLE' and 'Data Types'.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from headstart.sql.reader import Reader, parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headstart.sql.tokens import Token

ConstraintKind = Literal["check", "not null", "unique", "primary key", "foreign key", "exclude"]

# What can follow the expression of a DEFAULT, which itself cannot hold these words outside of parentheses.
_AFTER_DEFAULT = frozenset(
    {"NOT", "NULL", "CHECK", "UNIQUE", "PRIMARY", "REFERENCES", "GENERATED", "CONSTRAINT", "COLLATE", "DEFERRABLE"}
)
_SMALL = re.compile(r"[0-9]{1,9}")
_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"})
_KINDS: Mapping[tuple[str, ...], ConstraintKind] = {
    ("CHECK",): "check",
    ("NOT", "NULL"): "not null",
    ("UNIQUE",): "unique",
    ("PRIMARY", "KEY"): "primary key",
    ("FOREIGN", "KEY"): "foreign key",
    ("EXCLUDE",): "exclude",
}
_ALIASES = {
    "bit varying": "varbit",
    "bpchar": "char",
    "character": "char",
    "character varying": "varchar",
    "char varying": "varchar",
    "dec": "numeric",
    "decimal": "numeric",
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "nchar": "char",
    "serial2": "smallserial",
    "serial4": "serial",
    "serial8": "bigserial",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}


class Type(msgspec.Struct, frozen=True, kw_only=True):
    """A data type, by one name for each.

    Args:
        name: such as `varchar`, `timestamptz`, `mood`.
        arguments: the numbers in parentheses: length, or precision and scale.
        array: whether it is an array of that.
    """

    name: str
    arguments: tuple[int, ...] = ()
    array: bool = False

    def __str__(self) -> str:
        return self.name + (f"({','.join(map(str, self.arguments))})" if self.arguments else "") + "[]" * self.array


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column's definition.

    Args:
        name: as the server folds it.
        type: its type.
        default: the tokens of its DEFAULT; none for DEFAULT NULL either.
        has: what else is in it: `not null`, `unique`, `primary key`, `references`, `check`, `identity`, `stored`.
    """

    name: str
    type: Type
    default: tuple[Token, ...] = ()
    has: frozenset[str] = frozenset()


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """A table's constraint.

    Args:
        kind: what it asks for.
        name: "" if the server is to find one.
        columns: those of a key.
        not_null: the columns that a `check` or a `not null` keeps from being null.
        not_valid: whether the rows that are there are left unchecked.
        using_index: whether it takes over an index.
    """

    kind: ConstraintKind
    name: str = ""
    columns: tuple[str, ...] = ()
    not_null: frozenset[str] = frozenset()
    not_valid: bool = False
    using_index: bool = False


def read_type(reader: Reader) -> Type | None:
    """Steps over a type; None if none comes next."""
    found = reader.relation()
    if found is None:
        return None
    words = found.name
    if words == "national":
        words = reader.name() or words
    while following := reader.take_any({"VARYING", "PRECISION"}):
        words += f" {following.lower()}"
    arguments = _numbers(reader.group())
    for zone in ("WITH", "WITHOUT"):
        if reader.take(zone, "TIME", "ZONE"):
            words += f" {zone.lower()} time zone"
    array = reader.take("ARRAY")
    while reader.take("["):
        array = True
        while reader and not reader.take("]"):
            reader.skip()
    return Type(name=_ALIASES.get(words, words), arguments=arguments, array=array)


def read_column(reader: Reader) -> Column | None:
    """Steps over a column's definition, up to the end of what `reader` has; None if there is none."""
    name = reader.name()
    kind = read_type(reader) if name else None
    if kind is None:
        return None
    default: Sequence[Token] = ()
    has: set[str] = set()
    while reader:
        if reader.take("CONSTRAINT"):
            reader.name()
        elif reader.take("ON"):  # a foreign key's SET NULL and SET DEFAULT are not the column's
            reader.take_any({"DELETE", "UPDATE"})
            reader.take("SET")
            reader.skip()
        elif reader.take("DEFAULT"):
            default = reader.until(_AFTER_DEFAULT)
        elif reader.take("GENERATED"):
            has.add(_generated(reader))
        elif found := _column_constraint(reader):
            has.add(found)
        else:
            reader.skip()
    if default and default[0].text.upper() == "NULL":
        default = ()
    return Column(name=name, type=kind, default=tuple(default), has=frozenset(has))


def read_constraint(reader: Reader) -> Constraint | None:
    """Steps over a table constraint; None if something else comes next, which is then left as it is."""
    if reader.peek() not in _TABLE_CONSTRAINTS and not (reader.peek() == "NOT" and reader.peek(1) == "NULL"):
        return None
    name = reader.name() if reader.take("CONSTRAINT") else ""
    using_index = reader.has("USING", "INDEX")
    not_valid = reader.has("NOT", "VALID")
    kind = next((kind for words, kind in _KINDS.items() if reader.take(*words)), None)
    if kind is None:
        return None
    columns: tuple[str, ...] = ()
    not_null: frozenset[str] = frozenset()
    if kind == "check":
        not_null = _never_null(reader.group() or ())
    elif kind == "not null":
        not_null = frozenset({reader.name()})
    else:
        while reader.take_any({"NULLS", "NOT", "DISTINCT"}):
            pass
        columns = tuple(Reader(part).name() for part in parts(reader.group() or ()))
    return Constraint(
        kind=kind,
        name=name,
        columns=columns,
        not_null=not_null,
        not_valid=not_valid,
        using_index=using_index,
    )


def _column_constraint(reader: Reader) -> str:
    if reader.take("NOT", "NULL"):
        return "not null"
    if reader.take("PRIMARY", "KEY"):
        return "primary key"
    if reader.take("UNIQUE"):
        return "unique"
    if reader.take("REFERENCES"):
        reader.relation()
        reader.group()
        return "references"
    if reader.take("CHECK"):
        reader.group()
        return "check"
    return ""


def _generated(reader: Reader) -> str:
    """What follows GENERATED: an identity, a stored expression, or one computed when it is read (Postgres 18)."""
    reader.take("ALWAYS") or reader.take("BY", "DEFAULT")
    reader.take("AS")
    if reader.take("IDENTITY"):
        reader.group()
        return "identity"
    reader.group()
    return "stored" if reader.take("STORED") else "virtual"


def _numbers(tokens: Sequence[Token] | None) -> tuple[int, ...]:
    return tuple(int(token.text) for token in tokens or () if _SMALL.fullmatch(token.text))


def _never_null(tokens: Sequence[Token]) -> frozenset[str]:
    """The columns that cannot be null where an expression holds: `a IS NOT NULL`, alone or one of several with AND."""
    found: set[str] = set()
    for part in parts(tokens, "AND"):
        reader = Reader(part)
        if (inner := reader.group()) is not None:
            found |= _never_null(inner) if not reader else set()
            continue
        name = reader.name()
        if name and reader.take("IS", "NOT", "NULL") and not reader:
            found.add(name)
    # With an OR beside them, none of the parts has to hold.
    return frozenset(found if len(parts(tokens, "OR")) == 1 else ())
