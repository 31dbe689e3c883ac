"""Which tenants need nothing: the revisions recorded in many schemas, by two queries and without Alembic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from headstart import ledger
from headstart.commands.tenants.targets import Target
from headstart.errors import ConfigurationError, HeadstartError
from headstart.history import History
from headstart.history.graph import Graph
from headstart.history.plan import Plan, decide
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.indexes import invalid_indexes
from headstart.postgres.server import quote
from headstart.postgres.table_trust import HAS_REVISIONS, PLAIN

# What is not legible is asked about alone, and refused by name there.
_TABLES = f"""
select n.nspname as schema, c.oid is not null as there,
       pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')
       and {PLAIN} and {HAS_REVISIONS} as legible,
       pg_catalog.has_schema_privilege(n.oid, 'usage') and case when c.oid is null
           then pg_catalog.has_schema_privilege(n.oid, 'create')
           else pg_catalog.has_table_privilege(c.oid, 'insert') and pg_catalog.has_table_privilege(c.oid, 'update')
                and pg_catalog.has_table_privilege(c.oid, 'delete') end as writable
from pg_catalog.pg_namespace n
left join pg_catalog.pg_class c
    on c.relnamespace = n.oid and c.relname = $2::pg_catalog.name
where n.nspname = any($1::pg_catalog.text[])
"""  # noqa: S608  (constants)
# The last that the ledger has of each revision, where it is not of the file as it is now.
_DIFFERING = """
select distinct last.history from (
    select distinct on (history, revision) history, revision, action, sha256
    from headstart.ledger where history = any($1::pg_catalog.text[]) order by history, revision, id desc
) last join rows from (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]))
    as file(revision, sha256) using (revision)
where last.action <> 'reverted' and last.sha256 <> file.sha256
"""
TOGETHER = 500
"""Version tables that one query reads."""


class Standing(NamedTuple):
    """What the survey of all tenants found for one: its plan, and whether the role may write its version table."""

    plan: Plan
    writable: bool


async def survey(
    connection: ScriptConnection, targets: Sequence[Target], history: History, target: str
) -> dict[str, Standing]:
    """The plan of each tenant, by its name. A tenant that is missing in the result has to be asked alone.

    Args:
        connection: to the database whose schemas they are.
        targets: all of them schemas.
        history: the project.
        target: the revision to reach.

    Raises:
        BrokenHistoryError: the target is `head`, and there are several (70).
        ConfigurationError: the target is not in the history, or env.py has all tenants in one version table (10).
    """
    project, graph = history
    if not project.conclusive or graph is None:
        return {}
    if project.version_schema is not None:
        raise ConfigurationError(
            f"env.py names version_table_schema={project.version_schema!r}: all tenants would share that version table",
            hint="leave version_table_schema out: each tenant's version table is to be in its own schema",
        )
    if not target.startswith("+"):
        decide((), graph, target)  # what is wrong with the history or the target is so for all of them
    found, writable = await recorded(connection, [each.name for each in targets], project.version_table)
    plans: dict[tuple[str, ...], Plan | None] = {}
    for revisions in found.values():
        if revisions not in plans:
            plans[revisions] = _plan(revisions, graph, target)
    apart = await _edited(connection, found, graph, project.version_table)
    apart |= {index.schema for index in await invalid_indexes(connection)}
    return {
        name: Standing(plan, name in writable)
        for name, revisions in found.items()
        if name not in apart and (plan := plans[revisions]) is not None
    }


async def recorded(
    connection: ScriptConnection, schemas: Sequence[str], version_table: str
) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """What the version table of each schema holds, without those that are not legible; and which are writable."""
    found: dict[str, tuple[str, ...]] = {}
    tables, writable = [], set()
    for row in await connection.fetch(_TABLES, list(schemas), version_table):
        if row["writable"]:
            writable.add(row["schema"])
        if row["legible"]:
            tables.append(row["schema"])
        elif not row["there"]:
            found[row["schema"]] = ()
    for start in range(0, len(tables), TOGETHER):
        some = tables[start : start + TOGETHER]
        query = " union all ".join(
            f"select {at} as at, version_num::pg_catalog.text as revision from {quote(schema)}.{quote(version_table)}"  # noqa: S608
            for at, schema in enumerate(some)
        )
        try:
            rows = await connection.fetch(query)
        except asyncpg.PostgresError:  # a tenant was dropped just now: each is asked alone then
            continue
        held: dict[str, list[str]] = {schema: [] for schema in some}
        for row in rows:
            held[some[row["at"]]].append(row["revision"])
        found |= {schema: tuple(sorted(revisions)) for schema, revisions in held.items()}
    return found, writable


def _plan(revisions: tuple[str, ...], graph: Graph, target: str) -> Plan | None:
    try:
        return decide(revisions, graph, target)
    except HeadstartError:
        return None


async def _edited(
    connection: ScriptConnection, found: dict[str, tuple[str, ...]], graph: Graph, version_table: str
) -> set[str]:
    """Tenants whose ledger has revisions from other files than these. Whether that matters is decided for each."""
    keys = {ledger.key(version_table, schema): schema for schema, revisions in found.items() if revisions}
    files = {revision.id: revision.sha256 for revision in graph.revisions.values()}
    rows = await ledger.fetch(connection, _DIFFERING, list(keys), list(files), list(files.values()))
    return {keys[row["history"]] for row in rows}
