"""Whether a table may be read or written: whose code that would execute.

Two sessions ask: the supervisor's, by asyncpg, and env.py's own, by its driver and in its search path. `look` is the
judgement of both: a generator that yields SQL and is sent the rows. In env.py's search path nothing of ours may be
looked up, so each operator is qualified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headstart.errors import ConfigurationError, RefusedError
from headstart.postgres.server import literal, quote

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

PLAIN: Final = """(c.relkind operator(pg_catalog.=) 'r' and not c.relhasrules and not c.relhassubclass
    and not c.relrowsecurity)"""
"""Whether a read of `c` in pg_class executes nothing, whoever owns it."""
HAS_REVISIONS: Final = """exists (select from pg_catalog.pg_attribute a
    where a.attrelid operator(pg_catalog.=) c.oid and a.attname operator(pg_catalog.=) 'version_num'
    and a.attcollation operator(pg_catalog.<>) 0 and exists (
        select from pg_catalog.pg_type t where t.oid operator(pg_catalog.=) a.atttypid
        and t.typcategory operator(pg_catalog.<>) 'A'))"""
"""Whether `c` has Alembic's column, of text. Without it, `t.version_num` would call the function `version_num(t)`."""

_IN_THE_WAY: Final = """(
    select pg_catalog.min(pg_catalog.concat(pg_catalog.pg_describe_object(o.tableoid, o.oid, 0), ' of ', r.rolname))
    from pg_catalog.pg_operator o join pg_catalog.pg_namespace s on s.oid operator(pg_catalog.=) o.oprnamespace
    join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) o.oprowner
    join pg_catalog.pg_roles me on me.rolname operator(pg_catalog.=) current_user
    where o.oprname operator(pg_catalog.=) any ('{=,<>}'::pg_catalog.name[])
    and s.nspname operator(pg_catalog.<>) 'pg_catalog'
    and s.nspname operator(pg_catalog.=) any (pg_catalog.current_schemas(true))
    and not exists (
        select from pg_catalog.pg_type t where t.oid operator(pg_catalog.=) any (array[o.oprleft, o.oprright])
        and t.typnamespace operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace)
    and not r.rolsuper and r.oid operator(pg_catalog.<>) me.oid and r.rolname operator(pg_catalog.<>) session_user
    and (me.rolsuper or not pg_catalog.pg_has_role(r.oid, 'member')) and r.oid operator(pg_catalog.<>) (
        select d.datdba from pg_catalog.pg_database d
        where d.datname operator(pg_catalog.=) pg_catalog.current_database()))"""
"""An operator of somebody else's on the search path, between built-in types: where its types fit better than those of
Postgres' own, Alembic's and SQLAlchemy's SQL calls it. PostgreSQL manual, 'Operator Type Resolution'."""

_LOOK = """
select (current_user)::pg_catalog.text, pg_catalog.current_schema()::pg_catalog.text,
       c.oid::pg_catalog.int8, n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
       pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) session_user
       or pg_catalog.pg_has_role(c.relowner, 'member'),
       c.relkind operator(pg_catalog.=) 'r' or c.relkind operator(pg_catalog.=) 'p', c.relhasrules,
       {has_revisions}, {plain}, c.relrowsecurity,
       pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.<>) all (array[session_user, current_user, (
           select pg_catalog.pg_get_userbyid(d.datdba) from pg_catalog.pg_database d
           where d.datname operator(pg_catalog.=) pg_catalog.current_database())]),
       {in_the_way}
from (select) asked left join
    (pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace) on
    {which}
limit 1
"""
_NAMED = """c.relname operator(pg_catalog.=) {name}::pg_catalog.name
    and n.nspname operator(pg_catalog.=) any ({schemas}::pg_catalog.name[])
    order by pg_catalog.array_position({schemas}::pg_catalog.name[], n.nspname)"""

# What belongs to roles that we have no reason to trust: the table, its children, the code that a read or a write
# executes, and the table's place.
#
# Code is functions, operators and types: whoever owns one may change what it does. `reached` is what the table and its
# children depend on, by pg_depend, in any number of steps. A part depends on its whole as 'a' or 'i': constraints,
# defaults, indexes, triggers and policies on their table, a CHECK on its domain, functions on their operator class.
#
# Another table can be put in the table's place by the owner of its schema, and by whoever may create a table in a
# schema that comes before it in the search path, or such a schema.
_JUDGE = """
with recursive member (oid) as (
    select r.oid from pg_catalog.pg_roles r
    where r.rolname operator(pg_catalog.=) session_user or r.rolname operator(pg_catalog.=) current_user
    union
    select m.roleid from pg_catalog.pg_auth_members m join member on m.member operator(pg_catalog.=) member.oid
), trusted (oid) as (
    select member.oid from member
    union
    select r.oid from pg_catalog.pg_roles r
    where r.rolsuper or r.rolname operator(pg_catalog.=) 'pg_database_owner'
    union
    select d.datdba from pg_catalog.pg_database d
    where d.datname operator(pg_catalog.=) pg_catalog.current_database()
), tree (oid) as (
    select '{oid}'::pg_catalog.oid
    union
    select i.inhrelid from pg_catalog.pg_inherits i join tree on i.inhparent operator(pg_catalog.=) tree.oid
), reached (class, oid) as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, tree.oid from tree
    union
    select next.class, next.oid from reached cross join lateral (
        select d.refclassid, d.refobjid from pg_catalog.pg_depend d
        where d.classid operator(pg_catalog.=) reached.class and d.objid operator(pg_catalog.=) reached.oid
        union all
        select d.classid, d.objid from pg_catalog.pg_depend d
        where d.refclassid operator(pg_catalog.=) reached.class and d.refobjid operator(pg_catalog.=) reached.oid
        and d.deptype operator(pg_catalog.=) any ('{{a,i}}'::pg_catalog."char"[])
        and d.refclassid operator(pg_catalog.=) any (
            '{{pg_catalog.pg_class,pg_catalog.pg_type,pg_catalog.pg_opclass}}'::pg_catalog.regclass[])
        and d.classid operator(pg_catalog.<>) 'pg_catalog.pg_type'::pg_catalog.regclass
    ) next (class, oid)
), path (owner, acl) as (
    select d.datdba, d.datacl from pg_catalog.pg_database d
    where d.datname operator(pg_catalog.=) pg_catalog.current_database()
    union all
    select n.nspowner, case when n.nspname operator(pg_catalog.<>) {schema} then n.nspacl end
    from pg_catalog.pg_namespace n, pg_catalog.current_schemas(true) schemas (names)
    where n.nspname operator(pg_catalog.=) {schema} or pg_catalog.array_position(names, n.nspname)
        operator(pg_catalog.<) pg_catalog.array_position(names, {schema})
), found (kind, what, owner) as (
    select case when c.oid operator(pg_catalog.=) '{oid}'::pg_catalog.oid then 'owner' else 'child' end, '', c.relowner
    from tree join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) tree.oid
    union all
    select 'code', pg_catalog.pg_describe_object(reached.class, reached.oid, 0), code.owner
    from reached cross join lateral (
        select p.proowner from pg_catalog.pg_proc p
        where p.tableoid operator(pg_catalog.=) reached.class and p.oid operator(pg_catalog.=) reached.oid
        union all
        select o.oprowner from pg_catalog.pg_operator o
        where o.tableoid operator(pg_catalog.=) reached.class and o.oid operator(pg_catalog.=) reached.oid
        union all
        select t.typowner from pg_catalog.pg_type t
        where t.tableoid operator(pg_catalog.=) reached.class and t.oid operator(pg_catalog.=) reached.oid
    ) code (owner)
    union all
    select 'place', '', path.owner from path
    union all
    select 'place', '', may.grantee from path, pg_catalog.aclexplode(path.acl) may
    where may.privilege_type operator(pg_catalog.=) 'CREATE'
)
select distinct found.kind, pg_catalog.concat(found.what, ' of ', pg_catalog.pg_get_userbyid(found.owner))
from found where not exists (select from trusted where trusted.oid operator(pg_catalog.=) found.owner)
order by 1, 2
"""


class VersionTable(msgspec.Struct, frozen=True):
    """A version table that may be read."""

    oid: int
    schema: str
    name: str
    owner: str
    trusted: bool
    """Whether we, or roles that we may act as, own it; or else, if it was looked at for a write, somebody we trust."""
    exposed: bool = False
    """Whether somebody else may put another in its place between a look and a read, or a write. For a read that is the
    owner, unless we or the database's owner are it; for a write it is whom we have no reason to trust."""

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


class Looked(NamedTuple):
    """What was found: the session's role, the schema in which it makes things, and the table, if it is there."""

    user: str
    schema: str | None
    table: VersionTable | None


def by_name(name: str, schemas: str) -> str:
    """The condition by which `look` finds a table.

    Args:
        name: of the table.
        schemas: SQL for an array of the schemas that are looked through, in order.
    """
    return _NAMED.format(name=literal(name), schemas=schemas)


def array(schemas: Iterable[str]) -> str:
    """SQL for an array of names."""
    return f"array[{', '.join(literal(each) for each in schemas)}]"


def look(which: str, *, writing: bool) -> Generator[str, Sequence[Sequence[Any]], Looked]:
    """Look for the version table in the catalog, and judge whether it may be read, or written.

    Yields:
        SQL, of which the rows are to be sent.

    Args:
        which: from `by_name`, or another condition on `c` and `n` in pg_class and pg_namespace.
        writing: whether it is to be written, too.

    Raises:
        RefusedError: that would execute code of a role that we have no reason to trust (21).
        ConfigurationError: it is not Alembic's (10).
    """
    query = _LOOK.format(has_revisions=HAS_REVISIONS, plain=PLAIN, which=which, in_the_way=_IN_THE_WAY)
    ((user, default, oid, *found, in_the_way),) = yield query
    if in_the_way is not None:
        raise RefusedError(
            f"on the search path is an {in_the_way}, which would be taken for Postgres' own",
            hint="see who made it, and drop it; revoke create on its schema from whom you do not trust",
        )
    if oid is None:
        return Looked(user, default, None)
    schema, name, owner, ours, is_table, has_rules, has_revisions, plain, has_policies, foreign = found
    table = VersionTable(oid, schema, name, owner, ours, foreign)
    if not is_table or has_rules:
        raise refused(table, "has rules" if is_table else "is not an ordinary table")
    if not has_revisions:
        raise ConfigurationError(
            f"the table {table} has no column version_num of text: it is not Alembic's",
            hint="set another version_table in env.py, or rename that table",
        )
    if plain and not writing:
        return Looked(user, default, table)
    of_others: dict[str, list[str]] = {}
    for kind, what in (yield _JUDGE.format(oid=oid, schema=f"{literal(schema)}::pg_catalog.name")):
        of_others.setdefault(kind, []).append(what)
    if "child" in of_others:
        raise refused(table, f"has inheritance children{', '.join(of_others['child'])}")
    if "code" in of_others and (writing or has_policies):
        raise RefusedError(
            f"a {'write to' if writing else 'read of'} the version table {table}, whose owner is {owner}, would execute"
            f" code of another role: {', '.join(of_others['code'])}",
            hint=f"see who made it, and drop it or the table: \\d {table} in psql shows it",
            owner=owner,
        )
    if writing:
        trusted = ours or "owner" not in of_others
        table = msgspec.structs.replace(table, trusted=trusted, exposed=not {"owner", "place"}.isdisjoint(of_others))
    return Looked(user, default, table)


def all_named(table: VersionTable | str, rows: Iterable[str | None]) -> tuple[str, ...]:
    """The revisions that a table holds.

    Raises:
        ConfigurationError: a row is null (10).
    """
    found = tuple(rows)
    if None in found:
        raise ConfigurationError(
            f"the version table {table} has a row without a revision",
            hint=f"delete from {table} where version_num is null",  # noqa: S608  (quoted, and for people)
        )
    return tuple(each for each in found if each is not None)


def refused(table: VersionTable, cause: str) -> RefusedError:
    """The error of a table that may not be used."""
    return RefusedError(
        f"the version table {table} cannot be trusted: it {cause}, and its owner is {table.owner}",
        hint=f"see who created it. If it is not yours, drop it; if it is, let the database's owner own it:"
        f" alter table {table} owner to ...",
        owner=table.owner,
    )


def lock_of(table: VersionTable, *, writing: bool) -> str:
    """SQL that keeps a table what it is to the transaction's end, and keeps nobody from reading or writing it.

    Args:
        table: that was looked at.
        writing: whether triggers are to be kept away, too; it needs the privilege to write.
    """
    return f"lock table {table} in {'row exclusive' if writing else 'access share'} mode"
