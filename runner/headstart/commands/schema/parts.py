"""A schema in parts, for people: a file for each kind of thing and each schema, in an order in which they load.

Within a part the order is pg_dump's. Between parts it is the kind's, unless something needs what would come later: then
a part has a second file (`12_tables_mart_2.sql`) after that. What an entry needs is read from its text: pg_dump
writes every name with its schema, and names only what it has written before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.commands.schema.files import locate, write_text
from headstart.commands.schema.script import Entry, parse, to_text
from headstart.history.graph import revision_field
from headstart.steps.schema_file import SchemaFile

if TYPE_CHECKING:
    from headstart.steps.run import Run

_TITLE: Final = "-- A part of the schema, written by `headstart schema split`,"

# In this order; those with True have a file for each schema.
_KINDS: Final[dict[str, tuple[bool, tuple[str, ...]]]] = {
    "schemas": (False, ("SCHEMA", "EXTENSION", "PROCEDURAL LANGUAGE", "FOREIGN DATA WRAPPER", "SERVER")),
    "types": (True, ("TYPE", "SHELL TYPE", "DOMAIN", "COLLATION", "ENUM")),
    "functions": (True, ("FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "CAST", "TEXT SEARCH CONFIGURATION")),
    "tables": (
        True,
        ("TABLE", "FOREIGN TABLE", "SEQUENCE", "SEQUENCE OWNED BY", "TABLE ATTACH", "DEFAULT"),
    ),
    "views": (True, ("VIEW", "MATERIALIZED VIEW")),
    "rows": (False, ("TABLE DATA", "SEQUENCE SET")),
    "constraints": (False, ("CONSTRAINT", "CHECK CONSTRAINT")),
    "indexes": (False, ("INDEX", "INDEX ATTACH", "STATISTICS")),
    "foreign_keys": (False, ("FK CONSTRAINT",)),
    "triggers": (False, ("RULE", "TRIGGER", "ROW SECURITY", "POLICY")),
    "publications": (False, ("PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA")),
    "grants": (False, ("ACL", "DEFAULT ACL")),
    "last": (False, ("MATERIALIZED VIEW DATA", "EVENT TRIGGER")),
}
_BY_KIND = {kind: (part, by_schema) for part, (by_schema, kinds) in _KINDS.items() for kind in kinds}
_RANKS = {part: rank for rank, part in enumerate(_KINDS)}
_QUALIFIED = re.compile(r'("(?:[^"]|"")+"|\w+)\.("(?:[^"]|"")+"|\w+)')

# pg_dump puts one of these behind the constraints only if it groups by a primary key.
_MAY_REST_ON_KEYS = {"VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE"}

_Part = tuple[str, str]
"""A kind, and a schema or nothing."""


def split(run: Run, file: str | None, directory: str | None) -> list[Path]:
    """Write the schema file as several, by kind and schema; one after the other they give the same.

    Args:
        run: this run.
        file: the schema file; as for `dump`.
        directory: where they go; the schema file's own folder when left out.

    Returns:
        What there is now, in the order in which they are loaded. What an earlier split has written, and this one does
        not, is removed.

    Raises:
        ConfigurationError: there is no such file, or one cannot be written (10).
    """
    path = locate(run, file)
    schema = SchemaFile.read(path)
    folder = path.parent if directory is None else Path(run.cwd, directory)
    title = f"{_TITLE} of revision {', '.join(schema.revisions)}. Not to be edited: split anew."
    texts = {name: f"{title}\n\n{to_text(entries)}" for name, entries in parts(parse(schema.body))}
    files = filter(Path.is_file, folder.glob("*.sql"))
    before = [each for each in files if each.read_bytes().startswith(_TITLE.encode())]
    for name, text in texts.items():
        write_text(folder / name, text)
    for each in before:
        if each.name not in texts:
            each.unlink()
    run.log.info("schema_split", directory=str(folder), files=len(texts), revision=revision_field(schema.revisions))
    return [folder / name for name in texts]


def parts(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The names of the files, each with what goes into it.

    Args:
        entries: in pg_dump's order.
    """
    found = list(_files(entries))
    width = max(2, len(str(len(found))))
    times: dict[_Part, int] = {}
    for number, (part, inside) in enumerate(found, 1):
        times[part] = times.get(part, 0) + 1
        again = f"_{times[part]}" if times[part] > 1 else ""
        name = "_".join(filter(None, part))
        yield f"{number:0{width}}_{re.sub(r'[^A-Za-z0-9_]+', '_', name)}{again}.sql", inside


def _files(entries: Sequence[Entry]) -> Iterator[tuple[_Part, list[Entry]]]:
    needed = _needed(entries)
    belongs = _find_parts(entries, needed)
    order = sorted(dict.fromkeys(belongs), key=lambda part: _RANKS[part[0]])  # schemas as pg_dump has them
    left = list(range(len(entries)))
    placed: set[int] = set()
    while left:
        for part in order:
            inside = []
            for number in left:
                if belongs[number] == part and needed[number] <= placed:
                    inside.append(number)
                    placed.add(number)
            if inside:
                left = [number for number in left if number not in placed]
                yield part, [entries[number] for number in inside]
                break  # what had to wait for this goes first


def _needed(entries: Sequence[Entry]) -> list[set[int]]:
    """For each entry the numbers of those before it that it names, or that it may rest on without a name."""
    makers: dict[tuple[str, str], list[int]] = {}
    keys: set[int] = set()
    found: list[set[int]] = []
    for number, each in enumerate(entries):
        named = {pair for text in each.statements for pair in _QUALIFIED.findall(text)}
        needs = {maker for one, other in named for maker in makers.get((_unquoted(one), _unquoted(other)), ())}
        if each.kind in _MAY_REST_ON_KEYS:
            needs |= keys
        if each.kind == "CONSTRAINT":
            keys.add(number)
        found.append(needs)
        if each.kind in _BY_KIND:
            makers.setdefault((each.schema, each.name.partition("(")[0]), []).append(number)
    return found


def _find_parts(entries: Sequence[Entry], needed: Sequence[set[int]]) -> list[_Part]:
    found: list[_Part] = []
    for each, needs in zip(entries, needed, strict=True):
        if each.kind in _BY_KIND:
            part, by_schema = _BY_KIND[each.kind]
            found.append((part, each.schema if by_schema and each.schema != "-" else ""))
        elif needs:  # a comment, or a rare kind: beside the last entry that it names
            found.append(max((found[number] for number in needs), key=lambda part: _RANKS[part[0]]))
        else:
            found.append(found[-1] if found else ("schemas", ""))
    return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
