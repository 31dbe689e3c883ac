"""Whether the ledger is to be written, and if not, why: looked up once, before the first revision is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import asyncpg
import msgspec

from headstart.ledger.table import COLUMNS, bring_up_to_date
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

# A function that is not PostgreSQL's own has a row in pg_depend wherever a default, a constraint or an index uses it.
_FACTS = f"""with recursive {TRUSTED}
select c.oid is not null as there,
    case when n.oid is null then null
    when c.oid is null and not exists (select from trusted t where t.oid operator(pg_catalog.=) n.nspowner)
    then pg_catalog.concat(
        'the schema headstart belongs to the role ', pg_catalog.pg_get_userbyid(n.nspowner), ', which is not trusted')
    when c.oid is not null then coalesce({FOREIGN}, case
        when exists (select from pg_catalog.pg_trigger t
            where t.tgrelid operator(pg_catalog.=) c.oid and not t.tgisinternal)
        then 'headstart.ledger has triggers'
        when exists (select from pg_catalog.pg_constraint k where k.conrelid operator(pg_catalog.=) c.oid
            and (k.condeferrable or k.contype operator(pg_catalog.<>) all (array['p', 'c', 'n']::pg_catalog."char"[])))
        then 'headstart.ledger has constraints that are not ours'
        when exists (select from pg_catalog.pg_depend own join pg_catalog.pg_depend used
            on used.classid operator(pg_catalog.=) own.classid and used.objid operator(pg_catalog.=) own.objid
            where own.refclassid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            and own.refobjid operator(pg_catalog.=) c.oid
            and own.classid operator(pg_catalog.=) any (array['pg_catalog.pg_attrdef'::pg_catalog.regclass,
                'pg_catalog.pg_constraint'::pg_catalog.regclass,
                'pg_catalog.pg_class'::pg_catalog.regclass]::pg_catalog.oid[])
            and used.refclassid operator(pg_catalog.=) any (array['pg_catalog.pg_proc'::pg_catalog.regclass,
                'pg_catalog.pg_operator'::pg_catalog.regclass,
                'pg_catalog.pg_opclass'::pg_catalog.regclass]::pg_catalog.oid[]))
        then 'headstart.ledger calls functions that are not PostgreSQL''s own'
    end) end as foreign_cause,
    array(
        select pg_catalog.concat(a.attname, ' ', y.typname, case when a.attnotnull then ' not null' end,
            case when a.attidentity operator(pg_catalog.<>) '' then ' identity' end,
            case when a.attgenerated operator(pg_catalog.<>) '' then ' generated' end,
            ' default ' operator(pg_catalog.||)
            pg_catalog.replace(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'pg_catalog.', ''))
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_type y on y.oid operator(pg_catalog.=) a.atttypid
        and y.typnamespace operator(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid
        left join pg_catalog.pg_attrdef d
        on d.adrelid operator(pg_catalog.=) a.attrelid and d.adnum operator(pg_catalog.=) a.attnum
        where a.attrelid operator(pg_catalog.=) c.oid and a.attnum operator(pg_catalog.>) 0 and not a.attisdropped
    ) as columns,
    exists (
        select from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid operator(pg_catalog.=) i.indexrelid
        where i.indrelid operator(pg_catalog.=) c.oid and x.relname operator(pg_catalog.=) 'ledger_latest'
    ) as indexed,
    pg_catalog.pg_has_role(c.relowner, 'usage') as owned,
    case when c.oid is not null
    then pg_catalog.has_schema_privilege(w.role, n.oid, 'usage')
        and pg_catalog.has_table_privilege(w.role, c.oid, 'insert')
    when not exists (select from pg_catalog.pg_language l where l.lanname operator(pg_catalog.=) 'plpgsql'
        and pg_catalog.has_language_privilege(w.role, l.oid, 'usage'))
    then false
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
        older: an earlier version made the table, and this role may bring it up to date.
    """

    cause: str = ""
    hint: str = ""
    wanted: bool = False
    older: bool = False

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
    cause = facts["foreign_cause"]
    if cause is None and facts["there"]:
        lacking = [column for column in COLUMNS if column not in facts["columns"]]
        cause = f"headstart.ledger has other columns: {lacking[0]!r} is not among them" if lacking else None
    if cause is not None:
        return State(
            f"{cause}: it is neither read nor written",
            "see who made it; rename it, and the next run makes another, or give it to the version table's owner",
        )
    if not facts["writable"]:
        return State("the role may neither write to headstart.ledger nor create it", _WITHOUT)
    return State(older=bool(facts["there"] and not facts["indexed"] and facts["owned"]))


_WITHOUT: Final = "let a role with that privilege run once, or grant create on the database; all else works without"


async def prepare(
    connection: ScriptConnection,
    *,
    mode: Literal["auto", "off"],
    log: FilteringBoundLogger,
    version_table: VersionTable = None,
    role: str | None = None,
) -> bool:
    """Whether the ledger is to be written; the log says why not. An older table is brought up to date.

    Args:
        connection: as for `examine`, not in a transaction.
        mode: HEADSTART_LEDGER.
        log: gets the reason if it is not written.
        version_table: as for `examine`.
        role: as for `examine`.
    """
    state = await examine(connection, mode=mode, version_table=version_table, role=role)
    if not state.writes:
        report = log.info if state.wanted else log.warning
        report("ledger_not_written", cause=state.cause, **({"hint": state.hint} if state.hint else {}))
    elif state.older:
        await bring_up_to_date(connection, log=log)
    return state.writes
