"""The ledger: which revision was applied when, by whom, from which source. A table in a schema of its own.

A row is written in the transaction of the revision that it tells about, so it is there exactly if the revision is. What
keeps it from being written never keeps a revision from being applied: without the privilege, all the rest works.

Its rows answer what the version table cannot: is an unknown revision newer than this image (`entries`), and has an
applied one been edited since (`applied`, then `ledger.source`). Reading costs a no-op two small queries; what writes it
is in `ledger.writer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headstart.plan import Entry, lineage

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

    from headstart.graph import Graph
    from headstart.script_connection import ScriptConnection

SCHEMA = "headstart"
"""Autogenerate, and the question whether a database holds anything of the user's, pass over it."""

# Asked of the catalog: to_regclass fails where the role may not use the schema.
_READABLE = """select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'headstart' and c.relname = 'ledger'
      and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')
)
"""
_APPLIED = """select revision, sha256 from (
    select distinct on (revision) revision, action, sha256
    from headstart.ledger where history = $1 and revision is not null order by revision, id desc
) last where action <> 'reverted' and sha256 is not null
"""
_ENTRIES = """select distinct on (revision) revision, action, follows, at, headstart, image, host, run_id
from headstart.ledger where history = $1 and revision is not null order by revision, id desc
"""
_ALL = """select at, action, revision, seconds, role, host, headstart, image, backup, run_id
from headstart.ledger where history = $1 order by id
"""


class Row(NamedTuple):
    """One line of the ledger, as people are shown it."""

    at: datetime
    action: str
    revision: str | None
    seconds: float | None
    role: str
    host: str
    headstart: str
    image: str | None
    backup: str | None
    run_id: str


def key(version_table: str, version_schema: str | None) -> str:
    """How the ledger names a project: two may share a database, and an id may be in both."""
    return version_table if version_schema is None else f"{version_schema}.{version_table}"


async def applied(connection: ScriptConnection, history: str) -> dict[str, str]:
    """The SHA-256 of the source of each revision that is in force; nothing where there is no ledger.

    Args:
        connection: to the database.
        history: `key` of the project.
    """
    return {row["revision"]: row["sha256"] for row in await fetch(connection, _APPLIED, history)}


async def entries(connection: ScriptConnection, history: str) -> dict[str, Entry]:
    """The last that is known of each revision that is in force. Arguments as for `applied`."""
    found = {}
    for row in await fetch(connection, _ENTRIES, history):
        if row["action"] != "reverted":
            found[row["revision"]] = Entry(
                follows=tuple(row["follows"]),
                at=row["at"].isoformat(timespec="seconds"),
                by=row["image"] or f"headstart {row['headstart']}",
                host=row["host"],
                run_id=row["run_id"],
            )
    return found


async def refuse_edited(connection: ScriptConnection, history: str, recorded: tuple[str, ...], graph: Graph) -> None:
    """Refuse a history in which a revision that was applied reads otherwise today.

    Args:
        connection: to the database.
        history: `key` of the project.
        recorded: what the version table holds.
        graph: the revision files.

    Raises:
        RevisionEditedError: with the file and the first line that differs (73).
    """
    sources = await applied(connection, history) if recorded else {}
    other = {i for i, sha256 in sources.items() if i in graph.revisions and graph.revisions[i].sha256 != sha256}
    if other:
        from headstart.ledger.source import require_unedited

        held = lineage(graph, (i for i in recorded if i in graph.revisions))
        files = {i: graph.revisions[i].path for i in sorted(other & held)}
        await require_unedited(connection, history, files, sources)


async def rows(connection: ScriptConnection, history: str) -> list[Row]:
    """All of it, oldest first. Arguments as for `applied`."""
    return [Row(*row) for row in await fetch(connection, _ALL, history)]


async def fetch(connection: ScriptConnection, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows; none where there is no ledger, or the role may not read it."""
    if not await connection.fetchval(_READABLE):
        return []
    return list(await connection.fetch(query, *arguments))
