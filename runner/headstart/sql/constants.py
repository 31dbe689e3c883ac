"""String constants of a statement, kept out of what the server says of it: one may be a password, or a person's data.

PostgreSQL manual, 'SQL Syntax: String Constants', 'PL/pgSQL: Errors and Messages'.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from os.path import commonprefix
from typing import Final

from headstart.sql.tokens import ends_elsewhere, tokens

_LOOKED_AT: Final = 20_000  # characters of a statement, which may have millions, and of what is said of it
_SHORT: Final = 4  # characters: a shorter constant is replaced only where the server has put it between marks
_IN_WORDS: Final = 8  # characters: a shorter constant is not replaced within a word
_CLIPPED: Final = 16  # characters at least that the server shows of a long value: it cuts after 64 bytes
_CUTS: Final = 10  # beginnings of one value that are looked for

# What the server calls a name stays: nextval('users_id_seq') fails with `relation "users_id_seq" does not exist`.
_KINDS: Final = (
    "relation|table|view|index|sequence|column|constraint|schema|type|role|user|database|function|procedure|operator"
    "|trigger|rule|policy|extension|language|server|publication|subscription|collation|domain|tablespace|configuration"
    "|parameter|named"
)
_NAME: Final = rf'\b(?i:{_KINDS}) (?:"[^\W\d][\w$.]*"|[^\W\d][\w$.]*$)'
_IDENTIFIER: Final = re.compile(r"[^\W\d][\w$.]*")
_QUOTED: Final = re.compile(r'"([^"]+)"')  # a value, or the part of one that cannot be read
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
    statement, text = statement[:_LOOKED_AT], text[:_LOOKED_AT]
    raised = set(_raised(statement))
    strings = {each for each in values if isinstance(each, str)}.union(_constants(statement))
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
    readings = (True, False) if any(map(ends_elsewhere, tokens(statement))) else (True,)
    for conforming in readings:
        before = ""  # a string right after another one continues it
        for token in tokens(statement, standard_conforming=conforming):
            if token.kind != "string":
                before = ""
                continue
            opening = re.match(r"\$[^$]*\$|[eE]?'", token.text)
            body = token.text[opening.end() :] if opening is not None else token.text
            if opening is not None and opening.group().startswith("$"):
                body = body.removesuffix(opening.group())
                yield body
                yield from _constants(body)  # of a function's or a DO block's body
                continue
            body = body.removesuffix("'")
            yield from _spellings(body, statement)
            if before:
                yield from _spellings(before + body, statement)
            before += body


def _spellings(body: str, statement: str) -> Iterator[str]:
    yield body
    yield body.replace("''", "'")
    if "\\" in body:
        yield _ESCAPE.sub(_unescaped, body.replace("''", "'"))
    for mark in {"\\", *_UESCAPE.findall(statement)}:
        if mark in body:
            yield re.sub(_CODE_POINT.format(re.escape(mark)), _character, body.replace("''", "'"))


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
