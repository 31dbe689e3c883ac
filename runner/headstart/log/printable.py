"""Text that can be written and shown, whatever it was made of: bytes that are not UTF-8, control characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

_MANY: Final = 10
"""Names that a message lists one by one."""


def as_json(data: Any, *, enc_hook: Callable[[Any], str] = str) -> bytes:  # noqa: ANN401  (whatever JSON can hold)
    """Data as JSON. Bytes that are not UTF-8, which Python turns into lone surrogates, are shown as escapes.

    Args:
        data: what.
        enc_hook: makes a text of what JSON has no form for.
    """
    return msgspec.json.encode(encodable(msgspec.to_builtins(data, enc_hook=enc_hook)))


def encodable(data: Any) -> Any:  # noqa: ANN401  (plain data)
    """Plain data with escapes for what no UTF-8 can hold."""
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {encodable(key): encodable(each) for key, each in data.items()}
    if isinstance(data, list | tuple):
        return [encodable(each) for each in data]
    return data


def one_line(text: str) -> str:
    """Text with escapes for what is no visible character: it is one line, and a terminal obeys nothing in it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(count: int, noun: str) -> str:
    """A number and its noun: `1 revision`, `2 revisions`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """What a message about an unknown word ends with: `: did you mean up?`, if a known one is near it."""
    from difflib import get_close_matches  # off the no-op path

    near = get_close_matches(word, list(known), 1, cutoff)
    return f": did you mean {near[0]}?" if near else ""


def first_and_last(names: Sequence[str]) -> str:
    """Names for a message: all of a few, the first and the last of many."""
    return ", ".join(names) if len(names) <= _MANY else f"{names[0]} ... {names[-1]}"
