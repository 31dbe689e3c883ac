"""The SQL of a baseline: what is dumped of a scratch database, made fit for the transaction of a revision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headstart.commands.schema.script import Entry

# pg_dump writes every name with its schema, and means it. Alembic's own statement, which follows in the same
# transaction, does not: it gets the search_path back. All other settings end with the transaction.
_BEFORE: Final = (
    "SELECT pg_catalog.set_config('headstart.search_path', pg_catalog.current_setting('search_path'), true)",
    "SELECT pg_catalog.set_config('search_path', '', true)",
    "SET LOCAL check_function_bodies = false",
    "SET LOCAL xmloption = content",
    "SET LOCAL default_table_access_method = heap",
)
_AFTER: Final = (
    "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('headstart.search_path'), true)",
)
CONTENT: Final = frozenset({"TABLE DATA", "SEQUENCE SET", "MATERIALIZED VIEW DATA", "BLOB", "BLOBS", "BLOB METADATA"})
"""Kinds of entries that are no part of the catalog."""


def statements(entries: Iterable[Entry], *, version_table: str, schema: str) -> list[str]:
    """What the baseline executes: all but the version table, which is there before the first revision runs.

    Args:
        entries: of the database that the revisions have made.
        version_table: Alembic's.
        schema: the schema in which it is.
    """
    made = [
        f"SET LOCAL {each.removeprefix('SET ')}" if each.startswith("SET ") else each
        for entry in entries
        if entry.schema != schema or not _is_of(entry, version_table)
        for each in entry.statements
    ]
    return [*_BEFORE, *made, *_AFTER]


def content(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """The rows and other content, by table or sequence."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        if entry.kind in CONTENT:
            found[entry.label] = (*found.get(entry.label, ()), *entry.statements)
    return found


def _is_of(entry: Entry, table: str) -> bool:
    return entry.name in {table, f"TABLE {table}"} or entry.name.startswith(f"{table} ")
