"""String constants of a statement, kept out of what the server says of it: one may be a password, or a person's data.

PostgreSQL manual, 'SQL Syntax: String Constants', 'PL/pgSQL: Errors and Messages'.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from os.path import commonprefix
from typing import Final

from headstart.sql.tokens import ends_elsewhere, tokens

_LOOKED_AT: Final = 20_000  # characters of a statement, which may have millions, and of what is said of it
_SHORT: Final = 4  # characters: a shorter constant is replaced only where the server has put it between marks
_IN_WORDS: Final = 8  # characters: a shorter constant is not replaced within a word
_CLIPPED: Final = 16  # characters at least that the server shows of a long value: it cuts after 64 bytes
_READ: Final = 10 * _LOOKED_AT  # characters, with those of $$ in $$, which are read once more for each level
_SMALL: Final = 10_000_000  # a number below is an id, a count or a year, and no person's
_CUTS: Final = 10  # beginnings of one value that are looked for
_SHOWN: Final = 50  # values in what is said that are looked for in a statement of any length

# What the server calls a name stays: nextval('users_id_seq') fails with `relation "users_id_seq" does not exist`.
_KINDS: Final = (
    "relation|table|view|index|sequence|column|constraint|schema|type|role|user|database|function|procedure|operator"
    "|trigger|rule|policy|extension|language|server|publication|subscription|collation|domain|tablespace|configuration"
    "|parameter|named"
)
_NAME: Final = rf'\b(?i:{_KINDS}) (?:"[^\W\d][\w$.]*"|[^\W\d][\w$.]*$)'
_IDENTIFIER: Final = re.compile(r"[^\W\d][\w$.]*")
_QUOTED: Final = re.compile(r'"([^"]+)"')  # a value, or the part of one that cannot be read
_ROW: Final = re.compile(r"(?:=|contains )\((.+)\)")  # a key's values, or a row's
_RAISE: Final = re.compile(r"\braise\b(?:[^';]|'[^']*')*", re.IGNORECASE)
_RAISED: Final = re.compile(
    r"(?:\braise(?:\s+[a-z]+)?|\b(?:message|detail|hint)\s*:?=)\s*'((?:[^']|'')*)'", re.IGNORECASE
)

_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE: Final = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{1,2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-7]{1,3})|(?P<letter>.))",
    re.DOTALL,
)
_CODE_POINT: Final = r"{0}(?:\+(?P<six>[0-9a-fA-F]{{6}})|(?P<four>[0-9a-fA-F]{{4}})|(?P<itself>{0}))"
_UESCAPE: Final = re.compile(r"\buescape\s*'([^'])'", re.IGNORECASE)


def without_constants(text: str, sqlstate: str | None, statement: str, values: Iterable[object] = ()) -> str:
    """What the server says of a statement, with `...` in the place of its string constants.

    A constant stays where it is a name: where the server calls it one, or where it is a word of the statement, too,
    which is shown anyway. So does the text of a RAISE, which is written to be read; what is put into it goes.

    Args:
        text: the server's words.
        sqlstate: its code for the error; None if a driver says it.
        statement: that has failed.
        values: of its parameters.
    """
    text, whole_statement, statement = text[:_LOOKED_AT], statement, statement[:_LOOKED_AT]
    raised = set(_raised(statement))
    strings = {*_written(values), *_constants(statement)}
    if len(whole_statement) > _LOOKED_AT:
        strings |= _shown_of(whole_statement, text)
    pieces = {piece for each in strings - raised - _words(statement) for piece in _pieces(each, text)}
    names = {each for each in pieces if _IDENTIFIER.fullmatch(each)}
    said = {part for each in raised for part in each.split("%") if part.strip() and part in text}
    ours = sqlstate is not None and not sqlstate.startswith("P")  # a RAISE may well call a value a name
    kept = [_NAME] if ours else []
    kept += map(re.escape, sorted(said, key=len, reverse=True))
    # First what has marks of its own, which are not to be taken for the server's.
    text = _replaced(text, _anywhere(pieces - names), [])
    text = _replaced(text, _anywhere(names), kept)
    whole = "\n".join(strings).lower()
    quoted = {re.escape(each) for each in _QUOTED.findall(text) if each.lower() in whole}
    return _replaced(text, [rf'(?<="){each}(?=")' for each in quoted], kept)


def _written(values: Iterable[object]) -> Iterator[str]:
    """Values of parameters as the server writes them, without those that say nothing: None, booleans, small numbers."""
    for each in values:
        if isinstance(each, bytes | bytearray | memoryview):
            yield rf"\x{each.hex()}"
        elif not (each is None or isinstance(each, bool) or (isinstance(each, int) and abs(each) < _SMALL)):
            yield str(each)


def _shown_of(statement: str, text: str) -> set[str]:
    """The values in the server's words that are constants of a statement too long to be read."""
    rows = (value for row in _ROW.findall(text) for value in (row, *row.split(", ")))
    shown = islice(chain(rows, _QUOTED.findall(text)), _SHOWN)
    return {value for value in shown if "'{}'".format(value.replace("'", "''")) in statement}


def _replaced(text: str, constants: Iterable[str], kept: Sequence[str]) -> str:
    """A text with `...` for what matches one of the expressions, except within what is kept."""
    ways = [*([f"(?P<kept>{'|'.join(kept)})"] if kept else []), *constants]
    return re.sub("|".join(ways), lambda match: match[0] if match.lastgroup else "...", text) if ways else text


def _anywhere(constants: Iterable[str]) -> Iterator[str]:
    """Regular expressions for constants in the server's words, the longest first."""
    for constant in sorted(constants, key=len, reverse=True):
        escaped = re.escape(constant)
        if len(constant) < _SHORT:
            yield rf"(?<=[\"(=,' ]){escaped}(?=[\"),'])"
        elif len(constant) < _IN_WORDS:
            yield rf"(?<!\w){escaped}(?!\w)"
        else:
            yield escaped


def _pieces(constant: str, text: str) -> Iterator[str]:
    """What of a constant stands in a text: all of it, or the beginnings that are left where the server has cut it."""
    if constant.isspace() or not constant:
        return
    if constant in text:
        yield constant
    if len(constant) > _CLIPPED:
        for found in islice(re.finditer(re.escape(constant[:_CLIPPED]), text), _CUTS):
            yield commonprefix([constant, text[found.start() :]])  # noqa: RUF071  (of characters, on purpose)


def _words(statement: str) -> set[str]:
    """The words of a statement that are shown wherever the statement is: keywords and names."""
    words = set()
    for token in tokens(statement):
        if ends_elsewhere(token):
            break
        if token.kind in {"word", "quoted"}:
            words.add(token.text.strip('"'))
    return words


def _raised(statement: str) -> Iterator[str]:
    """The texts of RAISE in a statement's blocks and functions."""
    for token in tokens(statement):
        if token.text.startswith("$"):
            for one in _RAISE.findall(token.text):
                yield from (said.replace("''", "'") for said in _RAISED.findall(one))


def _constants(statement: str) -> Iterator[str]:
    """The string constants, in every spelling that the server may give back."""
    marks = {"\\", *_UESCAPE.findall(statement)}
    left, unread = [statement], _READ
    while left and unread > 0:
        text = left.pop()
        unread -= len(text)
        for conforming in (True, False) if any(map(ends_elsewhere, tokens(text))) else (True,):
            for string in _strings(text, standard_conforming=conforming):
                if isinstance(string, _Body):
                    yield string
                    left.append(string)  # of a function or a DO block, with constants of its own
                else:
                    yield from _spellings(string, marks)


class _Body(str):
    """What stands between two $$."""

    __slots__ = ()


def _strings(text: str, *, standard_conforming: bool) -> Iterator[str]:
    """What stands between quotation marks, and what those in a row are together: one continues another."""
    row: list[str] = []
    for token in tokens(text, standard_conforming=standard_conforming):
        if token.kind != "string":
            if len(row) > 1:
                yield "".join(row)
            row.clear()
            continue
        opening = re.match(r"\$[^$]*\$|[eE]?'", token.text)
        mark = "'" if opening is None else opening.group()
        body = token.text if opening is None else token.text[opening.end() :]
        if mark.startswith("$"):
            yield _Body(body.removesuffix(mark))
            continue
        row.append(body.removesuffix("'"))
        yield row[-1]
    if len(row) > 1:
        yield "".join(row)


def _spellings(body: str, marks: set[str]) -> Iterator[str]:
    yield body
    single = body.replace("''", "'")
    yield single
    if "\\" in body:
        yield _ESCAPE.sub(_unescaped, single)
    for mark in marks.intersection(body):
        yield re.sub(_CODE_POINT.format(re.escape(mark)), _character, single)


def _unescaped(match: re.Match[str]) -> str:
    """The character of an escape in E'...'."""
    if match["letter"]:
        return _LETTERS.get(match["letter"], match["letter"])
    if match["octal"]:
        return chr(int(match["octal"], 8))
    return _of_code(match["x"] or match["u"] or match["U"])


def _character(match: re.Match[str]) -> str:
    """The character of an escape in U&'...'."""
    return match["itself"] or _of_code(match["six"] or match["four"])


def _of_code(digits: str) -> str:
    code = int(digits, 16)
    return chr(code) if code <= sys.maxunicode else ""
