"""What is asked of pg_catalog: one query whose rows are (what, definition), made of a part for each kind of object.

Definitions are those of Postgres' own functions where it has them (PostgreSQL manual, 'System Catalog Information
Functions'). `SESSION` comes first, in the same transaction: with its search_path every name here is Postgres' own, and
every other name comes out with its schema.
"""

from __future__ import annotations

SESSION = """
select pg_catalog.set_config(name, value, true) from (values
    ('search_path', 'pg_catalog, pg_temp'), ('quote_all_identifiers', 'off'), ('jit', 'off'),
    ('timezone', 'UTC'), ('datestyle', 'ISO, MDY'), ('intervalstyle', 'postgres'), ('extra_float_digits', '1'),
    ('bytea_output', 'hex'), ('standard_conforming_strings', 'on')
) as needed (name, value)
"""
"""What the text of a definition depends on; and jit, which would cost more than the query."""

# $1: the relations to pass over. Objects below 16384 are initdb's own (FirstNormalObjectId in access/transam.h).
_OURS = r"""
with member as materialized (
    select classid, objid from pg_depend
    where deptype = 'e' or (deptype = 'i' and classid in ('pg_proc'::regclass, 'pg_cast'::regclass))
), space as materialized (
    select oid, nspname, nspacl, nspowner from pg_namespace
    where nspname not like 'pg\_%' and nspname not in ('information_schema', 'headstart')
), relation as materialized (
    select c.oid, c.relkind, c.relpersistence, c.relowner, c.relacl, c.reloptions, c.reltoastrelid, c.relam,
        c.reloftype, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.relpartbound,
        quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
    from pg_class c join space n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')
      and c.relname <> all ($1) and n.nspname || '.' || c.relname <> all ($1)
      and not exists (select from member m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
), kind as materialized (
    select t.oid, t.typtype, t.typrelid, t.typbasetype, t.typtypmod, t.typcollation, t.typnotnull, t.typdefaultbin,
        t.typacl, t.typowner, quote_ident(n.nspname) || '.' || quote_ident(t.typname) as name,
        case t.typtype when 'e' then 'enum' when 'd' then 'domain' else 'type' end as word
    from pg_type t join space n on n.oid = t.typnamespace
    where (t.typtype in ('e', 'd', 'r')
        or (t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c')))
      and not exists (select from member m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
), routine as materialized (
    select p.oid, p.prokind, p.proacl, p.proowner, p.proparallel,
        case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end as word,
        format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) as name
    from pg_proc p join space n on n.oid = p.pronamespace
    where not exists (select from member m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)
)
"""

_SCHEMAS = """
select 'schema ' || quote_ident(nspname), 'schema' from space n
where not exists (select from member m where m.classid = 'pg_namespace'::regclass and m.objid = n.oid)
"""

_TABLES = """
select case r.relkind when 'f' then 'foreign table ' else 'table ' end || r.name, concat_ws(' ',
    case r.relpersistence when 'u' then 'unlogged' end,
    case r.relkind when 'f' then 'foreign table' else 'table' end,
    case when r.reloftype <> 0 then 'of ' || r.reloftype::regtype::text end,
    case when a.amname <> 'heap' then 'using ' || quote_ident(a.amname) end,
    case when r.relkind = 'p' then 'partition by ' || pg_get_partkeydef(r.oid) end,
    case when r.relispartition then 'partition of ' else 'inherits ' end || (
        select string_agg(inhparent::regclass::text, ', ' order by inhseqno) from pg_inherits where inhrelid = r.oid),
    pg_get_expr(r.relpartbound, r.oid),
    'server ' || quote_ident(s.srvname),
    'options (' || (select string_agg(o, ', ' order by o collate "C") from unnest(f.ftoptions) o) || ')',
    'with (' || (select string_agg(o, ', ' order by o collate "C") from unnest(r.reloptions) o) || ')',
    'with toast (' || (select string_agg(o, ', ' order by o collate "C")
        from pg_class t, unnest(t.reloptions) o where t.oid = r.reltoastrelid) || ')',
    case when r.relrowsecurity then 'row level security' end,
    case when r.relforcerowsecurity then 'force row level security' end,
    case r.relreplident when 'f' then 'replica identity full' when 'n' then 'replica identity nothing'
        when 'i' then 'replica identity using ' || (
            select indexrelid::regclass::text from pg_index where indrelid = r.oid and indisreplident) end)
from relation r left join pg_am a on a.oid = r.relam
left join pg_foreign_table f on f.ftrelid = r.oid left join pg_foreign_server s on s.oid = f.ftserver
where r.relkind in ('r', 'p', 'f')
"""

# From Postgres 18 on, NOT NULL is a constraint too, with a name that says nothing.
_COLUMNS = """
select 'column ' || r.name || '.' || quote_ident(a.attname), concat_ws(' ',
    format_type(a.atttypid, a.atttypmod),
    case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation::text end,
    case when a.attnotnull then 'not null' end,
    case when n.connoinherit then 'no inherit' end,
    case when not n.convalidated then 'not valid' end,
    case a.attidentity when 'a' then 'generated always as identity'
        when 'd' then 'generated by default as identity' end,
    case a.attgenerated when 's' then 'generated always as (' || d.expression || ') stored'
        when 'v' then 'generated always as (' || d.expression || ') virtual' else 'default ' || d.expression end,
    case when a.attstorage <> t.typstorage then case a.attstorage when 'p' then 'storage plain'
        when 'e' then 'storage external' when 'm' then 'storage main' else 'storage extended' end end,
    case a.attcompression when 'p' then 'compression pglz' when 'l' then 'compression lz4' end,
    case when coalesce(a.attstattarget, -1) >= 0 then 'statistics ' || a.attstattarget end,
    'with (' || (select string_agg(o, ', ' order by o collate "C") from unnest(a.attoptions) o) || ')',
    'options (' || (select string_agg(o, ', ' order by o collate "C") from unnest(a.attfdwoptions) o) || ')')
from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join lateral (select pg_get_expr(adbin, adrelid) as expression
    from pg_attrdef where adrelid = a.attrelid and adnum = a.attnum) d on a.atthasdef
left join pg_constraint n on n.contype = 'n' and n.conrelid = a.attrelid and n.conkey = array[a.attnum]
where r.relkind in ('r', 'p', 'f', 'v', 'm')
"""

# A partition's foreign keys are its parent's, under names that differ from one version to the next.
_CONSTRAINTS = """
select 'constraint ' || o.name || '.' || quote_ident(c.conname), pg_get_constraintdef(c.oid)
from pg_constraint c
join (select oid, 0::oid as typid, name from relation union all select 0, oid, name from kind) o
    on o.oid = c.conrelid and o.typid = c.contypid
where c.contype in ('c', 'f', 'p', 'u', 'x') and (c.contype <> 'f' or c.conparentid = 0)
"""

_INDEXES = """
select 'index ' || i.indexrelid::regclass::text, concat_ws(' ',
    pg_get_indexdef(i.indexrelid),
    'attached to ' || (select inhparent::regclass::text from pg_inherits where inhrelid = i.indexrelid),
    case when i.indisclustered then 'clustered' end,
    case when not i.indisvalid then 'invalid' end)
from pg_index i join relation r on r.oid = i.indrelid
"""

_VIEWS = """
select case r.relkind when 'v' then 'view ' else 'materialized view ' end || r.name, concat_ws(' ',
    case when a.amname <> 'heap' then 'using ' || quote_ident(a.amname) end,
    'with (' || (select string_agg(o, ', ' order by o collate "C") from unnest(r.reloptions) o) || ')',
    pg_get_viewdef(r.oid))
from relation r left join pg_am a on a.oid = r.relam where r.relkind in ('v', 'm')
"""

_ROUTINES = """
select word || ' ' || name, case when prokind <> 'a' then pg_get_functiondef(oid) else (
    select concat_ws(' ', pg_get_function_arguments(routine.oid), 'returns', pg_get_function_result(routine.oid),
        to_jsonb(a) - array['aggfnoid', 'aggtranstype', 'aggmtranstype', 'aggsortop'], a.aggtranstype::regtype,
        a.aggmtranstype::regtype, a.aggsortop::regoperator, proparallel) from pg_aggregate a where a.aggfnoid = oid) end
from routine
"""

# A partition's trigger is its parent's, unless it was switched on or off by itself.
_TRIGGERS = """
select 'trigger ' || r.name || '.' || quote_ident(t.tgname), concat_ws(' ', pg_get_triggerdef(t.oid),
    case t.tgenabled when 'D' then 'disabled' when 'R' then 'on replicas' when 'A' then 'always' end)
from pg_trigger t join relation r on r.oid = t.tgrelid
where not t.tgisinternal
  and not exists (select from pg_trigger p where p.oid = t.tgparentid and p.tgenabled = t.tgenabled)
union all
select 'rule ' || r.name || '.' || quote_ident(w.rulename), concat_ws(' ', pg_get_ruledef(w.oid),
    case w.ev_enabled when 'D' then 'disabled' when 'R' then 'on replicas' when 'A' then 'always' end)
from pg_rewrite w join relation r on r.oid = w.ev_class where w.rulename <> '_RETURN'
union all
select 'event trigger ' || quote_ident(evtname), concat_ws(' ', 'on', evtevent, evtfoid::regprocedure, evttags,
    case evtenabled when 'D' then 'disabled' when 'R' then 'on replicas' when 'A' then 'always' end)
from pg_event_trigger e
where not exists (select from member m where m.classid = 'pg_event_trigger'::regclass and m.objid = e.oid)
"""

_POLICIES = """
select 'policy ' || r.name || '.' || quote_ident(p.polname), concat_ws(' ',
    case when p.polpermissive then 'permissive' else 'restrictive' end,
    'for', case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
        else 'all' end,
    'to', (select string_agg(case who when 0 then 'public' else quote_ident(pg_get_userbyid(who)) end, ', '
        order by pg_get_userbyid(who)) from unnest(p.polroles) who),
    'using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
    'with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
from pg_policy p join relation r on r.oid = p.polrelid
"""

_TYPES = """
select word || ' ' || name, case typtype
    when 'e' then (select coalesce(string_agg(quote_literal(enumlabel), ', ' order by enumsortorder), 'no labels')
        from pg_enum where enumtypid = kind.oid)
    when 'd' then concat_ws(' ', format_type(typbasetype, typtypmod),
        case when typcollation <> (select b.typcollation from pg_type b where b.oid = kind.typbasetype)
            then 'collate ' || typcollation::regcollation::text end,
        case when typnotnull then 'not null' end,
        'default ' || pg_get_expr(typdefaultbin, 0))
    when 'c' then (select '(' || coalesce(string_agg(concat_ws(' ', quote_ident(a.attname),
            format_type(a.atttypid, a.atttypmod),
            case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation::text end),
            ', ' order by a.attnum), '') || ')'
        from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = kind.typrelid and a.attnum > 0 and not a.attisdropped)
    else (select concat_ws(' ', 'range of', rngsubtype::regtype, 'collate ' || nullif(rngcollation, 0)::regcollation,
            'opclass', (select opcname from pg_opclass where oid = rngsubopc),
            'canonical', rngcanonical, 'difference', rngsubdiff, 'multirange', rngmultitypid::regtype)
        from pg_range where rngtypid = kind.oid)
end from kind
"""

# An owned sequence is unlogged as its table is, from Postgres 15 on.
_SEQUENCES = """
select 'sequence ' || r.name, concat_ws(' ',
    case when r.relpersistence = 'u' and o.owner is null then 'unlogged' end,
    format('as %s start %s increment %s minvalue %s maxvalue %s cache %s',
        s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache),
    case when s.seqcycle then 'cycle' end,
    'owned by ' || o.owner)
from relation r join pg_sequence s on s.seqrelid = r.oid
left join lateral (
    select a.attrelid::regclass || '.' || quote_ident(a.attname) as owner
    from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
      and d.deptype in ('a', 'i') and d.refobjsubid > 0) o on true
"""

_STATISTICS = """
select 'statistics ' || format('%I.%I', n.nspname, s.stxname), concat_ws(' ', pg_get_statisticsobjdef(s.oid),
    case when coalesce(s.stxstattarget, -1) >= 0 then 'statistics ' || s.stxstattarget end)
from pg_statistic_ext s join space n on n.oid = s.stxnamespace join relation r on r.oid = s.stxrelid
"""

_EXTENSIONS = """
select 'extension ' || quote_ident(extname), 'in schema ' || extnamespace::regnamespace from pg_extension
"""

# User mappings are left out: their options hold passwords.
_FOREIGN = """
select 'foreign server ' || quote_ident(s.srvname), concat_ws(' ', 'wrapper ' || quote_ident(w.fdwname),
    'type ' || s.srvtype, 'version ' || s.srvversion,
    'options (' || (select string_agg(o, ', ' order by o collate "C") from unnest(s.srvoptions) o) || ')')
from pg_foreign_server s join pg_foreign_data_wrapper w on w.oid = s.srvfdw
where not exists (select from member m where m.classid = 'pg_foreign_server'::regclass and m.objid = s.oid)
union all
select 'foreign data wrapper ' || quote_ident(fdwname), concat_ws(' ', 'handler', fdwhandler::regproc,
    'validator', fdwvalidator::regproc,
    'options (' || (select string_agg(o, ', ' order by o collate "C") from unnest(fdwoptions) o) || ')')
from pg_foreign_data_wrapper w
where not exists (select from member m where m.classid = 'pg_foreign_data_wrapper'::regclass and m.objid = w.oid)
"""

_PUBLICATIONS = """
select 'publication ' || quote_ident(pubname), concat_ws(' ',
    case when puballtables then 'for all tables' else 'for ' || (
        select string_agg(format('%I.%I', t.schemaname, t.tablename)
            || coalesce(' where ' || (to_jsonb(t) ->> 'rowfilter'), ''), ', ' order by t.schemaname, t.tablename)
        from pg_publication_tables t where t.pubname = p.pubname) end,
    case when pubinsert then 'insert' end, case when pubupdate then 'update' end,
    case when pubdelete then 'delete' end, case when pubtruncate then 'truncate' end,
    case when pubviaroot then 'via root' end)
from pg_publication p
where not exists (select from member m where m.classid = 'pg_publication'::regclass and m.objid = p.oid)
"""

# What few databases hold is only known to be there.
_OTHERS = """
select i.type || ' ' || i.identity, 'there'
from (
    select tableoid, oid from pg_am union all select tableoid, oid from pg_cast
    union all select tableoid, oid from pg_collation union all select tableoid, oid from pg_conversion
    union all select tableoid, oid from pg_language union all select tableoid, oid from pg_opclass
    union all select tableoid, oid from pg_operator union all select tableoid, oid from pg_opfamily
    union all select tableoid, oid from pg_transform union all select tableoid, oid from pg_ts_config
    union all select tableoid, oid from pg_ts_dict union all select tableoid, oid from pg_ts_parser
    union all select tableoid, oid from pg_ts_template
) x cross join lateral pg_identify_object(x.tableoid, x.oid, 0) i
where x.oid >= 16384 and (i.schema is null or i.schema in (select quote_ident(nspname) from space))
  and not exists (select from member m where m.classid = x.tableoid and m.objid = x.oid)
"""

# The comment of an extension is its version's; that of schema public may be initdb's.
_COMMENTS = """
select 'comment on ' || i.type || ' ' || i.identity, d.description
from (
    select * from pg_description where objoid >= 16384
    union all
    select d.* from pg_description d join space on oid = objoid and classoid = 'pg_namespace'::regclass
    where oid < 16384 and description <> 'standard public schema'
) d cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) i
where case d.classoid
    when 'pg_extension'::regclass then false
    when 'pg_namespace'::regclass then d.objoid in (select oid from space)
    when 'pg_class'::regclass then d.objoid in (
        select oid from relation union all select indexrelid from pg_index where indrelid in (select oid from relation)
        union all select typrelid from kind where typtype = 'c')
    else i.schema is null or i.schema in (select quote_ident(nspname) from space) end
  and not exists (select from member m where m.classid = d.classoid and m.objid = d.objoid)
"""

_GRANTS = """
select 'grant on ' || o.what || ' to '
        || case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
    string_agg(lower(g.privilege_type) || case when g.is_grantable then ' with grant option' else '' end, ', '
        order by g.privilege_type)
from (
    select case relkind when 'S' then 'sequence ' else 'table ' end || name as what,
        coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)) as acl,
        relowner as owner from relation
    union all
    select 'column ' || r.name || '.' || quote_ident(a.attname), a.attacl, r.relowner
    from relation r join pg_attribute a on a.attrelid = r.oid and not a.attisdropped where a.attacl is not null
    union all
    select word || ' ' || name, coalesce(proacl, acldefault('f', proowner)), proowner from routine
    union all
    select word || ' ' || name, coalesce(typacl, acldefault('T', typowner)), typowner from kind
    union all
    select 'schema ' || quote_ident(nspname), coalesce(nspacl, acldefault('n', nspowner)), nspowner from space
    union all
    select 'foreign server ' || quote_ident(srvname), srvacl, srvowner from pg_foreign_server
    union all
    select 'foreign data wrapper ' || quote_ident(fdwname), fdwacl, fdwowner from pg_foreign_data_wrapper
    union all
    select concat_ws(' ', 'new', case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
            when 'f' then 'functions' when 'T' then 'types' when 'n' then 'schemas' else defaclobjtype::text end,
            'in schema ' || quote_ident(nspname)), defaclacl, defaclrole
    from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace
) o cross join lateral aclexplode(o.acl) g
where g.grantee <> o.owner
group by 1
"""

_ORDER = """
select 'columns ' || r.name, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
where r.relkind in ('r', 'p', 'f') group by r.name
"""

_ALWAYS = (
    _SCHEMAS,
    _TABLES,
    _COLUMNS,
    _CONSTRAINTS,
    _INDEXES,
    _VIEWS,
    _ROUTINES,
    _TRIGGERS,
    _POLICIES,
    _TYPES,
    _SEQUENCES,
    _STATISTICS,
    _EXTENSIONS,
    _FOREIGN,
    _PUBLICATIONS,
    _OTHERS,
    _COMMENTS,
)


def query(*, grants: bool, order: bool) -> str:
    """The query; its one parameter is the names of relations to pass over, with or without their schema."""
    parts = (*_ALWAYS, *([_GRANTS] if grants else []), *([_ORDER] if order else []))
    return _OURS + "union all".join(parts)
