"""Waiting for a condition, not for a time: a test that sleeps is slow on a quick machine and flaky on a slow one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

PAUSE = 0.02
SECONDS = 30


def eventually(look: Callable[[], _T | None], what: str, *, seconds: float = SECONDS) -> _T:
    """Look again and again until there is something to see, and return it; fail when it does not come about."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(PAUSE)
    return seen


async def soon(look: Callable[[], object], what: str, *, seconds: float = SECONDS) -> None:
    """The same, while the event loop goes on."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(PAUSE)
