"""Reads the ledger: which revisions are in force, with which source, and what is known of each.

Its rows answer what the version table cannot: whether an unknown revision is newer than this image (`entries`), and
whether an applied one has been edited since (`applied`, then `ledger.source`). A no-op needs two small queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headstart.history.graph import lineage
from headstart.history.plan import Entry
from headstart.ledger.trust import LOCKED, fetch

if TYPE_CHECKING:
    from headstart.history.graph import Graph
    from headstart.postgres.connection import ScriptConnection

# In the order in which the index has them, backwards: the last of each revision is the first to come.
_APPLIED = """select revision, sha256 from (
    select distinct on (revision) revision, action, sha256 from headstart.ledger
    where history operator(pg_catalog.=) $1 and revision is not null order by revision desc, id desc
) last where action operator(pg_catalog.<>) 'reverted' and sha256 is not null
"""
# As text, in UTC: a moment may be one that Python does not have ("infinity", before Christ).
_AT = """case when pg_catalog.isfinite(at) then pg_catalog.concat(
    pg_catalog.to_char(pg_catalog.timezone('UTC', at), 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
    case when at operator(pg_catalog.<) '0001-01-01 00:00:00+00'::pg_catalog.timestamptz then ' BC' end)
else at::pg_catalog.text end as at"""
_ENTRIES = f"""select distinct on (revision) revision, action, follows, {_AT}, headstart, image, host, run_id
from headstart.ledger
where history operator(pg_catalog.=) $1 and revision is not null order by revision desc, id desc
"""  # noqa: S608  (a constant)
_ALL = f"""select {_AT}, action, revision, seconds, role, host, headstart, image, backup, run_id
from headstart.ledger where history operator(pg_catalog.=) $1 order by id
"""  # noqa: S608  (a constant)


class Row(NamedTuple):
    """One line of the ledger, as people are shown it. `at` is RFC 3339 wherever that can say it."""

    at: str
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
    rows = await fetch(connection, _APPLIED, history, version_table=history)
    return {row["revision"]: row["sha256"] for row in rows}


async def entries(connection: ScriptConnection, history: str) -> dict[str, Entry]:
    """The last that is known of each revision that is in force. Arguments as for `applied`."""
    found = {}
    for row in await fetch(connection, _ENTRIES, history, version_table=history):
        if row["action"] != "reverted":
            found[row["revision"]] = Entry(
                follows=tuple(row["follows"]),
                at=row["at"],
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

        held = lineage(graph.parents, (i for i in recorded if i in graph.revisions))
        files = {i: graph.revisions[i].path for i in sorted(other & held)}
        await require_unedited(connection, history, files, sources, recorded)


async def rows(connection: ScriptConnection, history: str, *, timeout: float = LOCKED) -> list[Row]:
    """All of it, oldest first. Arguments as for `applied` and `fetch`."""
    found = await fetch(connection, _ALL, history, version_table=history, timeout=timeout)
    return [Row(*row) for row in found]
