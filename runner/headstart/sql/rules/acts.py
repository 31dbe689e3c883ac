"""What a statement does to a schema, in a form that rules can look at."""

from __future__ import annotations

from typing import Literal

import msgspec

from headstart.sql.reader import Relation
from headstart.sql.rules.columns import Column, Constraint, Type

Kind = Literal[
    "add column",
    "add constraint",
    "add enum value",
    "alter column",
    "alter table",
    "attach partition",
    "change storage",
    "change type",
    "cluster",
    "control transaction",
    "create index",
    "create materialized view",
    "create schema",
    "create table",
    "create type",
    "detach partition",
    "disable trigger",
    "domain constraint",
    "drop",
    "drop column",
    "drop constraint",
    "drop not null",
    "lock",
    "other",
    "refresh",
    "reindex",
    "rename",
    "rename column",
    "rename enum value",
    "set not null",
    "set search path",
    "truncate",
    "vacuum",
    "validate constraint",
    "write",
]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a statement does.

    Args:
        kind: what it does.
        table: the table, view, domain, type or index that it does it to.
        name: of the column, index, constraint or label in question; what is dropped or reindexed, in small letters.
        has: what else is in the statement, in small letters.
        column: the new column.
        columns: the new table's columns.
        constraint: the new constraint.
        constraints: the new table's constraints.
        type: the column's new type.
        other: the partition, or what the table is called from now on.
    """

    kind: Kind
    table: Relation | None = None
    name: str = ""
    has: frozenset[str] = frozenset()
    column: Column | None = None
    columns: tuple[Column, ...] = ()
    constraint: Constraint | None = None
    constraints: tuple[Constraint, ...] = ()
    type: Type | None = None
    other: Relation | None = None


def flags(**words: bool) -> frozenset[str]:
    """The names of those that are true, with spaces for underscores."""
    return frozenset(flag.replace("_", " ") for flag, is_set in words.items() if is_set)
