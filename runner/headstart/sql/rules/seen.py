"""What the statements so far have made: what is new, what is locked, and which type each column has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.sql.reader import Relation, value
from headstart.sql.tokens import tokens

if TYPE_CHECKING:
    from headstart.sql.rules.acts import Act, Kind
    from headstart.sql.rules.columns import Constraint, Type

# PostgreSQL manual, 'Explicit Locking' and 'ALTER TABLE': what keeps even readers out until the transaction ends.
_ACCESS_EXCLUSIVE: frozenset[Kind] = frozenset(
    {
        "add column",
        "alter column",
        "alter table",
        "change storage",
        "change type",
        "cluster",
        "detach partition",
        "drop column",
        "drop constraint",
        "drop not null",
        "refresh",
        "rename",
        "rename column",
        "set not null",
        "truncate",
    }
)
_TABLES = frozenset({"table", "foreign table", "materialized view"})


class Seen:
    """Grows with each act. A rule reads it as it was before the act.

    Attributes:
        in_transaction: whether the statement runs in the revision's transaction.
        statement: the text of the statement at hand.
        schema: the schema of names that come without one.
        types: the type of each column whose making was seen.
        constraints: the constraints whose making was seen.
        locked: the tables that the transaction has locked even for readers.
        unchecked: the constraints that the transaction has added as NOT VALID.
        labels: the enum labels that the transaction has added.
        empty_views: the materialized views that were never filled.
    """

    def __init__(self) -> None:
        self.in_transaction = True
        self.statement = ""
        self.schema = "public"
        self.types: dict[tuple[Relation, str], Type] = {}
        self.constraints: dict[tuple[Relation, str], Constraint] = {}
        self.empty_views: set[Relation] = set()
        self._valid: set[tuple[Relation, str]] = set()
        self._indexes: dict[Relation, Relation] = {}
        self.begin_revision()

    def begin_revision(self) -> None:
        """Nothing is new any more."""
        self.schema = "public"
        self._created: set[Relation] = set()
        self._types_created: set[Relation] = set()
        self._schemas_created: set[str] = set()
        self._columns_added: set[tuple[Relation, str]] = set()
        self.begin_transaction()

    def begin_transaction(self) -> None:
        """Nothing is locked any more."""
        self.locked: set[Relation] = set()
        self.unchecked: set[tuple[Relation, str]] = set()
        self.labels: set[str] = set()

    def is_new(self, table: Relation | None) -> bool:
        """Whether this revision has made the table: nobody waits for it, and whatever it holds came with it."""
        return table in self._created

    def is_new_type(self, name: Relation | None) -> bool:
        """Whether this revision has made the type, domain, view or routine."""
        return name in self._types_created

    def is_new_schema(self, name: str) -> bool:
        """Whether this revision has made the schema."""
        return name in self._schemas_created

    def is_new_column(self, table: Relation | None, name: str) -> bool:
        """Whether this revision has added the column, or its table."""
        return table is not None and (table in self._created or (table, name) in self._columns_added)

    def is_never_null(self, table: Relation, column: str) -> bool:
        """Whether a validated constraint rules out nulls, which spares SET NOT NULL its scan."""
        return any(
            column in constraint.not_null
            for key, constraint in self.constraints.items()
            if key[0] == table and key in self._valid
        )

    def is_checked(self, table: Relation) -> bool:
        """Whether the table has any validated CHECK."""
        return any(
            key[0] == table and key in self._valid and one.kind == "check" for key, one in self.constraints.items()
        )

    def table_of(self, index: Relation | None) -> Relation | None:
        """The table of an index whose making was seen."""
        return self._indexes.get(index) if index is not None else None

    def strings(self) -> set[str]:
        """The string constants of the statement at hand."""
        return {value(token) for token in tokens(self.statement) if token.kind == "string"}

    def locks(self, act: Act) -> Relation | None:
        """The table that the act locks even for readers, if this revision has not made it."""
        table = act.table
        if act.kind == "add constraint":
            exclusive = act.constraint is not None and act.constraint.kind != "foreign key"
        elif act.kind == "drop":
            exclusive = act.name in _TABLES
        elif act.kind == "lock":
            exclusive = act.name == "access exclusive"
        else:
            exclusive = act.kind in _ACCESS_EXCLUSIVE and "concurrently" not in act.has
        return table if exclusive and table is not None and table not in self._created else None

    def learn(self, act: Act) -> None:  # noqa: C901  (a table)
        """Takes in what an act has done."""
        if (locked := self.locks(act)) is not None:
            self.locked.add(locked)
        match act.kind:
            case "create table" | "create materialized view" | "create type" | "create schema" | "create index":
                self._learn_new(act)
            case "add column" if act.table is not None and act.column is not None:
                self.types[act.table, act.column.name] = act.column.type
                self._columns_added.add((act.table, act.column.name))
            case "change type" if act.table is not None and act.type is not None:
                self.types[act.table, act.name] = act.type
            case "add constraint" if act.table is not None and act.constraint is not None:
                self._learn_constraint(act.table, act.constraint)
            case "validate constraint" if act.table is not None:
                self._valid.add((act.table, act.name))
            case "drop constraint" if act.table is not None:
                self.constraints.pop((act.table, act.name), None)
            case "refresh" if act.table is not None:
                self.empty_views.discard(act.table)
            case "rename" if act.table is not None and act.other is not None:
                self._learn_rename(act.table, act.other)
            case "add enum value" if not self.is_new_type(act.table):
                self.labels.add(act.name)
            case "set search path":
                self.schema = act.name or "public"
            case _:
                pass

    def _learn_new(self, act: Act) -> None:
        if act.kind == "create schema":
            self._schemas_created.add(act.name)
        elif act.table is None:
            return
        elif act.kind == "create index":
            self._indexes[Relation(act.table.schema, act.name)] = act.table
        elif act.kind == "create type":
            self._types_created.add(act.table)
        else:
            self._created.add(act.table)
            for column in act.columns:
                self.types[act.table, column.name] = column.type
            for constraint in act.constraints:
                self._learn_constraint(act.table, constraint)
            if "no data" in act.has:
                self.empty_views.add(act.table)

    def _learn_constraint(self, table: Relation, constraint: Constraint) -> None:
        key = table, constraint.name or f"#{len(self.constraints)}"
        self.constraints[key] = constraint
        if constraint.not_valid:
            self._valid.discard(key)
            self.unchecked.add(key)
        else:
            self._valid.add(key)

    def _learn_rename(self, table: Relation, other: Relation) -> None:
        if table in self._created:
            self._created.add(other)
        self.types = {(other if held == table else held, name): one for (held, name), one in self.types.items()}
        self.constraints = {
            (other if held == table else held, name): one for (held, name), one in self.constraints.items()
        }
        self._valid = {(other if held == table else held, name) for held, name in self._valid}
