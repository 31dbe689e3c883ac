"""Reads a COPY statement far enough to hand its data over: PostgreSQL manual, 'COPY', with the older syntax at its end.

Pure: text in, a `Copy` out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from headstart.sql.tokens import tokens

if TYPE_CHECKING:
    from typing import NoReturn

    from headstart.sql.tokens import Token

Option = str | bool | tuple[str, ...]

# What asyncpg's copy_to_table can pass on; it knows no others.
_TEXT_OPTIONS = frozenset({"format", "delimiter", "null", "quote", "escape"})
_FLAGS = frozenset({"freeze", "header"})
_COLUMN_LISTS = frozenset({"force_not_null", "force_null"})
_FALSE = frozenset({"false", "off", "0", "no"})
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class CopySyntaxError(ValueError):
    """The statement is no COPY that could be run from a script; the text says why."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A COPY between a table and the client.

    Args:
        direction: `in` for FROM STDIN, `out` for TO STDOUT; the other fields are filled for `in` alone.
        table: its name, as the catalogue spells it.
        schema: the same, None if the statement leaves it to search_path.
        columns: names, None for all of them.
        options: keyword arguments of asyncpg's `copy_to_table`.
    """

    direction: Literal["in", "out"]
    table: str = ""
    schema: str | None = None
    columns: tuple[str, ...] | None = None
    options: dict[str, Option] = {}


def read_copy(statement: str) -> Copy | None:
    """Reads a COPY; None for one between a table and a file or program on the server, which is a plain statement.

    Args:
        statement: its text, without data.

    Raises:
        CopySyntaxError: it takes data from the client, in a way that cannot be passed on.
    """
    reader = _Reader(statement)
    depth = 0
    for index, token in enumerate(reader.tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and reader.word(index) in {"FROM", "TO"} and index > 1:
            if reader.word(index + 1) not in {"STDIN", "STDOUT"}:
                return None
            return reader.read() if reader.word(index) == "FROM" else Copy(direction="out")
    return None


class _Reader:
    """Goes through the tokens of one COPY .. FROM STDIN."""

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self.tokens: list[Token] = list(tokens(statement))
        self.at = 1
        self.options: dict[str, Option] = {}

    def word(self, index: int) -> str:
        """The word at an index in capitals, a mark as it is, "" for anything else and past the end."""
        token = self.tokens[index] if index < len(self.tokens) else None
        return token.text.upper() if token is not None and token.kind in {"word", "mark"} else ""

    def take(self, *words: str) -> bool:
        """Steps over these words if they come next."""
        if any(self.word(self.at + offset) != word for offset, word in enumerate(words)):
            return False
        self.at += len(words)
        return True

    def read(self) -> Copy:
        if self.take("BINARY"):
            self.refuse("binary data")
        names = [self.name()]
        while self.take("."):
            names.append(self.name())
        columns = self.names() if self.take("(") else None
        self.at += 2  # FROM STDIN: seen already
        if self.take("USING", "DELIMITERS") or self.take("DELIMITERS"):
            self.options["delimiter"] = self.string()
        self.take("WITH")
        if self.take("("):
            self.listed()
        else:
            while self.at < len(self.tokens) and self.word(self.at) != "WHERE":
                self.legacy()
        if self.take("WHERE") and self.at < len(self.tokens):
            self.options["where"] = self.statement[self.tokens[self.at].start :]
        elif self.at < len(self.tokens):
            self.refuse(self.tokens[self.at].text)
        if self.options.get("format") == "binary":
            self.refuse("binary data")
        schema = names[-2] if len(names) > 1 else None
        return Copy(direction="in", table=names[-1], schema=schema, columns=columns, options=self.options)

    def listed(self) -> None:
        """(FORMAT csv, HEADER, ...), past the opening parenthesis."""
        while True:
            name = self.name()
            if name == "encoding":
                self.value()  # the text has been decoded already: it goes to the server as UTF-8
            elif name in _TEXT_OPTIONS:
                value = self.value()
                self.options[name] = value.lower() if name == "format" else value
            elif name in _FLAGS:
                self.options[name] = self.flag()
            elif name in _COLUMN_LISTS and self.take("("):
                self.options[name] = self.names()
            else:
                self.refuse(name.upper())
            if not self.take(","):
                break
        if not self.take(")"):
            self.refuse("its options")

    def legacy(self) -> None:
        """One option of the syntax before 9.0: CSV, HEADER, NULL AS '', FORCE NOT NULL a, b."""
        name = self.name()
        if name in {"csv", "header", "freeze"}:
            self.options.update({"format": "csv"} if name == "csv" else {name: True})
        elif name in {"delimiter", "null", "quote", "escape"}:
            self.take("AS")
            self.options[name] = self.string()
        elif name == "encoding":
            self.string()
        elif name == "force" and self.take("NOT", "NULL"):
            self.options["force_not_null"] = self.names(closed=False)
        elif name == "force" and self.take("NULL"):
            self.options["force_null"] = self.names(closed=False)
        else:
            self.refuse(name.upper())

    def names(self, *, closed: bool = True) -> tuple[str, ...]:
        found = [self.name()]
        while self.take(","):
            found.append(self.name())
        if closed and not self.take(")"):
            self.refuse("its list of columns")
        return tuple(found)

    def name(self) -> str:
        token = self.next()
        if token.kind == "quoted":
            return token.text[1:-1].replace('""', '"')
        if token.kind == "word":
            return token.text.lower() if token.text.isascii() else "".join(map(_lower_ascii, token.text))
        return self.refuse(token.text)

    def value(self) -> str:
        """A string or a bare word: FORMAT csv and FORMAT 'csv' are the same."""
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "string":
            return self.string()
        return self.next().text

    def flag(self) -> Option:
        if self.word(self.at) in {",", ")"}:
            return True
        value = self.value().lower()
        return "match" if value == "match" else value not in _FALSE

    def string(self) -> str:
        token = self.next()
        if token.kind != "string" or token.text.startswith("$"):
            self.refuse(token.text)
        inner = token.text[token.text.index("'") + 1 : -1].replace("''", "'")
        return _ESCAPE.sub(_unescape, inner) if token.text[0] in "eE" else inner

    def next(self) -> Token:
        if self.at >= len(self.tokens):
            self.refuse("an unfinished statement")
        self.at += 1
        return self.tokens[self.at - 1]

    def refuse(self, what: str) -> NoReturn:
        message = f"{what} is not supported in COPY .. FROM stdin"
        raise CopySyntaxError(message)


def _lower_ascii(character: str) -> str:
    return character.lower() if character.isascii() else character


def _unescape(match: re.Match[str]) -> str:
    hexadecimal, octal, letter = match.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    return chr(int(hexadecimal, 16) if hexadecimal else int(octal, 8))
