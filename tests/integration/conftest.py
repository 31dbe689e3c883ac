"""Connections that close themselves."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Connect(Protocol):
    """Open a connection that is closed at the end of the test."""

    async def __call__(self, url: str, **options: Any) -> asyncpg.Connection:
        """`options` are asyncpg's."""


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Plain asyncpg connections, as many as a test wants."""
    async with AsyncExitStack() as stack:

        async def open_connection(url: str, **options: Any) -> asyncpg.Connection:
            connection: asyncpg.Connection = await asyncpg.connect(url, **options)
            stack.push_async_callback(connection.close)
            return connection

        yield open_connection
