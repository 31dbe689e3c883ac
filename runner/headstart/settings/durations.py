"""Durations as people write them: `30s`, `5m`, `1h30m`, `250ms`, or seconds."""

from __future__ import annotations

import math
import re
from typing import Final

_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_PLAIN: Final = re.compile(_NUMBER)
_UNITS: Final = re.compile(rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?")


def parse_duration(text: str) -> float:
    """Read a duration.

    Args:
        text: a number of seconds, or numbers with the units d, h, m, s, ms, each once and the largest first.

    Returns:
        Seconds.

    Raises:
        ValueError: it is anything else; the text says what a right value looks like.
    """
    word = text.strip()
    if _PLAIN.fullmatch(word):
        seconds = float(word)
    elif word and (match := _UNITS.fullmatch(word)):
        seconds = sum(
            float(number) * unit for number, unit in zip(match.groups(), _SECONDS.values(), strict=True) if number
        )
    else:
        raise ValueError(f"{quoted(text)} is not a duration: write 30s, 5m, 1h30m, 250ms or 90 (seconds)")
    if not math.isfinite(seconds):
        raise ValueError(f"{quoted(text)} is too long a duration: write 30s, 5m, 1h30m or 90 (seconds)")
    return seconds


def quoted(text: str) -> str:
    """A setting's text as a message shows it: quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")  # noqa: PLR2004  (enough to recognise it)
