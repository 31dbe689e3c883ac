"""The supervisor, as the worker's side sees it."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

from headstart.worker.messages import DESCRIPTORS_CLOSED, decode_task, encode

if TYPE_CHECKING:
    import msgspec

    from headstart.worker.tasks import More, Task


class Port:
    """The supervisor, as a task sees it.

    Args:
        channel: the socket between the two.

    Attributes:
        forked: this is a process that env.py has forked. It neither hears nor reports.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._lock = threading.Lock()  # env.py may run its migrations in a thread
        self.forked = False
        os.register_at_fork(after_in_child=self._abandon)

    def _abandon(self) -> None:
        self.forked = True
        with open(os.devnull, "r+b", buffering=0) as nowhere:  # noqa: PTH123  (a descriptor is wanted)
            os.dup2(nowhere.fileno(), self._channel.fileno())

    def send(self, message: msgspec.Struct) -> None:
        """Report something, or end: what nobody hears of must not go on."""
        if self.forked:
            return
        try:
            with self._lock:
                self._channel.sendall(encode(message))
        except OSError:
            os._exit(DESCRIPTORS_CLOSED)

    def receive(self) -> Task | More | None:
        """Wait for what comes next; None when the supervisor has no more."""
        line = self._lines.readline()
        return decode_task(line) if line else None

    def closing(self) -> bool:
        """Whether the supervisor has closed its end while a task is at work: it wants nothing new to begin."""
        try:
            return not self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
