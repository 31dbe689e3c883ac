"""A network that falls silent, or breaks, when a test says so."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Proxy:
    """A TCP proxy in front of a server: a network that falls silent, or breaks.

    Use `url` in its stead. Everything goes through until `hang` or `reset`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), parts.port or 5432)
        self._links: set[asyncio.Transport] = set()
        self._hanging = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._server = self._call(self._listen)
        port = self._server.sockets[0].getsockname()[1]
        self.url = url.replace(f":{parts.port}/", f":{port}/")

    def hang(self) -> None:
        """From now on nothing is passed on, not even that a side has closed; new connections are met with silence."""

        async def hang() -> None:
            self._hanging = True
            for link in self._links:
                link.pause_reading()

        self._call(hang)

    def reset(self) -> None:
        """Break every connection that there is; new ones go through."""

        async def reset() -> None:
            for link in tuple(self._links):
                abort(link)

        self._call(reset)

    def stop(self) -> None:
        """Break every connection, and take no more."""

        async def stop() -> None:
            self._server.close()
            for link in tuple(self._links):
                abort(link)

        if self._thread.is_alive():
            self._call(stop)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, do: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Side(self), "127.0.0.1", 0)

    def joined(self, side: _Side, transport: asyncio.Transport) -> None:
        """A side is connected; if it is the client's, connect to the server for it."""
        self._links.add(transport)
        if self._hanging:
            transport.pause_reading()
        elif side.other is None:
            transport.pause_reading()
            side.dialling = self._loop.create_task(self._dial(side, transport))

    def left(self, transport: asyncio.Transport) -> None:
        """A side is gone."""
        self._links.discard(transport)

    async def _dial(self, side: _Side, transport: asyncio.Transport) -> None:
        host, port = self._target
        try:
            other, _ = await self._loop.create_connection(lambda: _Side(self, transport), host, port)
        except OSError:
            abort(transport)
            return
        side.other = other
        if not self._hanging and not transport.is_closing():
            transport.resume_reading()


class _Side(asyncio.Protocol):
    """One side of a connection through the proxy: what comes in goes out at the other."""

    def __init__(self, proxy: Proxy, other: asyncio.Transport | None = None) -> None:
        self.other = other
        self.dialling: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.joined(self, transport)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        assert self._transport is not None
        self._proxy.left(self._transport)
        if self.other is not None:
            self.other.close()


def abort(transport: asyncio.Transport) -> None:
    """Close so that the peer sees a reset."""
    wire = transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
