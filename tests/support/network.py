"""A network that falls silent, or breaks, when a test says so; or that holds back one message of a client's."""

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
    """A TCP proxy in front of a server: a network that falls silent, breaks, or holds back what a test waits for.

    Use `url` in its stead. Everything goes through until one of its methods says otherwise.

    Attributes:
        seen: gets what clients send, if a test sets it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), parts.port or 5432)
        self._links: set[asyncio.Transport] = set()
        self._hanging = False
        self._refusing = False
        self._pause = 0.0
        self._awaited: list[bytes] = []
        self._held: tuple[_Side, list[bytes]] | None = None
        self._holding = threading.Event()
        self.seen: list[bytes] | None = None
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

    def hold(self, *texts: str) -> None:
        """Hold back a message of a client's, and what the same client sends after it, until `release`.

        Args:
            texts: what messages hold, one after the other; that with the last of them is held back.
        """
        self._awaited = [text.encode() for text in texts]

    def holds(self, *, seconds: float = 30) -> bool:
        """Wait until that message has come; whether it has."""
        return self._holding.wait(seconds)

    def release(self) -> None:
        """Let through what is held back, and hold back nothing more."""

        async def release() -> None:
            self._awaited.clear()
            held, self._held = self._held, None
            if held is not None:
                side, messages = held
                for message in messages:
                    side.pass_on(message)

        self._call(release)

    def slow(self, seconds: float) -> None:
        """From now on each piece that comes in is passed on so many seconds later."""
        self._pause = seconds

    def half_close(self) -> None:
        """Tell the clients, and not the server, that the other side has closed: what they send still goes through."""

        async def close() -> None:
            for link in tuple(self._links):
                side = link.get_protocol()
                if isinstance(side, _Side) and side.is_client:
                    side.closed = True
                    link.write_eof()

        self._call(close)

    def refuse(self, *, refusing: bool = True) -> None:
        """Whether new connections are broken as soon as they are made."""
        self._refusing = refusing

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
        if self._refusing and side.other is None:
            abort(transport)
        elif self._hanging:
            transport.pause_reading()
        elif side.other is None:
            transport.pause_reading()
            side.dialling = self._loop.create_task(self._dial(side, transport))

    def left(self, transport: asyncio.Transport) -> None:
        """A side is gone."""
        self._links.discard(transport)

    def passes(self, side: _Side, data: bytes) -> bool:
        """Look at what a side has sent: whether it goes through now."""
        if self._held is not None and self._held[0] is side:
            self._held[1].append(data)
            return False
        if side.is_client:
            if self.seen is not None:
                self.seen.append(data)
            if self._awaited and self._awaited[0] in data:
                self._awaited.pop(0)
                if not self._awaited:
                    self._held = (side, [data])
                    self._holding.set()
                    return False
        if self._pause:
            self._loop.call_later(self._pause, side.pass_on, data)
            return False
        return True

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
        self.is_client = other is None
        self.closed = False  # to it: it was told that nothing more comes
        self.dialling: asyncio.Task[None] | None = None
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.joined(self, transport)

    def data_received(self, data: bytes) -> None:
        if self._proxy.passes(self, data):
            self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        """Send on to the other side what came from this one."""
        if self.other is None or self.other.is_closing():
            return
        there = self.other.get_protocol()
        if not (isinstance(there, _Side) and there.closed):
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
