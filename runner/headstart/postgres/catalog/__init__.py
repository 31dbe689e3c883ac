"""A database's schema, read from Postgres' own catalog, and how two of them differ.

What is read depends on neither the session's settings nor OIDs, owners or tablespaces, and not on what changes by
itself: rows, statistics, the current values of sequences, versions of extensions. Alembic's comparison does not see
views, functions, triggers, enum labels and much else; this does.

One source reads the same on every major version, but for views, rules and functions whose text Postgres itself spells
otherwise: before 16 it qualifies the columns of a view over one table.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from headstart.postgres.catalog.queries import SESSION, query

if TYPE_CHECKING:
    import asyncpg

Catalog = dict[str, str]
"""What there is ("table public.companies", "column public.companies.id"), each with its definition."""

_SAVEPOINT = "headstart_catalog"
_LONGEST = 100
_ELEMENT = r"(?:'(?:[^']|'')*'::character varying(?:\(\d+\))?|[\w.]+)"
_ELEMENTS = rf"({_ELEMENT}(?:, {_ELEMENT})*)"
_CAST = re.compile(rf"\(ARRAY\[{_ELEMENTS}\]\)::text\[\]|ARRAY\[{_ELEMENTS}\]::text\[\]")
_RELATIONS = ("table ", "foreign table ", "view ", "materialized view ", "domain ")
_PARTS = {"column", "columns", "constraint", "trigger", "rule", "policy"}


class Difference(NamedTuple):
    """One thing that two catalogs define otherwise; None where there is none of that name."""

    what: str
    left: str | None
    right: str | None

    def told(self, left_name: str, right_name: str) -> str:
        """One line for a person.

        Args:
            left_name: what the left catalog is of, e.g. "the revisions".
            right_name: what the right one is of, e.g. "the database".
        """
        if self.right is None:
            return f"{self.what}: only in {left_name}"
        if self.left is None:
            return f"{self.what}: only in {right_name}"
        left, right = _where_they_differ(self.left, self.right)
        return f"{self.what}: {left} in {left_name}, {right} in {right_name}"


async def read(
    connection: asyncpg.Connection,
    *,
    passing_over: Collection[str] = ("alembic_version",),
    grants: bool = False,
    order: bool = False,
) -> Catalog:
    """Read the schema of the database: everything of the user's, in all schemas.

    Left out are the schema `headstart`, what belongs to an extension, and what is temporary. The session's settings are
    as they were when it returns.

    Args:
        connection: to the database, in a transaction or not.
        passing_over: relations that are left out, as `table` (in any schema) or `schema.table`: version tables.
        grants: read privileges too (but those of the owner).
        order: read the order of the columns too.
    """
    begin, end = ("begin", "rollback")
    if connection.is_in_transaction():
        begin, end = f"savepoint {_SAVEPOINT}", f"rollback to savepoint {_SAVEPOINT}; release savepoint {_SAVEPOINT}"
    await connection.execute(begin)
    try:
        await connection.execute(SESSION)
        rows = await connection.fetch(query(grants=grants, order=order), list(passing_over))
    finally:
        if not connection.is_closed():
            await connection.execute(end)  # puts the settings back
    return dict(sorted((what, _settled(definition)) for what, definition in rows))


def _settled(definition: str) -> str:
    """The spelling that a definition has after a dump and a restore, which may be another than at first.

    Postgres writes `v IN ('a', 'b')` of a varchar as `v::text = ANY ((ARRAY[...])::text[])`, and, having read that, as
    an array whose elements are cast one by one.
    """

    def each_by_itself(found: re.Match[str]) -> str:
        elements, pretty = re.findall(_ELEMENT, found[1] or found[2]), found[1] is None
        return f"ARRAY[{', '.join(f'{one}::text' if pretty else f'({one})::text' for one in elements)}]"

    return _CAST.sub(each_by_itself, definition) if "::text[]" in definition else definition


def differences(left: Catalog, right: Catalog) -> list[Difference]:
    """What is not the same in both, sorted by name. Of a table that is missing, its columns and such are not told."""
    found = [
        Difference(what, left.get(what), right.get(what))
        for what in sorted(left.keys() | right.keys())
        if left.get(what) != right.get(what)
    ]
    missing = {
        each.what.removeprefix(word)
        for each in found
        if each.left is None or each.right is None
        for word in _RELATIONS
        if each.what.startswith(word)
    }
    return [each for each in found if not _goes_with(each, missing)]


def _goes_with(one: Difference, missing: Collection[str]) -> bool:
    word, _, name = one.what.partition(" ")
    owner = name if word == "columns" else name.rpartition(".")[0]
    return word in _PARTS and (one.left is None or one.right is None) and owner in missing


def _where_they_differ(left: str, right: str) -> tuple[str, str]:
    """Of two definitions the first line that differs, on one line each and not too long."""
    lines = zip(left.splitlines(), right.splitlines(), strict=False)
    pair = next(((one, other) for one, other in lines if one.strip() != other.strip()), (left, right))
    start = 0
    one, other = (" ".join(each.split()) for each in pair)
    if max(len(one), len(other)) > _LONGEST:
        same = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        start = max(one.rfind(" ", 0, max(same - 20, 0)) + 1, 0)
    return _short(one, start), _short(other, start)


def _short(text: str, start: int) -> str:
    piece = text[start : start + _LONGEST]
    return f"`{'... ' if start else ''}{piece}{' ...' if start + _LONGEST < len(text) else ''}`"
