"""What the supervisor asks a fork of the worker to do: one JSON object a line. What it answers is in `messages`."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from headstart.history.project import Project
from headstart.postgres.version_table import Place
from headstart.settings.dsn import Dsn


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Base of tasks and messages: the class's name says on the line which it is."""


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which database the sessions of env.py have to be in, and what they are given.

    Args:
        dsn: the database, with the one host that answered.
        backend: pid of the supervisor's own session there.
        token: an advisory lock that this session holds alone: whoever cannot have it is in the same database.
        work_key: the advisory lock that each session holds in shared mode while it lives; None: nothing is changed.
        read_only: sessions start with default_transaction_read_only on.
        rolled_back: and yet SQLAlchemy's transactions may write there, and are rolled back once they have.
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
    rolled_back: bool = False
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


class _Task(Line, frozen=True, kw_only=True):
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

    @property
    def dsn(self) -> Dsn | None:
        """The database, if one is to be reached."""
        return None if self.access is None else self.access.dsn


class Plan(_Task, frozen=True, kw_only=True):
    """Run env.py, find out what is recorded and where, and which revisions lead to the target. Nothing is changed.

    Gives a `Planned`, or None where env.py has not let Alembic look.

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
        steps: the revisions, in the order in which they are run.
        up: whether they are applied; otherwise reverted.
        one_transaction: leave env.py's own choice of transactions alone.
        ledger: write a row for each revision; None for none.
        statements: report each statement that a revision has executed, with its full text.
        interactive: when the steps are done, ask for more instead of ending.
    """

    target: str = "head"
    before: tuple[str, ...] | None = None
    place: Place | None = None
    steps: tuple[str, ...] = ()
    up: bool = True
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

    Gives a list of {operation, what, message}, or None where env.py gives no `target_metadata`.
    """


class Describe(_Task, frozen=True, kw_only=True):
    """Say what the revision files hold, by Alembic's own reading; env.py is not run.

    Args:
        target: also say which revisions lead to it from an empty database.
    """

    target: str | None = None


class Format(_Task, frozen=True, kw_only=True):
    """Let the project's post-write hooks at a file. env.py is run first: it may register hooks."""

    path: str


class Name(_Task, frozen=True, kw_only=True):
    """Say what `alembic revision` would call the file of a revision."""

    revision: str
    message: str
    moment: datetime.datetime


class Parse(Line, frozen=True, kw_only=True):
    """Read the arguments of one of Alembic's verbs, as the `alembic` command does."""

    verb: str
    arguments: tuple[str, ...]


class More(Line, frozen=True, kw_only=True):
    """For an interactive `Migrate`: one revision more, or revisions to stamp; neither ends it."""

    revision: str | None = None
    up: bool = True
    stamp: tuple[str, ...] | None = None


Task = Plan | Migrate | Stamp | Command | Compare | Describe | Format | Name | Parse
