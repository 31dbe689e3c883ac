"""The lexical rules of Postgres: what hides a `;` from whoever looks for the end of a statement.

Two speeds. `skip_plain` jumps over everything that cannot matter with one regular expression, and stops at the next
character that may; `tokens` goes word by word, for the few statements in which words matter. Pure, no I/O.
PostgreSQL manual, 'SQL Syntax: Lexical Structure'.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

# Postgres takes every byte above 127 for a letter, whatever kind of character it is to Unicode.
# Everything beyond ASCII is a letter. Written as what is left out: a class with a range of a million characters takes
# longer to compile than a short script to run.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_INNER = r"[^\x00-#%-/:-@\[-^`{-\x7f]"

# Repetitions are bounded on purpose: each one leaves a mark on the matcher's stack, so an unbounded one would need
# memory in proportion to the text. Nothing follows the group, so it never backtracks.
# With standard_conforming_strings off, a backslash escapes in every string, so that each of them has to be looked into.
_STRINGS = rf"""|(?<![eE])'[^']*'|(?<={_INNER}[eE])'[^']*'"""


@functools.cache
def _plain(conforming: bool, nested: bool) -> re.Pattern[str]:  # noqa: FBT001  (the key of a cache)
    """What can be passed over; compiled when it is needed, since each of the four takes longer than many a run."""
    return re.compile(
        rf"""(?:[^'"$;/\\{"()" if nested else ""}-]+{_STRINGS if conforming else ""}|"[^"]*"|--[^\n]*|-|/(?!\*))"""
        r"{0,50}"
    )


_BLANK = re.compile(r"(?:[ \t\r\n\f\v]+|--[^\n]*){0,50}")
_DOLLAR_QUOTE = re.compile(rf"\$(?:{_LETTER}(?:[0-9]|{_LETTER})*)?\$")
_PARAMETER = re.compile(r"\$[0-9]+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPED_QUOTE = re.compile(r"(?<!\\)(?:\\\\)*\\'")
_ESCAPE_STOP = re.compile(r"['\\]")
_CONTINUED = re.compile(r"(?:[ \t\r\f\v]|--[^\n]*)*\n(?:[ \t\r\n\f\v]+|--[^\n]*)*'")
_WORD = re.compile(rf"{_LETTER}{_INNER}*")
# With whatever follows without a blank, `$` included: the server refuses that, so it begins no dollar quote.
_NUMBER = re.compile(rf"[0-9]{_INNER}*(?:\.+(?:[0-9]|{_LETTER}){_INNER}*)*\.*")

TokenKind = Literal["word", "quoted", "string", "parameter", "number", "mark"]


class Token(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One lexical element.

    Args:
        kind: `word` (a keyword or a plain name), `quoted` (a name in double quotes), `string` (any spelling),
            `parameter` ($1), `number`, `mark` (one other character).
        text: as in the source.
        start: offset in the source, in characters.
    """

    kind: TokenKind
    text: str
    start: int


def skip_plain(text: str, position: int, *, standard_conforming: bool = True, nested: bool = True) -> int:
    """The offset of the next character that may end, open or hide something.

    Args:
        text: the SQL.
        position: where to begin, outside of any quotes.
        standard_conforming: the server's `standard_conforming_strings`.
        nested: whether to stop at parentheses.
    """
    plain = _plain(standard_conforming, nested)
    while True:
        end = plain.match(text, position).end()  # type: ignore[union-attr]  # the expression matches emptiness too
        if end == position:
            return end
        position = end


def skip_blank(text: str, position: int) -> int:
    """The offset of the next character that is neither white space nor in a comment."""
    while True:
        end = _BLANK.match(text, position).end()  # type: ignore[union-attr]  # as above
        if text.startswith("/*", end):
            end = _after_comment(text, end)
        if end == position:
            return end
        position = end


def after_special(text: str, position: int, *, standard_conforming: bool = True, fresh: bool = False) -> int:  # noqa: PLR0911
    """Steps over what `skip_plain` stopped at: a comment, a string with escapes, a dollar quote, or one character.

    What is never closed reaches to the end of the text: the server's error is better than ours could be.

    Args:
        text: the SQL.
        position: where `skip_plain` stopped.
        standard_conforming: the server's `standard_conforming_strings`.
        fresh: another token ended right here, so that a `$` cannot be the inside of a name.
    """
    character = text[position]
    if character == "'":
        if standard_conforming and not _is_escape_string(text, position):
            return len(text)
        return _after_escape_string(text, position)
    if character == '"':
        return len(text)
    if character == "/":
        return _after_comment(text, position)
    if character == "$" and (fresh or not _continues_name(text, position)):
        if opening := _DOLLAR_QUOTE.match(text, position):
            closing = text.find(opening.group(), opening.end())
            return len(text) if closing < 0 else closing + len(opening.group())
        if parameter := _PARAMETER.match(text, position):
            return parameter.end()
    return position + 1


def tokens(text: str, position: int = 0, *, standard_conforming: bool = True) -> Iterator[Token]:
    """Every element from `position` on, comments left out.

    Args:
        text: the SQL.
        position: where to begin, outside of any quotes.
        standard_conforming: the server's `standard_conforming_strings`.
    """
    while (position := skip_blank(text, position)) < len(text):
        kind, end = _next(text, position, standard_conforming=standard_conforming)
        yield Token(kind=kind, text=text[position:end], start=position)
        position = end


def ends_elsewhere(token: Token) -> bool:
    """Whether a token has another end where `standard_conforming_strings` is off.

    From there on, what is a constant and what is not depends on a setting that is not known of another session.
    """
    return token.text.startswith("'") and _ESCAPED_QUOTE.search(token.text, 1) is not None


def _next(text: str, position: int, *, standard_conforming: bool) -> tuple[TokenKind, int]:  # noqa: PLR0911  (a table)
    if text[position] in "eE" and text.startswith("'", position + 1):
        return "string", _after_escape_string(text, position + 1)
    if word := _WORD.match(text, position):
        return "word", word.end()
    if number := _NUMBER.match(text, position):
        return "number", number.end()
    match text[position]:
        case "'" if standard_conforming:
            return "string", _after_quotes(text, position)
        case "'":
            return "string", _after_escape_string(text, position)
        case '"':
            return "quoted", _after_quotes(text, position)
        case "$":
            kind: TokenKind = "parameter" if _PARAMETER.match(text, position) else "string"
            end = after_special(text, position, fresh=True)
            return ("mark" if end == position + 1 else kind), end
    return "mark", position + 1


def _after_quotes(text: str, position: int) -> int:
    quote = text[position]
    while (end := text.find(quote, position + 1)) >= 0:
        if not text.startswith(quote, end + 1):
            return end + 1
        position = end + 1
    return len(text)


def _after_escape_string(text: str, position: int) -> int:
    """The end of a string with backslash escapes, and of those that continue it on the next lines."""
    position += 1
    while stop := _ESCAPE_STOP.search(text, position):
        position = stop.end()
        if stop.group() == "\\" or text.startswith("'", position):
            position += 1
        elif continued := _CONTINUED.match(text, position):
            position = continued.end()
        else:
            return position
    return len(text)


def _after_comment(text: str, position: int) -> int:
    """The end of a comment; Postgres lets them nest, unlike the SQL standard."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _continues_name(text: str, position: int) -> bool:
    return position > 0 and (text[position - 1] in "_$" or text[position - 1].isalnum() or text[position - 1] > "\x7f")


def _is_escape_string(text: str, position: int) -> bool:
    return position > 0 and text[position - 1] in "eE" and not _continues_name(text, position - 1)
