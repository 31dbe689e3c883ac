"""String constants of a statement, kept out of what the server says of it: one may be a password, or a person's data.

PostgreSQL manual, 'SQL Syntax: Constants', 'PostgreSQL Error Codes'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from headstart.sql.tokens import tokens

_LOOKED_AT = 20_000  # characters of a statement, which may have millions
_SHORT = 4  # characters: a shorter constant is replaced only where the server has put it between marks
# Of these the server quotes values: data exceptions, violated constraints, syntax errors. The others quote names, which
# a statement may well have as a constant too (nextval('users_id_seq')).
_QUOTED = re.compile(r'"([^"]+)"')  # a value, or the part of one that cannot be read
_QUOTE_VALUES = ("22", "23", "42601")


def without_constants(text: str, sqlstate: str | None, statement: str, values: Iterable[object] = ()) -> str:
    """What the server says of a statement, with `...` in the place of its string constants.

    Args:
        text: the server's words.
        sqlstate: its code for the error.
        statement: that has failed.
        values: of its parameters.
    """
    if sqlstate is None or not sqlstate.startswith(_QUOTE_VALUES):
        return text
    strings = {each for each in values if isinstance(each, str)}.union(_constants(statement[:_LOOKED_AT]))
    whole = "\n".join(strings).lower()
    text = _QUOTED.sub(lambda quoted: '"..."' if quoted[1].lower() in whole else quoted[0], text)
    for constant in sorted(strings, key=len, reverse=True):
        if len(constant) >= _SHORT:
            text = text.replace(constant, "...")
        elif constant:
            marked = rf"(?<=[\"(=,' ]){re.escape(constant)}(?=[\"),'])"
            text = re.sub(marked, "...", text)
    return text


def _constants(statement: str) -> Iterator[str]:
    for token in tokens(statement):
        if token.kind != "string":
            continue
        opening = re.match(r"\$[^$]*\$|[eE]?'", token.text)
        body = token.text[opening.end() :] if opening is not None else token.text
        if opening is not None and opening.group().startswith("$"):
            body = body.removesuffix(opening.group())
            yield from _constants(body)  # of a function's or a DO block's body
        else:
            body = body.removesuffix("'")
            yield body.replace("''", "'")
        yield body
