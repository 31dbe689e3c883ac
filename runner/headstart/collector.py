"""Python's garbage collector, where it would look for long and find nothing (Python's manual, 'gc')."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """While modules are loaded: they stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """While revisions are run: what has been loaded before them stays, only what they make is looked at."""
    if gc.get_freeze_count():  # who has us in a program of theirs does the same
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
