"""A statement that is on its way to the server while Python goes on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Sent:
    """A coroutine that has run up to its first wait. Who awaits it waits for the rest.

    A task runs first when the event loop turns next, and wakes who waits for it another turn later: with two or three
    statements in a revision that is a good part of what a revision costs. (Python 3.12 has tasks that start at once.)

    Args:
        run: what sends a statement, and returns its command tag.

    Raises:
        Exception: what `run` raised before it came to wait.
    """

    def __init__(self, run: Coroutine[Any, Any, str]) -> None:
        self._run = run
        self._wait: asyncio.Future[Any]
        self._tag: str | None = None
        self._go_on()

    def _go_on(self, error: BaseException | None = None) -> None:
        try:
            self._wait = self._run.send(None) if error is None else self._run.throw(error)
        except StopIteration as end:
            self._tag = end.value

    def __await__(self) -> Generator[Any, Any, str]:
        while self._tag is None:
            try:
                yield self._wait
            except BaseException as error:  # noqa: BLE001  (it is the coroutine's to handle, a cancellation above all)
                self._go_on(error)
            else:
                self._go_on()
        return self._tag

    async def abandon(self) -> None:
        """Ask the server to stop it. Nobody wants its result any more."""
        with contextlib.suppress(asyncio.CancelledError, Exception):
            while self._tag is None:
                self._go_on(asyncio.CancelledError() if self._wait.cancel() else None)
        await asyncio.sleep(0)  # asyncpg hears of it when the loop turns, and is not ready for the next before
