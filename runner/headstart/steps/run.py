"""One run: what it was asked for, and with what. What became of it is in its record."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headstart.steps.record import Record

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.log.secret import Redactor
    from headstart.settings.settings import Settings
    from headstart.worker.supervise import Worker


class Run(msgspec.Struct, frozen=True):
    """What every step of a run is given.

    Args:
        settings: of this run.
        log: bound to this run's id.
        run_id: short and unique.
        environ: the process's environment, for the programs that are started.
        cwd: the working directory: relative paths of the Alembic project start here.
        redact: takes the secrets out of a text.
        interrupted: says which signal, if any, has asked the run to end.
        options: what Alembic's command line would hand to env.py: `x`, `tag`, and `name` of the ini's section.
        worker: one that has been started already.
        variables: what is different in the environment of the worker's tasks; None takes one away.
        schema: of a tenant that is one: nothing else in the database is this run's.
        record: what has become of it so far.
    """

    settings: Settings
    log: FilteringBoundLogger
    run_id: str
    environ: Mapping[str, str]
    cwd: str
    redact: Redactor
    interrupted: Callable[[], int | None] = lambda: None
    options: dict[str, Any] = {}
    worker: Worker | None = None
    variables: Mapping[str, str | None] = {}
    schema: str | None = None
    record: Record = msgspec.field(default_factory=Record)

    @property
    def section(self) -> str:
        """The ini file's section: Alembic's `--name`."""
        return str(self.options.get("name") or "alembic")

    @property
    def application_name(self) -> str:
        """How this run shows in pg_stat_activity: enough to find the process. Postgres cuts it at 63 bytes."""
        return f"headstart {self.run_id} {socket.gethostname()}:{os.getpid()}"[:63]
