"""What pg_dump writes as text, taken apart into its entries and put together again: the same for every major version.

An entry is what pg_dump announces in a comment, such as `-- Name: companies; Type: TABLE; Schema: public; Owner: -`.
The SET lines of its head, which differ from version to version, are replaced by ours; lines that name the version or a
random key are left out. PostgreSQL manual: 'pg_dump'.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import msgspec

from headstart.sql.script import Statement, split

PREAMBLE: Final = """\
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_table_access_method = heap;
"""
"""What pg_dump sets too, but for its timeouts, which are the session's own affair."""

_HEADER = re.compile(
    r"^--\n-- (?:Data for )?Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*?)(?:; Owner: .*)?\n--$",
    re.MULTILINE,
)
_SET_METHOD: Final = "SET default_table_access_method = "
_HEAP: Final = "heap"
_STORED = {"TABLE", "MATERIALIZED VIEW"}
ROWS: Final = "TABLE DATA"
# From Postgres 18 on, NOT NULL has a name; that of another table's column is one that Postgres gave it.
_NOT_NULL = re.compile(
    r'^(    "?(?P<column>[^\s"]+)"? .*?) CONSTRAINT "?[^\s"]*_(?P=column)_not_null"? NOT NULL', re.MULTILINE
)
_TWO_BLANKS = re.compile(r"( ON [A-Z]+)  (?=TO |FROM )")  # of pg_dump before 16


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of a dump.

    Args:
        name: as pg_dump announces it: without its schema; of a constraint, with its table.
        kind: pg_dump's word for it, such as TABLE or FK CONSTRAINT.
        schema: the schema it is in, `-` for what is in none.
        statements: its SQL, without semicolons.
    """

    name: str
    kind: str
    schema: str
    statements: tuple[str, ...]

    def __str__(self) -> str:
        lines = f"--\n-- Name: {self.name}; Type: {self.kind}; Schema: {self.schema}\n--\n\n"
        between = "\n" if self.kind == ROWS else "\n\n"
        return lines + between.join(f"{each};" for each in self.statements) + "\n"

    @property
    def label(self) -> str:
        """How a message names it."""
        return f"{self.kind.lower()} {self.name if self.schema == '-' else f'{self.schema}.{self.name}'}"


def parse(text: str) -> list[Entry]:
    """Take a dump apart, pg_dump's own or ours.

    Args:
        text: plain text, without COPY data.
    """
    statements = split(text)
    starts = [each.start for each in statements]

    def outside(offset: int) -> bool:
        at = bisect_right(starts, offset) - 1
        return at < 0 or offset >= starts[at] + len(statements[at].text)

    headers = [match for match in _HEADER.finditer(text) if outside(match.start())]
    ends = [*(match.start() for match in headers[1:]), len(text)]
    methods = _methods(statements)
    entries = []
    for header, end in zip(headers, ends, strict=True):
        own = range(bisect_right(starts, header.end()), bisect_right(starts, end))
        numbers = [number for number in own if statements[number].keyword != "SET"]
        texts = [statements[number].text for number in numbers]
        if numbers and methods[numbers[0]] != _HEAP and header["kind"] in _STORED:
            texts = [_SET_METHOD + methods[numbers[0]], *texts, _SET_METHOD + _HEAP]
        entries.append(Entry(**header.groupdict(), statements=tuple(texts)))
    return entries


def _methods(statements: Iterable[Statement]) -> list[str]:
    """The table access method in force at each statement: pg_dump sets it for all that follow."""
    found, method = [], _HEAP
    for each in statements:
        if each.text.startswith(_SET_METHOD):
            method = each.text.removeprefix(_SET_METHOD)
        found.append(method)
    return found


def normalised(entries: Iterable[Entry], *, version_table: str, owner: str, unmoved: Collection[str]) -> list[Entry]:
    """Leave out what does not describe the schema, and what is true only of the server that was dumped.

    Out go the rows of the version table, tables without rows, sequences that stand where they begin, and the comments
    of extensions, which come with their version. Privileges name the owner as CURRENT_USER.

    Args:
        entries: of pg_dump.
        version_table: Alembic's, with its schema, as SQL quotes it.
        owner: the role that has made everything, as SQL quotes it.
        unmoved: the statements that would set a sequence to where it begins.
    """
    of_owner = re.compile(rf"\b(FROM|TO|ROLE) {re.escape(owner)}(?=\s|$)")
    found = []
    for each in entries:
        first = each.statements[0] if each.statements else ""
        if (
            not first
            or (each.kind == ROWS and first.startswith(f"INSERT INTO {version_table} "))
            or first in unmoved
            or (each.kind == "COMMENT" and each.name.startswith("EXTENSION "))
        ):
            continue
        found.append(msgspec.structs.replace(each, statements=tuple(_same(each.kind, each.statements, of_owner))))
    return found


def _same(kind: str, statements: Iterable[str], of_owner: re.Pattern[str]) -> Iterator[str]:
    """Statements in the spelling that every version shares."""
    for each in statements:
        if kind == "SCHEMA":
            yield re.sub(r"^CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", each)
        elif kind in {"ACL", "DEFAULT ACL"}:
            yield _TWO_BLANKS.sub(r"\1 ", of_owner.sub(r"\1 CURRENT_USER", each))
        elif kind == "TABLE":
            yield _NOT_NULL.sub(r"\1 NOT NULL", each)
        else:
            yield each


def to_text(entries: Iterable[Entry]) -> str:
    """The text of a schema: psql and `schema load` run it."""
    return "\n\n".join([PREAMBLE, *map(str, entries)])


def differing(one: Iterable[Entry], other: Iterable[Entry]) -> list[str]:
    """What differs between two schemas, by name.

    Of rows only the number counts: a revision may insert the time of day, or what is random.
    """
    left, right = (Counter(map(_key, each)) for each in (one, other))
    return sorted({label for label, _ in (left - right) | (right - left)})


def _key(entry: Entry) -> tuple[str, str]:
    return entry.label, str(len(entry.statements)) if entry.kind == ROWS else "\0".join(entry.statements)
