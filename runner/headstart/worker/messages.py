"""What supervisor and worker say to each other: one JSON object a line, on a socket that nobody else has."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec

from headstart.history.project import Project
from headstart.log.secret import Secret
from headstart.settings.dsn import Dsn

DESCRIPTORS_CLOSED = 120
"""Exit status of a fork whose socket env.py has closed."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Base of all of them: the class's name says which it is."""


# -- from the supervisor to the worker --------------------------------------------------------------------------------


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which database the sessions of env.py have to be in, and what they are given.

    Args:
        dsn: the database, with the one host that answered.
        backend: pid of the supervisor's own session there.
        token: an advisory lock that this session holds alone: whoever cannot have it is in the same database.
        work_key: the advisory lock that each session holds in shared mode while it lives; None: nothing is changed.
        read_only: sessions start with default_transaction_read_only on.
        everywhere: engines with an address of env.py's own are led to this database too: it is a scratch database.
        schema: the schema that has to come first in each session's search path.
        application_name: how pg_stat_activity shows the sessions.
        lock_timeout: seconds that a statement may wait for a table lock; 0 for none.
        statement_timeout: seconds that a statement may take; 0 for none.
    """

    dsn: Dsn
    backend: int
    token: int
    work_key: int | None = None
    read_only: bool = False
    everywhere: bool = False
    schema: str | None = None
    application_name: str = "headstart"
    lock_timeout: float = 0.0
    statement_timeout: float = 0.0


class Ledger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each row of the ledger says, whatever the revision. As `ledger.writer.Writer` takes it.

    Args:
        history: `key` of the project.
        run_id: of the run.
        image: what this image calls itself.
        backup: the folder of the backup that was taken before.
        there: the table is known to exist.
    """

    history: str
    run_id: str
    image: str | None = None
    backup: str | None = None
    there: bool = False


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revision to be applied or reverted."""

    revision: str
    up: bool = True


class _Task(_Message, frozen=True, kw_only=True):
    """Something that a fork of the worker is to do.

    Args:
        project: where its files are.
        access: None where env.py is not to reach a database.
        options: what Alembic's command line would hand to env.py: `x`, `tag`.
        environ: variables that are set while it is done; None takes one away.
    """

    project: Project
    access: Access | None = None
    options: dict[str, Any] = {}
    environ: dict[str, str | None] = {}


class Plan(_Task, frozen=True, kw_only=True):
    """Run env.py, find out what is recorded and where, and which revisions lead to the target. Nothing is changed.

    Args:
        target: in Alembic's words; None to look at what is recorded alone.
        up: whether the way goes up.
    """

    target: str | None = None
    up: bool = True


class Migrate(_Task, frozen=True, kw_only=True):
    """Run env.py, and have Alembic apply or revert these revisions.

    Args:
        target: in Alembic's words.
        before: what has to be recorded when it begins.
        place: where env.py's version table has to be; None for wherever it is.
        steps: in the order in which they are run.
        one_transaction: leave env.py's own choice of transactions alone.
        ledger: write a row for each revision; None for none.
        statements: report each statement that a revision has executed, whole.
        interactive: when the steps are done, ask for more instead of ending.
    """

    target: str = "head"
    before: tuple[str, ...] | None = None
    place: Place | None = None
    steps: tuple[Wanted, ...] = ()
    one_transaction: bool = False
    ledger: Ledger | None = None
    statements: bool = False
    interactive: bool = False


class Stamp(_Task, frozen=True, kw_only=True):
    """Run env.py, and write the version table without running a revision.

    Args:
        revisions: what is to be recorded, in Alembic's words.
        purge: empty the table before.
        ledger: write a row for each revision that is then in force.
        action: what these rows say was done.
        known: revisions that the ledger has already, with the SHA-256 of their source.
    """

    revisions: tuple[str, ...]
    purge: bool = False
    ledger: Ledger | None = None
    action: str = "stamped"
    known: dict[str, str] = {}


class Command(_Task, frozen=True, kw_only=True):
    """Run one of Alembic's own commands; what it prints is data.

    Args:
        verb: its name.
        arguments: its own, as they were typed.
    """

    verb: str
    arguments: tuple[str, ...] = ()


class Compare(_Task, frozen=True, kw_only=True):
    """Run env.py, and compare the models with the database, as `alembic check` does.

    Gives a list of {operation, what, told}, or None where env.py gives no `target_metadata`.
    """


class Describe(_Task, frozen=True, kw_only=True):
    """Say what the revision files hold, by Alembic's own reading; env.py is not run.

    Args:
        target: also say which revisions lead to it from an empty database.
    """

    target: str | None = None


class Format(_Task, frozen=True, kw_only=True):
    """Let the project's post-write hooks at a file. With a database, env.py is run first: it may register hooks."""

    path: str


class Name(_Task, frozen=True, kw_only=True):
    """Say what `alembic revision` would call the file of a revision."""

    revision: str
    message: str
    moment: datetime.datetime


class Parse(_Message, frozen=True, kw_only=True):
    """Read the arguments of one of Alembic's verbs, as the `alembic` command does."""

    verb: str
    arguments: tuple[str, ...]


class More(_Message, frozen=True, kw_only=True):
    """For an interactive `Migrate`: further steps, or revisions to stamp; neither ends it."""

    steps: tuple[Wanted, ...] = ()
    stamp: tuple[str, ...] | None = None


Task = Plan | Migrate | Stamp | Command | Compare | Describe | Format | Name | Parse

# -- from the worker to the supervisor --------------------------------------------------------------------------------


class Started(_Message, frozen=True, kw_only=True):
    """A fork of the worker waits for its tasks."""

    pid: int


class Connected(_Message, frozen=True, kw_only=True):
    """env.py has opened a session in our database."""

    backend: int
    user: str
    schema: str | None
    driver: str


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A revision as Alembic would apply or revert it.

    Args:
        revision: its id.
        down: what has to be applied before it: down_revision and depends_on.
        description: the first line of its message.
        path: its file.
        sha256: of that file, in a lineage.
        up: whether it is applied.
    """

    revision: str
    down: tuple[str, ...] = ()
    description: str = ""
    path: str = ""
    sha256: str = ""
    up: bool = True


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where env.py's own session finds the version table, or would make it.

    Args:
        table: its name.
        schema: its schema; None if the search path leads nowhere.
        configured: the schema that env.py gives to Alembic, if it gives one.
        oid: None while there is no such table.
        user: the session's current role.
    """

    table: str
    schema: str | None
    configured: str | None = None
    oid: int | None = None
    user: str = ""

    def is_like(self, other: Place) -> bool:
        """Whether it is the same table, made or not."""
        return (self.table, self.schema) == (other.table, other.schema)


class Planned(_Message, frozen=True, kw_only=True):
    """What is recorded, where, and what is to be run.

    Args:
        recorded: what the version table holds.
        place: the version table.
        steps: the way to the target; none where the task has given it.
        heads: of the history.
        one_transaction: why all revisions share one transaction; "" if each has its own.
    """

    recorded: tuple[str, ...]
    place: Place
    steps: tuple[Step, ...] = ()
    heads: tuple[str, ...] = ()
    one_transaction: str = ""


class RevisionStarted(_Message, frozen=True, kw_only=True):
    """A revision begins."""

    revision: str


class Committing(_Message, frozen=True, kw_only=True):
    """The revision at work may now commit a transaction before its end.

    Args:
        xid: of the transaction; the server knows what becomes of it.
        statements: that the revision has executed in it, or their beginnings; None if it has written nothing.
        unheard: it may have executed others, on the driver's own connection.
    """

    xid: str
    statements: tuple[str, ...] | None
    unheard: bool


class StatementStarted(_Message, frozen=True, kw_only=True):
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


class StatementEnded(_Message, frozen=True, kw_only=True):
    """It has returned, well or not.

    Args:
        until: for one in no transaction: the next transaction's id after it.
        rolled_back: it has failed, and as a whole.
    """

    until: int | None = None
    rolled_back: bool = False


class Executed(_Message, frozen=True, kw_only=True):
    """A statement of a revision, whole, after it was executed. Only where the task asks for statements."""

    revision: str
    text: str
    path: str
    line: int | None
    in_transaction: bool
    up: bool


class RevisionApplied(_Message, frozen=True, kw_only=True):
    """A revision is done.

    Args:
        revision: its id.
        up: whether it was applied; otherwise reverted.
        seconds: that it took.
        committed: whether its transaction has been committed; otherwise env.py's own decides.
        on_indexes: its statements that name an index.
    """

    revision: str
    up: bool
    seconds: float
    committed: bool
    on_indexes: tuple[str, ...] = ()


class Idle(_Message, frozen=True, kw_only=True):
    """An interactive `Migrate` waits for `More`."""

    recorded: tuple[str, ...]


class Logged(_Message, frozen=True, kw_only=True):
    """A line for the log."""

    level: str
    event: str
    fields: dict[str, Any] = {}


class Data(_Message, frozen=True, kw_only=True):
    """Something for stdout."""

    text: str


MOVED = "moved"
"""In `Failed.context`: nothing was run, because the task was made for another state than env.py found."""


class Failed(_Message, frozen=True, kw_only=True):
    """The task has failed.

    Args:
        error: the class of `headstart.errors` that says what it means.
        message: the cause.
        hint: what to do; None for the class's own.
        context: fields for the log.
        revision: that was at work; None if none was.
        sqlstate: of the server's error.
        lost: the connection or the server has failed, not the statement.
        unheard: that revision works on the driver's own connection, and may have committed there.
    """

    error: str
    message: str
    hint: str | None = None
    context: dict[str, Any] = {}
    revision: str | None = None
    sqlstate: str | None = None
    lost: bool = False
    unheard: bool = False


class Finished(_Message, frozen=True, kw_only=True):
    """The task is done.

    Args:
        value: what it gives, as plain data.
        reusable: nothing is left open: no connection, thread or child process. The fork may do another task.
    """

    value: Any = None
    reusable: bool = False


class Ended(_Message, frozen=True, kw_only=True):
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
    return _ENCODER.encode(message) + b"\n"


def decode_task(line: bytes) -> Task | More:
    """What the supervisor has sent."""
    return _TASKS.decode(line)


def decode_message(line: bytes | bytearray) -> Message:
    """What the worker has sent."""
    return _MESSAGES.decode(line)


def _plain(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _typed(kind: type, value: Any) -> Any:  # noqa: ANN401  (msgspec's own)
    return kind(value) if kind is Secret or issubclass(kind, Path) else value


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
_TASKS: msgspec.json.Decoder[Task | More] = msgspec.json.Decoder(Task | More, dec_hook=_typed)
_MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
