"""Reads a database's schema from Postgres' own catalog.

What is read depends on neither the session's settings nor OIDs, owners or tablespaces, and not on what changes by
itself: rows, statistics, the current values of sequences, versions of extensions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headstart.postgres.catalog.queries import SESSION, query

if TYPE_CHECKING:
    from collections.abc import Collection

    import asyncpg

Catalog = dict[str, str]
"""What there is ("table public.companies", "column public.companies.id"), each with its definition."""

_SAVEPOINT = "headstart_catalog"
_ELEMENT = r"(?:'(?:[^']|'')*'::character varying(?:\(\d+\))?|[\w.]+)"
_ELEMENTS = rf"({_ELEMENT}(?:, {_ELEMENT})*)"
_CAST = re.compile(rf"\(ARRAY\[{_ELEMENTS}\]\)::text\[\]|ARRAY\[{_ELEMENTS}\]::text\[\]")


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
    return dict(sorted((what, _as_restored(definition)) for what, definition in rows))


def _as_restored(definition: str) -> str:
    """The spelling that a definition has after a dump and a restore, which may be another than at first.

    Postgres writes `v IN ('a', 'b')` of a varchar as `v::text = ANY ((ARRAY[...])::text[])`, and, having read that, as
    an array whose elements are cast one by one.
    """

    def cast_each(found: re.Match[str]) -> str:
        elements, pretty = re.findall(_ELEMENT, found[1] or found[2]), found[1] is None
        return f"ARRAY[{', '.join(f'{one}::text' if pretty else f'({one})::text' for one in elements)}]"

    return _CAST.sub(cast_each, definition) if "::text[]" in definition else definition
