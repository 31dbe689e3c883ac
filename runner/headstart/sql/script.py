"""Takes a text of SQL apart into its statements, as psql does before it sends them.

This is a lexer, not a parser: it knows where a statement ends and what kind it is, nothing more. It is pure: no I/O, no
server. Where a `;` does not end a statement (in quotes and comments, in parentheses, in `BEGIN ATOMIC ... END`), and
how inline COPY data ends, is psql's rule (PostgreSQL manual, 'psql' and 'COPY').
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from headstart.errors import MigrationFailedError
from headstart.sql.reader import Reader
from headstart.sql.tokens import after_special, skip_blank, skip_plain, tokens

Kind = Literal["plain", "copy_in", "copy_out", "transaction_control", "savepoint"]

# CREATE and DROP INDEX, REINDEX, ALTER TABLE ... DETACH PARTITION. REFRESH MATERIALIZED VIEW locks others out.
_BUILDING = frozenset({"CREATE", "DROP", "REINDEX", "ALTER"})
_FIRST_WORD = re.compile(r"\s*([A-Za-z]+)")
_ROWLESS = re.compile(
    r"\s*(?:ALTER|COMMENT|CREATE|DROP|GRANT|REVOKE|SET|(?:DELETE|INSERT|UPDATE)(?!.*\bRETURNING\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]+")
# A routine shows itself within CREATE OR REPLACE FUNCTION.
_HEAD = 4
_ROUTINE = frozenset({"FUNCTION", "PROCEDURE"})
_CONFORMING = re.compile(r"standard_conforming_strings\s*(?:=|\bto\b)\s*'?(\w+)", re.IGNORECASE)
_META_LINE = re.compile(r"\\([^\s\\]*)[^\n]*\n?")
_COPY_DATA = re.compile(r"[ \t]*(?:--[^\n]*)?\r?\n")
_COPY_END = re.compile(r"^\\\.[ \t]*\r?$", re.MULTILINE)
_SAVEPOINT = re.compile(r"(?:SAVEPOINT|RELEASE|ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s+TO)\b", re.IGNORECASE)
_PREPARE_TRANSACTION = re.compile(r"PREPARE\s+TRANSACTION\b", re.IGNORECASE)

_TRANSACTION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE"}
)
# pg_dump writes them around its text so that no psql command can be smuggled into it. They mean nothing here.
_META_SKIPPED = frozenset({"restrict", "unrestrict"})


class ScriptError(MigrationFailedError):
    """A text of several statements holds something that cannot be run in a revision."""


class Statement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One statement of a script.

    Args:
        text: the statement without its `;`, without white space and comments around it.
        start: offset of its first character in the source, in characters.
        keyword: its first word in capitals, "" if it begins otherwise.
        kind: `plain`; `copy_in` and `copy_out` for COPY from and to the client; `transaction_control` for what begins
            or ends a transaction; `savepoint` for SAVEPOINT, RELEASE and ROLLBACK TO, which do not.
        data: the rows of a `copy_in`, None if the text has none.
    """

    text: str
    start: int
    keyword: str
    kind: Kind = "plain"
    data: str | None = None


def split(text: str, *, standard_conforming: bool = True) -> list[Statement]:
    r"""Takes a script apart.

    Empty and comment-only segments are left out, and so are the `\restrict` lines of pg_dump.

    Args:
        text: the script.
        standard_conforming: `standard_conforming_strings` where the script begins; a SET in the script is followed.

    Raises:
        ScriptError: a psql command such as `\connect`.
    """
    statements: list[Statement] = []
    append = statements.append
    position = 0
    while (start := _next_start(text, position)) < len(text):
        word = _WORD.match(text, start)
        keyword = word.group().upper() if word else ""
        end = _end(text, start, keyword, standard_conforming=standard_conforming)
        position = end + 1
        body = text[start:end].rstrip()
        if keyword in _TRANSACTION_WORDS:
            append(Statement(text=body, start=start, keyword=keyword, kind=_transaction_kind(body, keyword)))
        elif keyword == "COPY":
            statement, position = _copy(text, start, body, position)
            append(statement)
        else:
            append(Statement(text=body, start=start, keyword=keyword))
            if keyword == "SET" and (setting := _CONFORMING.search(body)):
                standard_conforming = setting.group(1).lower() in {"on", "true", "yes", "1", "default"}
    return statements


def is_single(text: str) -> bool:
    r"""Whether the text is certainly one statement that needs no care, found out at next to no cost.

    False means that `split` has to look: there is a `;` before the end, a backslash, a COPY, or a comment at the start.
    """
    word = _FIRST_WORD.match(text)
    if word is None or "\\" in text or word.group(1).upper() == "COPY":
        return False
    semicolon = text.find(";")
    return semicolon < 0 or text[semicolon:].strip() == ";"


def is_rowless(text: str) -> bool:
    """Whether this one statement certainly gives no rows back, and has no parameters."""
    return "$" not in text and _ROWLESS.match(text) is not None


def builds_concurrently(text: str) -> bool:
    """Whether this is one statement that builds, drops or detaches CONCURRENTLY.

    It takes no lock that others queue behind, and must not be given up half-way: that leaves an INVALID index.
    """
    if "concurrently" not in text.lower():
        return False
    words = [token.text.upper() for token in tokens(text) if token.kind in {"word", "mark"}]
    while words and words[-1] == ";":
        words.pop()
    return ";" not in words and "CONCURRENTLY" in words and words[0] in _BUILDING


def line_of(text: str, offset: int) -> int:
    """The line, counted from 1, in which an offset lies."""
    return text.count("\n", 0, offset) + 1


def _next_start(text: str, position: int) -> int:
    """Where the next statement begins: past blanks, comments, lone semicolons and pg_dump's psql commands."""
    while True:
        position = skip_blank(text, position)
        if text.startswith(";", position):
            position += 1
        elif text.startswith("\\", position):
            line = _META_LINE.match(text, position)
            if line is None or line.group(1) not in _META_SKIPPED:
                raise _psql_command(text, position)
            position = line.end()
        else:
            return position


def _end(text: str, start: int, keyword: str, *, standard_conforming: bool) -> int:
    """The offset of the `;` that ends the statement, or of the text's end."""
    position, depth, fresh = start, 0, -1
    length = len(text)
    # Only a rule holds a `;` in parentheses. In any other statement it is a mistake, which the server points out.
    nested = keyword == "CREATE"
    while (position := skip_plain(text, position, standard_conforming=standard_conforming, nested=nested)) < length:
        character = text[position]
        if character == ";":
            if depth == 0:
                if nested and "atomic" in text[start:position].lower():
                    return _routine_end(text, start, standard_conforming=standard_conforming)
                return position
            position += 1
        elif character == "(":
            depth += 1
            position += 1
        elif character == ")":
            depth = max(depth - 1, 0)
            position += 1
        elif character == "\\":
            raise _psql_command(text, position)
        else:
            after = after_special(text, position, standard_conforming=standard_conforming, fresh=fresh == position)
            fresh = after if after > position + 1 else -1
            position = after
    return length


def _routine_end(text: str, start: int, *, standard_conforming: bool) -> int:
    """The end of a CREATE whose text names ATOMIC: a body written in SQL holds semicolons of its own.

    As psql does, BEGIN and CASE open and END closes, at no depth of parentheses; unlike psql, not when the word is a
    name, after a dot or AS.
    """
    depth = level = 0
    head: list[str] = []
    previous = ""
    for token in tokens(text, start, standard_conforming=standard_conforming):
        word = token.text.upper() if token.kind in {"word", "mark"} else ""
        head.append(word) if len(head) < _HEAD else None
        if word == "\\":
            raise _psql_command(text, token.start)
        if word in {"(", ")"}:
            depth = max(depth + (1 if word == "(" else -1), 0)
        elif depth == 0 and word == ";" and level == 0:
            return token.start
        elif depth == 0 and previous not in {".", "AS"} and _ROUTINE.intersection(head):
            level += _step(word, previous, level)
        previous = word
    return len(text)


def _step(word: str, previous: str, level: int) -> int:
    """How a word changes the number of open blocks."""
    if level == 0:
        return 1 if word == "ATOMIC" and previous == "BEGIN" else 0
    return {"CASE": 1, "END": -1}.get(word, 0)


def _transaction_kind(body: str, keyword: str) -> Kind:
    if _SAVEPOINT.match(body):
        return "savepoint"
    if keyword == "PREPARE" and not _PREPARE_TRANSACTION.match(body):
        return "plain"
    return "transaction_control"


def _copy(text: str, start: int, body: str, position: int) -> tuple[Statement, int]:
    """Reads a COPY and, if it takes data from the client, the lines up to the one with a backslash and a dot."""
    words = Reader(list(tokens(body)))
    if not words.has("FROM", "STDIN"):
        kind: Kind = "copy_out" if words.has("TO", "STDOUT") else "plain"
        return Statement(text=body, start=start, keyword="COPY", kind=kind), position
    data = None
    if (first := _COPY_DATA.match(text, position)) and (last := _COPY_END.search(text, first.end())):
        data = text[first.end() : last.start()]
        position = last.end()
    return Statement(text=body, start=start, keyword="COPY", kind="copy_in", data=data), position


def _psql_command(text: str, position: int) -> ScriptError:
    line = _META_LINE.match(text, position)
    name = line.group(1) if line else ""
    return ScriptError(
        f"\\{name} in line {line_of(text, position)} of the script is a command of psql, not SQL",
        hint="take it out of the script: only psql itself can run it",
    )
