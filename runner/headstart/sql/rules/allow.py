"""The comments in a revision file by which it allows what a rule would refuse.

    # headstart: allow drop-column: no release since 2.4 reads it

One rule or several with commas between them, then the reason. It holds for the whole file.
"""

from __future__ import annotations

import io
import re
import tokenize
from typing import NamedTuple

_COMMENT = re.compile(r"#\s*headstart\s*:\s*(.*)", re.IGNORECASE)
_ALLOW = re.compile(r"allow\s+([\w-]+(?:\s*,\s*[\w-]+)*)\s*(?::\s*(.*))?$", re.IGNORECASE)


class Allowance(NamedTuple):
    """A rule that a revision file allows.

    Args:
        rule: its id as written, "" if the comment cannot be read.
        reason: why, "" if it gives no reason.
        line: where the comment stands, from 1.
    """

    rule: str
    reason: str
    line: int


def allowed(source: str) -> list[Allowance]:
    """The rules that a revision file allows, in their order.

    Args:
        source: the file's text. One that is not Python allows nothing.
    """
    if "headstart" not in source.lower():
        return []
    found: list[Allowance] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and (comment := _COMMENT.match(token.string)):
                found.extend(_read(comment.group(1).strip(), token.start[0]))
    except (tokenize.TokenError, SyntaxError):
        return []
    return found


def _read(comment: str, line: int) -> list[Allowance]:
    match = _ALLOW.match(comment)
    if match is None:
        return [Allowance("", "", line)]
    return [Allowance(rule.strip(), (match.group(2) or "").strip(), line) for rule in match.group(1).split(",")]
