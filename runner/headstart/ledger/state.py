"""Whether the ledger is to be written, and if not, why: looked up once, before the first revision is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import asyncpg
import msgspec

from headstart.ledger.trust import FOREIGN, TRUSTED, VersionTable, place

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.postgres.connection import ScriptConnection

_SCHEMAS_PUBLISHED_SINCE: Final = 15

_ALL_TABLES = "select p.pubname::pg_catalog.text from pg_catalog.pg_publication p where p.puballtables"
_OUR_SCHEMA = """
union select p.pubname::pg_catalog.text from pg_catalog.pg_publication p
join pg_catalog.pg_publication_namespace s on s.pnpubid operator(pg_catalog.=) p.oid
join pg_catalog.pg_namespace m on m.oid operator(pg_catalog.=) s.pnnspid
where m.nspname operator(pg_catalog.=) 'headstart'"""

# The size is asked for because that takes a lock: a table that another session has locked is waited for here alone.
_FACTS = f"""with recursive {TRUSTED}
select case when n.oid is null then null
    when c.oid is null and not exists (select from trusted t where t.oid operator(pg_catalog.=) n.nspowner)
    then pg_catalog.concat(
        'the schema headstart belongs to the role ', pg_catalog.pg_get_userbyid(n.nspowner), ', which is not trusted')
    when c.oid is not null then coalesce({FOREIGN}, case
        when exists (select from pg_catalog.pg_trigger t
            where t.tgrelid operator(pg_catalog.=) c.oid and not t.tgisinternal)
        then 'headstart.ledger has triggers'
        when exists (select from pg_catalog.pg_constraint k
            where k.conrelid operator(pg_catalog.=) c.oid and k.condeferrable)
        then 'headstart.ledger has constraints that are not ours'
    end) end as foreign_cause,
    pg_catalog.pg_relation_size(c.oid),
    case when c.oid is not null
    then pg_catalog.has_schema_privilege(w.role, n.oid, 'usage')
        and pg_catalog.has_table_privilege(w.role, c.oid, 'insert')
    when n.oid is not null then pg_catalog.has_schema_privilege(w.role, n.oid, 'usage')
        and pg_catalog.has_schema_privilege(w.role, n.oid, 'create')
    else pg_catalog.has_database_privilege(w.role, pg_catalog.current_database(), 'create') end as writable,
    array({{published}}) as publications
from (select coalesce($4::pg_catalog.text, current_user::pg_catalog.text)::pg_catalog.name) w (role)
left join pg_catalog.pg_namespace n on n.nspname operator(pg_catalog.=) 'headstart'
left join pg_catalog.pg_class c on c.relnamespace operator(pg_catalog.=) n.oid
and c.relname operator(pg_catalog.=) 'ledger'
"""  # noqa: S608  (constants)


class State(msgspec.Struct, frozen=True):
    """Whether a run writes the ledger.

    Args:
        cause: why it does not; "" if it does.
        hint: what to do about that.
        wanted: whether somebody chose that it does not, by a setting or a publication.
    """

    cause: str = ""
    hint: str = ""
    wanted: bool = False

    @property
    def writes(self) -> bool:
        """Whether it does."""
        return not self.cause


async def examine(
    connection: ScriptConnection,
    *,
    mode: Literal["auto", "off"],
    version_table: VersionTable = None,
    role: str | None = None,
) -> State:
    """Look whether the ledger is to be written. Nothing is changed.

    Args:
        connection: to the database, as the role of DATABASE_URL.
        mode: HEADSTART_LEDGER.
        version_table: of the project.
        role: that will write; the connection's own when left out.
    """
    if mode == "off":
        return State("HEADSTART_LEDGER is off", wanted=True)
    schemas = connection.get_server_version().major >= _SCHEMAS_PUBLISHED_SINCE
    query = _FACTS.format(published=_ALL_TABLES + (_OUR_SCHEMA if schemas else ""))
    try:
        facts = await connection.fetchrow(query, *place(version_table), role)
    except asyncpg.PostgresError as error:
        return State(f"the catalog cannot be asked about headstart.ledger: {error}", _WITHOUT)
    assert facts is not None  # noqa: S101  (left joins to one row)
    if facts["publications"]:
        return State(
            f"the publication {', '.join(facts['publications'])} would replicate it, and the subscriber lacks it",
            "to have a ledger, publish the tables by name or the schemas, without headstart",
            wanted=True,
        )
    if facts["foreign_cause"] is not None:
        return State(
            f"{facts['foreign_cause']}: it is neither read nor written",
            "see who made it; rename it, and the next run makes another, or give it to the version table's owner",
        )
    if not facts["writable"]:
        return State("the role may neither write to headstart.ledger nor create it", _WITHOUT)
    return State()


_WITHOUT: Final = "let a role with that privilege run once, or grant create on the database; all else works without"


async def prepare(
    connection: ScriptConnection,
    *,
    mode: Literal["auto", "off"],
    log: FilteringBoundLogger,
    version_table: VersionTable = None,
    role: str | None = None,
) -> bool:
    """Whether the ledger is to be written; the log says why not.

    Args:
        connection: as for `examine`.
        mode: HEADSTART_LEDGER.
        log: gets the reason if it is not written.
        version_table: as for `examine`.
        role: as for `examine`.
    """
    state = await examine(connection, mode=mode, version_table=version_table, role=role)
    if not state.writes:
        report = log.info if state.wanted else log.warning
        report("ledger_not_written", cause=state.cause, **({"hint": state.hint} if state.hint else {}))
    return state.writes
