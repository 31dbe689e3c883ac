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
    and a.attcollation operator(pg_catalog.<>) 0)"""
"""Whether `c` has Alembic's column, of text. Without it, `t.version_num` would call the function `version_num(t)`."""

_LOOK = """
select (current_user)::pg_catalog.text, pg_catalog.current_schema()::pg_catalog.text,
       c.oid::pg_catalog.int8, n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
       pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
       pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) session_user
       or pg_catalog.pg_has_role(c.relowner, 'member'),
       c.relkind operator(pg_catalog.=) 'r' or c.relkind operator(pg_catalog.=) 'p', c.relhasrules,
       {has_revisions}, {plain},
       pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.<>) all (array[session_user, current_user, (
           select pg_catalog.pg_get_userbyid(d.datdba) from pg_catalog.pg_database d
           where d.datname operator(pg_catalog.=) pg_catalog.current_database())])
from (select) asked left join
    (pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace) on
    {which}
limit 1
"""
_NAMED = """c.relname operator(pg_catalog.=) {name}::pg_catalog.name
    and n.nspname operator(pg_catalog.=) any ({schemas}::pg_catalog.name[])
    order by pg_catalog.array_position({schemas}::pg_catalog.name[], n.nspname)"""

# What the owner of the table, or of a function that somebody has put on it, makes a read or a write execute: of the
# table itself, and of the tables that inherit from it or are its partitions.
_EXECUTES = """
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
), part (oid, owner, theirs, is_child, has_policies) as (
    select c.oid, c.relowner, not exists (select from trusted t where t.oid operator(pg_catalog.=) c.relowner),
           c.oid operator(pg_catalog.<>) '{oid}'::pg_catalog.oid, c.relrowsecurity
    from tree join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) tree.oid
), expression (class, oid, theirs, what) as (
    select k.tableoid, k.oid, part.theirs, pg_catalog.concat('constraint ', k.conname)
    from pg_catalog.pg_constraint k join part on part.oid operator(pg_catalog.=) k.conrelid
    where k.contype operator(pg_catalog.<>) all (array['p', 'u', 'n']::pg_catalog."char"[])
    union all
    select d.tableoid, d.oid, part.theirs, 'expression of a column'
    from pg_catalog.pg_attrdef d join part on part.oid operator(pg_catalog.=) d.adrelid
    union all
    select 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, part.theirs, 'expression of an index'
    from pg_catalog.pg_index i join part on part.oid operator(pg_catalog.=) i.indrelid
    where i.indexprs is not null or i.indpred is not null
)
select 'owner', '' from part where part.theirs and not part.is_child
union
select 'read', 'row security policies' from part where part.theirs and part.has_policies and not part.is_child
union
select 'read', pg_catalog.concat('inheritance children that ', pg_catalog.pg_get_userbyid(part.owner), ' owns')
from part where part.is_child and (part.theirs or exists (select from part p where p.theirs and not p.is_child))
union
select 'write', pg_catalog.concat('trigger ', t.tgname)
from part join pg_catalog.pg_trigger t on t.tgrelid operator(pg_catalog.=) part.oid
join pg_catalog.pg_proc p on p.oid operator(pg_catalog.=) t.tgfoid
where not t.tgisinternal and not exists (select from trusted where trusted.oid operator(pg_catalog.=) p.proowner)
union
select 'write', e.what from expression e where e.theirs or exists (
    select from pg_catalog.pg_depend d join pg_catalog.pg_proc p on p.oid operator(pg_catalog.=) d.refobjid
    where d.classid operator(pg_catalog.=) e.class and d.objid operator(pg_catalog.=) e.oid
    and d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    and not exists (select from trusted where trusted.oid operator(pg_catalog.=) p.proowner))
union
select 'write', pg_catalog.concat('type of the column ', a.attname)
from part join pg_catalog.pg_attribute a on a.attrelid operator(pg_catalog.=) part.oid
join pg_catalog.pg_type t on t.oid operator(pg_catalog.=) a.atttypid
where not exists (select from trusted where trusted.oid operator(pg_catalog.=) t.typowner)
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
    foreign: bool = False
    """Whether its owner is neither we nor the database's: who may exchange it for a view between a look and a read."""

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
    ((user, default, oid, *found),) = yield _LOOK.format(has_revisions=HAS_REVISIONS, plain=PLAIN, which=which)
    if oid is None:
        return Looked(user, default, None)
    schema, name, owner, ours, is_table, has_rules, has_revisions, plain, foreign = found
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
    rows = yield _EXECUTES.format(oid=oid)
    reads = [what for kind, what in rows if kind == "read"]
    if reads:
        raise refused(table, f"has {' and '.join(reads)}")
    writes = [what for kind, what in rows if kind == "write"]
    if writes and writing:
        raise RefusedError(
            f"a write to the version table {table} (owner {owner}) would execute code of another role:"
            f" {', '.join(writes)}",
            hint=f"see who made it, and drop it or the table: \\d {table} in psql shows it",
            owner=owner,
        )
    trusted = ours or "owner" not in {kind for kind, _ in rows}
    return Looked(user, default, msgspec.structs.replace(table, trusted=trusted))


def refused(table: VersionTable, cause: str) -> RefusedError:
    """The error of a table that may not be used."""
    return RefusedError(
        f"the version table {table} cannot be trusted: it {cause}, and its owner is {table.owner}",
        hint=f"see who created it. If it is not yours, drop it; if it is, let the database's owner own it:"
        f" alter table {table} owner to ...",
        owner=table.owner,
    )


def lock_of(table: VersionTable) -> str:
    """SQL that keeps a table what it is to the transaction's end, and keeps nobody from reading or writing it."""
    return f"lock table {table} in access share mode"
