"""A schema full of impostors: functions, views, types and operators with the names of Postgres' own.

Each leaves a trace when it is used, in a sequence: no rollback takes that back.
"""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import headstart
from support.postgres import identifier, psql, script

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "impostors"
_TYPES = ("text", "int8", "int4", "name", "oid", "bool", "float8", "regclass", "regtype", "regnamespace", "char")
_OPERATORS = ("=", "<>", "<", ">", "<<", "|", "||", "-", "->>", "~", "!~", "~~", "!~~")
# The best match for what is given to functions whose own parameters plpgsql does not know.
_VARIADIC = ("format(text, name, name)", "concat_ws(text, text, text)", "unnest(text[])", "unnest(int4[])")


def shadow(url: str) -> None:
    """Put an impostor beside each name of pg_catalog's that our SQL has, and the impostors first in the search path."""
    words = _words()
    statements = [f"create schema {SCHEMA}"]
    traces = count()

    def body(name: str, *, rows: bool) -> str:
        trace = f"{SCHEMA}.{identifier(f'{name} {next(traces)}'[-63:])}"
        statements.append(f"create sequence {trace}")
        last = "return" if rows else "return null"
        code = f"begin perform pg_catalog.nextval('{trace}'); {last}; end"
        return f"language plpgsql set search_path = pg_catalog as $impostor$ {code} $impostor$"

    functions = psql(
        url,
        "select p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),"
        " p.proretset or p.proargmodes is not null or p.prorettype = 'void'::regtype from pg_proc p"
        " where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.proname = any($1)"
        " and not p.proargtypes::oid[] && array['\"any\"'::regtype, 'internal'::regtype, 'cstring'::regtype]::oid[]"
        " and p.prorettype <> all (array['internal'::regtype, 'cstring'::regtype, 'trigger'::regtype])",
        sorted(words),
    )
    for name, arguments, result, rows in functions:
        head = f"create function {SCHEMA}.{identifier(name)}({arguments}) returns {result}"
        statements.append(f"{head} {body(name, rows=rows)}")
    for signature in _VARIADIC:
        head = f"create or replace function {SCHEMA}.{signature} returns text"
        if not signature.startswith("unnest"):
            statements.append(f"{head} {body(signature, rows=False)}")

    operators = psql(
        url,
        "select oprname, oprleft::regtype::text, oprright::regtype::text, oprresult::regtype::text from pg_operator"
        " where oprname = any($1) and oprleft::regtype::text = any($2) and oprright::regtype::text = any($2)"
        " and oprkind = 'b'",
        list(_OPERATORS),
        ["text", "bigint", "integer", "name", "oid", '"char"', "regclass", "boolean", "xid"],
    )
    for at, (name, left, right, result) in enumerate(operators):
        function = f"{SCHEMA}.operator_{at}"
        statements.append(f"create function {function}({left}, {right}) returns {result} {body(name, rows=False)}")
        statements.append(
            f"create operator {SCHEMA}.{name} (leftarg = {left}, rightarg = {right}, function = {function})"
        )

    for each in _TYPES:
        check = f"{SCHEMA}.check_{each}"
        statements.append(f'create function {check}(pg_catalog."{each}") returns bool {body(each, rows=False)}')
        statements.append(f'create domain {SCHEMA}."{each}" as pg_catalog."{each}" check ({check}(value))')

    views = psql(
        url,
        "select c.relname, string_agg(quote_ident(a.attname), ', ') from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid and not a.attisdropped and a.atttypid <> 'anyarray'::regtype"
        " where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind in ('r', 'v') and c.relname = any($1)"
        " group by 1",
        sorted(words),
    )
    for name, columns in views:
        check = f"{SCHEMA}.{identifier(f'read {name}')}"
        statements.append(f"create function {check}() returns bool {body(name, rows=False)}")
        select = f"select {columns} from pg_catalog.{name} where {check}() is null"
        statements.append(f"create view {SCHEMA}.{name} as {select}")
    script(url, ";\n".join(statements))
    database = identifier(url.rpartition("/")[2])
    script(url, f"alter database {database} set search_path = {SCHEMA}, pg_catalog, public")


def used(url: str) -> list[str]:
    """Which impostors were used."""
    query = (
        "select pg_catalog.rtrim(s.sequencename, '0123456789 ') from pg_catalog.pg_sequences s"
        " where s.schemaname operator(pg_catalog.=) 'impostors' and s.last_value is not null"
    )
    return sorted(name for (name,) in psql(url + "?options=-csearch_path%3Dpg_catalog", query))


def _words() -> set[str]:
    return {word for path in _sources() for word in re.findall(r"[a-z_0-9]+", path.read_text(encoding="utf-8"))}


def _sources() -> Iterator[Path]:
    return Path(headstart.__file__).parent.rglob("*.py")
