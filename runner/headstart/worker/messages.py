"""What a fork of the worker reports to the supervisor: one JSON object a line, on a socket that nobody else has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from headstart.errors import HeadstartError, named
from headstart.history.graph import Revision
from headstart.log.printable import as_json
from headstart.log.secret import Secret
from headstart.postgres.version_table import Place
from headstart.worker.tasks import Line, More, Task

DESCRIPTORS_CLOSED = 120
"""Exit status of a fork whose socket env.py has closed."""
OF_OURS = 121
"""Exit status of a fork that Headstart's own code has ended, by a bug; its traceback is on the fork's stderr."""


class Started(Line, frozen=True, kw_only=True):
    """A fork of the worker waits for its tasks."""

    pid: int


class Connected(Line, frozen=True, kw_only=True):
    """env.py has opened a session in our database."""

    backend: int
    user: str
    schema: str | None
    driver: str


class Planned(Line, frozen=True, kw_only=True):
    """What is recorded, where, and what is to be run.

    Args:
        recorded: what the version table holds.
        place: the version table.
        steps: the way to the target; none where the task has given it.
        heads: of the history.
        unknown: what is recorded, and not in the history.
        one_transaction: why all revisions share one transaction; "" if each has its own.
    """

    recorded: tuple[str, ...]
    place: Place
    steps: tuple[Revision, ...] = ()
    heads: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    one_transaction: str = ""


class RevisionStarted(Line, frozen=True, kw_only=True):
    """A revision begins."""

    revision: str


class Committing(Line, frozen=True, kw_only=True):
    """The revision at work may now commit a transaction before its end.

    Args:
        xid: of the transaction; the server knows what becomes of it. "" if it has ended, unseen, before that was asked.
        statements: that the revision has executed in it, or their beginnings; None if it has written nothing.
        unheard: it may have executed others, on the driver's own connection.
    """

    xid: str
    statements: tuple[str, ...] | None
    unheard: bool


class StatementStarted(Line, frozen=True, kw_only=True):
    """A statement goes to the server.

    Args:
        backend: pid of the session.
        statement: from its first word on, or the beginning of that.
        alone: for one of a revision that is in no transaction and may write: the next transaction's id before it.
        certain: that one leaves something wherever it succeeds.
    """

    backend: int
    statement: str
    alone: int | None = None
    certain: bool = False


class StatementEnded(Line, frozen=True, kw_only=True):
    """It has returned, well or not.

    Args:
        until: for one in no transaction: the next transaction's id after it.
        rolled_back: it has failed, and nothing of it stays.
    """

    until: int | None = None
    rolled_back: bool = False


class Executed(Line, frozen=True, kw_only=True):
    """A statement of a revision, with its full text, after it was executed. Only where the task asks for statements."""

    revision: str
    text: str
    path: str
    line: int | None
    in_transaction: bool
    up: bool


class RevisionApplied(Line, frozen=True, kw_only=True):
    """A revision is done.

    Args:
        revision: its id.
        up: whether it was applied; otherwise reverted.
        seconds: that it took.
        committed: whether its transaction has been committed; otherwise env.py's own decides.
    """

    revision: str
    up: bool
    seconds: float
    committed: bool


class Idle(Line, frozen=True, kw_only=True):
    """An interactive `Migrate` waits for `More`."""

    recorded: tuple[str, ...]


class Logged(Line, frozen=True, kw_only=True):
    """A line for the log."""

    level: str
    event: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Data(Line, frozen=True, kw_only=True):
    """Something for stdout."""

    text: str


MOVED = "moved"
"""In `Failed.context`: nothing was run, because the task was made for another state than env.py found."""


class Failed(Line, frozen=True, kw_only=True):
    """The task has failed.

    Args:
        error: the class of `headstart.errors` that says what it means.
        message: the cause.
        hint: what to do; None for the class's own.
        context: fields for the log.
        revision: that was at work; None if none was.
        sqlstate: of the server's error.
        lost: the connection or the server has failed, not the statement.
        chosen: the revision has brought that SQLSTATE about itself: no race was lost, no timeout has passed.
        unheard: that revision works on the driver's own connection, and may have committed there.
    """

    error: str
    message: str
    hint: str | None = None
    context: dict[str, Any] = msgspec.field(default_factory=dict)
    revision: str | None = None
    sqlstate: str | None = None
    lost: bool = False
    chosen: bool = False
    unheard: bool = False


class TaskFailedError(Exception):
    """A task has failed, and `failed` is what is reported of it: raised in the worker, and again in the supervisor."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed

    @property
    def meaning(self) -> HeadstartError:
        """An error of ours, where no revision was at work."""
        return named(self.failed.error)(self.failed.message, hint=self.failed.hint, **self.failed.context)


class Finished(Line, frozen=True, kw_only=True):
    """The task is done.

    Args:
        value: what it gives, as plain data.
        reusable: nothing is left open: no connection, thread or child process. The fork may do another task.
    """

    value: Any = None
    reusable: bool = False


class Ended(Line, frozen=True, kw_only=True):
    """The fork has ended; sent by the worker that it was forked from. As `os.waitstatus_to_exitcode` has it."""

    code: int


Message = (
    Started
    | Connected
    | Planned
    | RevisionStarted
    | Committing
    | StatementStarted
    | StatementEnded
    | Executed
    | RevisionApplied
    | Idle
    | Logged
    | Data
    | Failed
    | Finished
    | Ended
)


def encode(message: msgspec.Struct) -> bytes:
    """As one line, secrets in the clear: for the socket between the two processes, and nothing else."""
    return as_json(message, enc_hook=_plain) + b"\n"


def _plain(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _typed(kind: type, value: Any) -> Any:  # noqa: ANN401  (msgspec's own)
    return kind(value) if kind is Secret or issubclass(kind, Path) else value


decode_task: Callable[[bytes], Task | More] = msgspec.json.Decoder(Task | More, dec_hook=_typed).decode
"""What the supervisor has sent."""
decode_message: Callable[[bytes | bytearray], Message] = msgspec.json.Decoder(Message).decode
"""What the worker has sent."""
