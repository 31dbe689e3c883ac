"""A line of log every few seconds while a backup is taken or restored."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from structlog.typing import FilteringBoundLogger


@contextlib.asynccontextmanager
async def progress(
    event: str,
    fields: Callable[[], Mapping[str, object]],
    *,
    log: FilteringBoundLogger,
    watch: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
    interval: float = 5.0,
) -> AsyncIterator[None]:
    """Log an event every few seconds while the block runs.

    Args:
        event: its name.
        fields: gives the fields of a line.
        log: receives it.
        watch: asked for further fields; if it fails, the line goes out without them.
        interval: seconds between two lines.
    """
    started = time.monotonic()

    async def report() -> None:
        while True:
            await asyncio.sleep(interval)
            found = {**fields(), "elapsed_seconds": round(time.monotonic() - started, 1)}
            if watch is not None:
                try:
                    async with asyncio.timeout(2.0):
                        found |= await watch()
                except Exception as error:  # noqa: BLE001  (progress is a courtesy; it must not end a backup)
                    found["watch_failed"] = type(error).__name__
            log.info(event, **found)

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
