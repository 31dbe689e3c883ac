"""The properties of a database besides its content: encoding and locale, owner, privileges, settings, comment, limits.

pg_restore gives a database its content alone, so the rest is what pg_dump writes of the database that is there already,
or, where that is lost or cannot be read, what it wrote of it into the backup (PostgreSQL manual, 'pg_dump', --create).
"""

from __future__ import annotations

import re
import tempfile
from typing import TYPE_CHECKING

import msgspec

from headstart.backup import folder as folders
from headstart.log import process
from headstart.postgres.server import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.clients import Client
    from headstart.backup.manifest import Backup

OWNER = "the owner"
#: The first major version whose CREATE DATABASE knows providers of locales.
PROVIDERS = 15

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

    `options` follows CREATE DATABASE and the name.
    """

    options: str
    properties: tuple[Property, ...] = ()


async def of_live(
    client: Client,
    database: str,
    *,
    env: Mapping[str, str],
    log: FilteringBoundLogger,
    redact: Callable[[str], str],
) -> Shape | None:
    """Read the shape of a database that exists; None where pg_dump cannot, and the log says why.

    Args:
        client: whose pg_dump reads it.
        database: its name.
        env: the child's whole environment, which names the database.
        log: receives what pg_dump prints.
        redact: takes secrets out of that.
    """

    def report(line: str) -> None:
        log.warning("pg_dump_said", line=line)

    command = [str(client.pg_dump), "--no-password", "--create", "--schema-only", "--exclude-schema=*"]
    printed = await process.run(command, env=env, redact=redact, on_line=report, capture=True)
    return read(printed.stdout.decode("utf-8", "replace"), database) if printed.ok else None


async def of_dump(client: Client, backup: Backup, *, env: Mapping[str, str]) -> Shape:
    """Read the shape that a database had when it was backed up.

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
    """Find the statements about the database itself in the text of pg_dump or pg_restore.

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
        label=OWNER if owner else label,
        before=before,
        after=after,
        early=owner or before.startswith(("GRANT", "REVOKE")),
    )
