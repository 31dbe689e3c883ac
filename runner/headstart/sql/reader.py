"""Reads the words of one statement, from left to right."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import NamedTuple

from headstart.sql.tokens import Token

_OPENING = frozenset("([")
_CLOSING = frozenset(")]")
_CAPITALS = re.compile("[A-Z]+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Relation(NamedTuple):
    """A table, view, index, type or domain, its schema filled in where the statement leaves it out."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


class Reader:
    """A place in a statement.

    Args:
        tokens: the statement, or a part of it.
        schema: the schema of names that come without one.
    """

    def __init__(self, tokens: Sequence[Token], schema: str = "public") -> None:
        self.tokens = tokens
        self.schema = schema
        self.position = 0

    def __bool__(self) -> bool:
        return self.position < len(self.tokens)

    def peek(self, ahead: int = 0) -> str:
        """A plain word in capitals, or a mark; "" for anything else and at the end."""
        at = self.position + ahead
        if at >= len(self.tokens) or self.tokens[at].kind not in {"word", "mark"}:
            return ""
        return self.tokens[at].text.upper()

    def take(self, *words: str) -> bool:
        """Steps over these words if all of them come next."""
        if any(self.peek(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.position += len(words)
        return True

    def take_any(self, words: Container[str]) -> str:
        """Steps over the next word if it is one of these, and returns it; "" otherwise."""
        word = self.peek()
        if not word or word not in words:
            return ""
        self.position += 1
        return word

    def skip(self) -> None:
        """Steps over one token."""
        self.position += 1

    def name(self) -> str:
        """Steps over an identifier and returns it as the server folds it; "" if none comes next."""
        if not self:
            return ""
        token = self.tokens[self.position]
        if token.kind == "word":
            found = _CAPITALS.sub(lambda match: match[0].lower(), token.text)  # as the server: ASCII alone
        elif token.kind == "quoted":
            found = token.text[1:-1].replace('""', '"')
        else:
            return ""
        self.position += 1
        return found

    def relation(self) -> Relation | None:
        """Steps over a name that may be qualified; None if none comes next."""
        parts = [self.name()]
        while parts[-1] and self.take("."):
            parts.append(self.name())
        if not parts[-1]:
            return None
        return Relation(parts[-2] if len(parts) > 1 else self.schema, parts[-1])

    def relations(self) -> list[Relation]:
        """Steps over names with commas between them, and over the argument lists that functions have."""
        found: list[Relation] = []
        while (one := self.relation()) is not None:
            found.append(one)
            self.group()
            self.take("*")
            if not self.take(","):
                break
        return found

    def string(self) -> str | None:
        """Steps over a string constant and returns its value; None if none comes next."""
        if not self or self.tokens[self.position].kind != "string":
            return None
        self.position += 1
        return value(self.tokens[self.position - 1])

    def group(self) -> Sequence[Token] | None:
        """Steps over a pair of parentheses and returns what is inside; None if none comes next."""
        if self.peek() != "(":
            return None
        start, depth = self.position + 1, 0
        while self:
            depth += _step(self.peek())
            self.position += 1
            if depth == 0:
                return self.tokens[start : self.position - 1]
        return self.tokens[start:]

    def until(self, stops: Container[str]) -> Sequence[Token]:
        """Steps to the next of these words outside of parentheses, past one token at least, and returns all before."""
        start, depth = self.position, 0
        while self and (depth > 0 or self.position == start or self.peek() not in stops):
            depth += _step(self.peek())
            self.position += 1
        return self.tokens[start : self.position]

    def has(self, *words: str) -> bool:
        """Whether these words come, one after the other, anywhere ahead and outside of parentheses."""
        ahead = Reader(self.tokens, self.schema)
        ahead.position = self.position
        depth = 0
        while ahead:
            if depth == 0 and all(ahead.peek(offset) == word for offset, word in enumerate(words)):
                return True
            depth += _step(ahead.peek())
            ahead.position += 1
        return False


def parts(tokens: Sequence[Token], separator: str = ",") -> list[Sequence[Token]]:
    """What stands between the separators that are outside of parentheses."""
    found: list[Sequence[Token]] = []
    start = depth = 0
    for at, token in enumerate(tokens):
        word = token.text.upper() if token.kind in {"word", "mark"} else ""
        depth += _step(word)
        if depth == 0 and word == separator:
            found.append(tokens[start:at])
            start = at + 1
    found.append(tokens[start:])
    return [part for part in found if part]


def value(token: Token) -> str:
    """What a string constant says, with or without backslash escapes; "" for a dollar quote."""
    inner = token.text.partition("'")[2].removesuffix("'").replace("''", "'")
    return _ESCAPE.sub(_unescape, inner) if token.text[0] in "eE" else inner


def _unescape(match: re.Match[str]) -> str:
    hexadecimal, octal, letter = match.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    return chr(int(hexadecimal, 16) if hexadecimal else int(octal, 8))


def _step(word: str) -> int:
    if word in _OPENING:
        return 1
    return -1 if word in _CLOSING else 0
