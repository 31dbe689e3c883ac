"""Reads a COPY statement far enough to hand its data over: PostgreSQL manual, 'COPY', with the older syntax at its end.

Pure: text in, a `Copy` out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from headstart.sql.reader import Reader
from headstart.sql.tokens import tokens

if TYPE_CHECKING:
    from typing import NoReturn

Option = str | bool | tuple[str, ...]

# What asyncpg's copy_to_table can pass on; it knows no others.
_TEXT_OPTIONS = frozenset({"format", "delimiter", "null", "quote", "escape"})
_FLAGS = frozenset({"freeze", "header"})
_COLUMN_LISTS = frozenset({"force_not_null", "force_null"})
_FALSE = frozenset({"false", "off", "0", "no"})


class CopySyntaxError(ValueError):
    """The statement is no COPY that could be run from a script; the text has the reason."""


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
    reader = _CopyReader(statement)
    depth = 0
    for index, token in enumerate(reader.tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and reader.peek(index) in {"FROM", "TO"} and index > 1:
            if reader.peek(index + 1) not in {"STDIN", "STDOUT"}:
                return None
            return reader.read() if reader.peek(index) == "FROM" else Copy(direction="out")
    return None


class _CopyReader(Reader):
    """Goes through the tokens of one COPY .. FROM STDIN."""

    def __init__(self, statement: str) -> None:
        super().__init__(list(tokens(statement)))
        self.statement = statement
        self.options: dict[str, Option] = {}

    def read(self) -> Copy:
        self.skip()  # COPY
        if self.take("BINARY"):
            self.refuse("binary data")
        names = [self.required_name()]
        while self.take("."):
            names.append(self.required_name())
        columns = self.names() if self.take("(") else None
        self.position += 2  # FROM STDIN: seen already
        if self.take("USING", "DELIMITERS") or self.take("DELIMITERS"):
            self.options["delimiter"] = self.required_string()
        self.take("WITH")
        if self.take("("):
            self.listed()
        else:
            while self and self.peek() != "WHERE":
                self.legacy()
        if self.take("WHERE") and self:
            self.options["where"] = self.statement[self.tokens[self.position].start :]
        elif self:
            self.refuse(self.tokens[self.position].text)
        if self.options.get("format") == "binary":
            self.refuse("binary data")
        schema = names[-2] if len(names) > 1 else None
        return Copy(direction="in", table=names[-1], schema=schema, columns=columns, options=self.options)

    def listed(self) -> None:
        """(FORMAT csv, HEADER, ...), past the opening parenthesis."""
        while True:
            name = self.required_name()
            if name == "encoding":
                self.word_or_string()  # the text has been decoded already: it goes to the server as UTF-8
            elif name in _TEXT_OPTIONS:
                word = self.word_or_string()
                self.options[name] = word.lower() if name == "format" else word
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
        name = self.required_name()
        if name in {"csv", "header", "freeze"}:
            self.options.update({"format": "csv"} if name == "csv" else {name: True})
        elif name in {"delimiter", "null", "quote", "escape"}:
            self.take("AS")
            self.options[name] = self.required_string()
        elif name == "encoding":
            self.required_string()
        elif name == "force" and self.take("NOT", "NULL"):
            self.options["force_not_null"] = self.names(closed=False)
        elif name == "force" and self.take("NULL"):
            self.options["force_null"] = self.names(closed=False)
        else:
            self.refuse(name.upper())

    def names(self, *, closed: bool = True) -> tuple[str, ...]:
        found = [self.required_name()]
        while self.take(","):
            found.append(self.required_name())
        if closed and not self.take(")"):
            self.refuse("its list of columns")
        return tuple(found)

    def required_name(self) -> str:
        return self.name() or self.refuse_next()

    def required_string(self) -> str:
        found = None if self and self.tokens[self.position].text.startswith("$") else self.string()
        return self.refuse_next() if found is None else found

    def word_or_string(self) -> str:
        """A string or a bare word: FORMAT csv and FORMAT 'csv' are the same."""
        if not self:
            self.refuse_next()
        if self.tokens[self.position].kind == "string":
            return self.required_string()
        self.skip()
        return self.tokens[self.position - 1].text

    def flag(self) -> Option:
        if self.peek() in {",", ")"}:
            return True
        word = self.word_or_string().lower()
        return "match" if word == "match" else word not in _FALSE

    def refuse_next(self) -> NoReturn:
        self.refuse(self.tokens[self.position].text if self else "an unfinished statement")

    def refuse(self, what: str) -> NoReturn:
        message = f"{what} is not supported in COPY .. FROM stdin"
        raise CopySyntaxError(message)
