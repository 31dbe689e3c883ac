"""The properties of a database besides its content: encoding and locale, owner, privileges, settings, comment, limits.

pg_restore gives a database its content alone, so the rest is taken from the database that is there already, or, where
that is lost, from what pg_dump wrote down of it (PostgreSQL manual, 'pg_dumpall' and 'pg_restore', --create).
"""

from __future__ import annotations

import re
import tempfile
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from headstart import process
from headstart.backup import folder as folders
from headstart.postgres.server import literal, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headstart.backup.clients import Client
    from headstart.backup.manifest import Backup

#: Settings that hold a list of names, each of which is quoted by itself: GUC_LIST_QUOTE in guc_tables.c; pg_dump's
#: variable_is_guc_list_quote() has the same list.
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

_DATABASE = """
select pg_catalog.to_jsonb(d)::pg_catalog.text as row, pg_catalog.pg_encoding_to_char(d.encoding) as encoding,
       t.spcname as tablespace,
       pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text as owner,
       pg_catalog.shobj_description(d.oid, 'pg_database') as comment
from pg_catalog.pg_database d join pg_catalog.pg_tablespace t on t.oid = d.dattablespace
where d.datname = $1
"""
_PRIVILEGES = """
select case a.grantee when 0 then null else pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text end as grantee,
       a.privilege_type as privilege, a.is_grantable as grantable
from pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
where d.datname = $1
order by 1 nulls first, 2
"""
_SETTINGS = """
select case s.setrole when 0 then null else pg_catalog.pg_get_userbyid(s.setrole)::pg_catalog.text end as role,
       one as setting
from pg_catalog.pg_db_role_setting s join pg_catalog.pg_database d on d.oid = s.setdatabase,
     pg_catalog.unnest(s.setconfig) one
where d.datname = $1
order by 1 nulls first, 2
"""


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that makes a database what it is; the database's name goes between `before` and `after`.

    `label` names it in messages: a setting's value may be a secret. `early` is run before there is any content.
    """

    label: str
    before: str
    after: str
    early: bool = False

    def on(self, database: str) -> str:
        """The statement for a database."""
        return f"{self.before}{quote(database)}{self.after}"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How to create a database like another.

    `options` follows CREATE DATABASE and the name, `comment` follows COMMENT ON DATABASE and the name.
    """

    options: str
    properties: tuple[Property, ...] = ()
    comment: str = " is null"


async def of_live(conn: asyncpg.Connection, database: str) -> Shape:
    """Read the shape of a database that exists.

    Args:
        conn: to any database of the server.
        database: its name.
    """
    found = await conn.fetchrow(_DATABASE, database)
    assert found is not None  # noqa: S101  (the caller has just seen it)
    row: dict[str, Any] = msgspec.json.decode(found["row"])
    privileges = await conn.fetch(_PRIVILEGES, database) if row["datacl"] is not None else None
    settings = await conn.fetch(_SETTINGS, database)
    properties = [
        *_privileges(privileges, found["owner"]),
        *(_setting(each["role"], each["setting"]) for each in settings),
    ]
    if row["datconnlimit"] >= 0:
        after = f" connection limit {row['datconnlimit']}"
        properties.append(Property(label="the connection limit", before="alter database ", after=after))
    if row["datistemplate"]:
        properties.append(Property(label="that it is a template", before="alter database ", after=" is_template true"))
    return Shape(
        options=_options(row, found["encoding"], found["tablespace"], found["owner"]),
        properties=tuple(properties),
        comment=" is null" if found["comment"] is None else f" is {literal(found['comment'])}",
    )


def _options(row: Mapping[str, Any], encoding: str, tablespace: str, owner: str) -> str:
    words = [
        f"template template0 owner {quote(owner)} encoding {literal(encoding)}",
        f"lc_collate {literal(row['datcollate'])} lc_ctype {literal(row['datctype'])}",
    ]
    provider = _PROVIDERS.get(row.get("datlocprovider") or "c", "libc")  # servers of 14 have libc alone
    if "datlocprovider" in row:
        words.append(f"locale_provider {provider}")
    locale = row.get("datlocale") or row.get("daticulocale")  # the name until 16 was the latter
    if provider != "libc" and locale:
        words.append(f"{provider}_locale {literal(locale)}")
    if row.get("daticurules"):
        words.append(f"icu_rules {literal(row['daticurules'])}")
    if tablespace != "pg_default":
        words.append(f"tablespace {quote(tablespace)}")
    return " ".join(words)


def _privileges(rows: list[asyncpg.Record] | None, owner: str) -> Iterator[Property]:
    """The privileges granted; nothing if the defaults apply (the column is null then)."""
    if rows is None:
        return
    for name, who in (("PUBLIC", "public"), (owner, quote(owner))):
        after = f" from {who}"
        yield Property(label=f"privileges of {name}", before="revoke all on database ", after=after, early=True)
    for row in rows:
        who = "public" if row["grantee"] is None else quote(row["grantee"])
        yield Property(
            label=f"{row['privilege']} for {row['grantee'] or 'PUBLIC'}",
            before=f"grant {row['privilege']} on database ",
            after=f" to {who}" + (" with grant option" if row["grantable"] else ""),
            early=True,
        )


def _setting(role: str | None, setting: str) -> Property:
    name, _, value = setting.partition("=")
    values = [literal(each) for each in elements(value)] if name.lower() in _LISTS else [literal(value)]
    dotted = ".".join(quote(part) for part in name.split("."))
    after = f" set {dotted} to {', '.join(values) or literal('')}"
    if role is None:
        return Property(label=f"the setting {name}", before="alter database ", after=after)
    before = f"alter role {quote(role)} in database "
    return Property(label=f"the setting {name} of role {role}", before=before, after=after)


def elements(value: str) -> list[str]:
    """The names in a list as the catalog spells it, `"$user", public`, without their quotes."""
    return [
        match[1].replace('""', '"') if match[1] is not None else match[2]
        for match in _ELEMENT.finditer(value)
        if match[0]
    ]


# -- from a dump ------------------------------------------------------------------------------------------------------

_ENTRY = re.compile(
    rb"^\d+; \d+ \d+ (?:DATABASE|DATABASE PROPERTIES|(?:ACL|COMMENT|SECURITY LABEL) - DATABASE) .*", re.MULTILINE
)
_META = re.compile(r"^\\(?:encoding|connect|restrict|unrestrict)\b.*$", re.MULTILINE)
_CREATED = re.compile(r"\s+WITH (TEMPLATE = template0.*)", re.DOTALL)
_HEADS = re.compile(
    r"(ALTER DATABASE |ALTER ROLE .+? IN DATABASE |COMMENT ON DATABASE |GRANT [\w ,]+ ON DATABASE |"
    r"REVOKE [\w ,]+ ON DATABASE |SECURITY LABEL .+? ON DATABASE )",
    re.DOTALL,
)


async def of_dump(client: Client, backup: Backup, *, env: Mapping[str, str]) -> Shape:
    """Read the shape of a lost database from its dump.

    Args:
        client: that can read the dump.
        backup: the dump's.
        env: the environment of a program that connects to nothing.
    """
    dump = str(backup.path / folders.DUMP)
    command = [str(client.pg_restore), "--create"]
    listed = await process.run([*command, "--list", dump], env=env, redact=str, capture=True)
    with tempfile.NamedTemporaryFile(prefix="headstart-") as file:
        file.write(b"\n".join(_ENTRY.findall(listed.stdout)) + b"\n")
        file.flush()
        wanted = [*command, f"--use-list={file.name}", "--file=-", dump]
        printed = await process.run(wanted, env=env, redact=str, capture=True)
    return read(printed.stdout.decode("utf-8", "replace"), backup.manifest.database)


def read(text: str, database: str) -> Shape:
    """Find the statements about the database itself in pg_restore's text.

    Args:
        text: SQL, with psql's commands between.
        database: the name that it has there.
    """
    from headstart.sql.script import ScriptError, split

    shape = Shape(options="template template0")
    properties: list[Property] = []
    try:
        statements = [one.text for one in split(_META.sub("", text), standard_conforming=True)]
    except ScriptError:  # a pg_restore that writes something new: the content can be restored all the same
        statements = []
    for sql in statements:
        if (rest := _without_name(sql.removeprefix("CREATE DATABASE "), database)) is not None:
            created = _CREATED.match(rest)
            shape = shape if created is None else msgspec.structs.replace(shape, options=created[1])
        elif (head := _HEADS.match(sql)) and (rest := _without_name(sql[head.end() :], database)) is not None:
            if head[1].startswith("COMMENT"):
                shape = msgspec.structs.replace(shape, comment=rest)
            else:
                properties.append(_property(head[1], rest))
    return msgspec.structs.replace(shape, properties=tuple(properties))


def _without_name(sql: str, database: str) -> str | None:
    """What follows the database's name, which pg_dump quotes where it has to; None if the text begins otherwise."""
    for name in (quote(database), database):
        if sql.startswith(name) and not sql[len(name) : len(name) + 1].isalnum():
            return sql[len(name) :]
    return None


def _property(before: str, after: str) -> Property:
    owner = before == "ALTER DATABASE " and after.startswith(" OWNER TO ")
    setting = re.match(r" SET (\S+) ", after)
    label = f"the setting {setting[1]}" if setting else " ".join(before.split())
    return Property(
        label="the owner" if owner else label,
        before=before,
        after=after,
        early=owner or before.startswith(("GRANT", "REVOKE")),
    )
