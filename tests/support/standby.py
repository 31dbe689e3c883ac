"""A primary with a standby that has everything of it, and takes over when a test says so."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from support.postgres import Postgres, psql
from support.waiting import eventually


class Pair(Postgres):
    """A server with a standby behind it, which has what a client was told is committed. After `fail_over` it is that.

    Attributes:
        standby_port: where the standby listens; `add_standby` makes one.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._number = 0
        self._data = super().data_dir
        self.standby_port = 0

    @property
    def data_dir(self) -> Path:
        """The data folder of the present primary."""
        return self._data

    @property
    def _standby(self) -> Path:
        return self.folder / f"standby-{self._number}"

    def add_standby(self) -> None:
        """Copy the primary, start the copy as its standby, and have each commit wait for it."""
        self._number += 1
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.standby_port = int(probe.getsockname()[1])
        copy = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", f"--pgdata={self._standby}"]
        self._run([self.bindir / "pg_basebackup", f"--dbname={self.url()}", *copy])
        self._at(self._standby, "start", f"--log={self.folder / 'log'}", f"--options=-p {self.standby_port}")
        self._wait_for_standbys("*")
        streaming = "select 1 from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
        eventually(lambda: psql(self.url(), streaming), "the standby")

    def fail_over(self) -> None:
        """The primary crashes, and the standby takes over."""
        self.shut_down("immediate")
        self._at(self._standby, "promote")
        self._data, self.port = self._standby, self.standby_port
        self._wait_for_standbys("")

    def remove_standby(self) -> None:
        """Let the primary be alone again."""
        if self._data != self._standby:
            self._wait_for_standbys("")
            self._at(self._standby, "stop", "--mode=immediate")

    def stop(self) -> None:
        """End both, and remove everything of them."""
        if self._number and self._data != self._standby and (self._standby / "postmaster.pid").exists():
            self._at(self._standby, "stop", "--mode=immediate")
        super().stop()

    def _wait_for_standbys(self, names: str) -> None:
        psql(self.url(), f"alter system set synchronous_standby_names = '{names}'")
        psql(self.url(), "select pg_reload_conf()")

    def _at(self, data: Path, *words: str) -> None:
        self._run([self.bindir / "pg_ctl", f"--pgdata={data}", "--wait", "--silent", *words])
