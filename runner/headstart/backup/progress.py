"""A line of log every few seconds while a backup is being taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger


class Stage(StrEnum):
    """What is being done."""

    DUMP = "dump"
    PROVE = "prove"


class Progress:
    """Speaks while its block runs.

    Args:
        folder: the folder that fills.
        tables: how many tables there are.
        log: receives `backup_progress`.
        heartbeat: seconds between two lines.
        watch: asked for further fields; when it fails, the line goes out without them.
    """

    def __init__(
        self,
        folder: Path,
        tables: int,
        *,
        log: FilteringBoundLogger,
        heartbeat: float,
        watch: Callable[[], Awaitable[Mapping[str, object]]] | None,
    ) -> None:
        self.stage = Stage.DUMP
        self._folder, self._tables = folder, tables
        self._log, self._heartbeat, self._watch = log, heartbeat, watch
        self._started = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start speaking."""
        self._task = asyncio.create_task(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Fall silent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _speak(self) -> None:
        sizes: list[int] = []
        while True:
            await asyncio.sleep(self._heartbeat)
            with contextlib.suppress(OSError):  # the folder may go while we look
                sizes = [path.stat().st_size for path in self._folder.iterdir()]
            self._log.info(
                "backup_progress",
                stage=self.stage.value,
                written_bytes=sum(sizes),
                files=len(sizes),
                tables=self._tables,
                elapsed_seconds=round(time.monotonic() - self._started, 1),
                **await self._further(),
            )

    async def _further(self) -> Mapping[str, object]:
        if self._watch is None:
            return {}
        try:
            async with asyncio.timeout(2.0):
                return await self._watch()
        except Exception as error:  # noqa: BLE001  (progress is a courtesy; it must not end a backup)
            return {"watch_failed": type(error).__name__}
