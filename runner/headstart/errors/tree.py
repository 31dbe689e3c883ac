"""The error tree, with the exit code of each class.

    HeadstartError
    |-- UsageError                2
    |-- PendingError              3   from `status --exit-code` alone
    |-- ConfigurationError       10   every problem at once
    |   `-- EnvironmentWritesError
    |-- NotReadyError            20
    |-- RefusedError             21
    |-- UnsuitableServerError    22
    |-- LockNotObtainedError     30
    |-- BackupFailedError        40
    |-- RestoreFailedError       41
    |-- MigrationFailedError     60
    |   |-- PartlyCommittedError           61
    |   |-- TableLocksNotObtainedError     62
    |   `-- InterruptedMigrationError      63
    |-- BrokenHistoryError       70
    |-- DatabaseAheadError       71
    |-- DatabaseUnknownError     72
    |-- RevisionEditedError      73
    |-- VerificationFailedError  80
    |-- TenantsFailedError      that of the first tenant that failed
    `-- InterruptedRunError     129, 130, 131, 143

An error is one line for a person (`message`), one for what to do (`hint`), and fields for a machine (`context`).
"""

from __future__ import annotations

import signal

from headstart.errors.exits import Exit


class HeadstartError(Exception):
    """Something ended the run, for a reason that has a name.

    Args:
        message: the cause, in one line without secrets; the class's docstring when left out.
        hint: what to do next, in one line; the exit code's advice when left out.
        context: fields for the log line, JSON-serialisable.
    """

    exit: Exit = Exit.BUG

    def __init__(self, message: str | None = None, *, hint: str | None = None, **context: object) -> None:
        self.message = message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        self.hint = hint or self.exit.advice
        self.context = context
        super().__init__(self.message)


class UsageError(HeadstartError):
    """The command line does not make sense."""

    exit = Exit.USAGE


class PendingError(HeadstartError):
    """Revisions are pending, and `status --exit-code` was asked to say so."""

    exit = Exit.PENDING


class ConfigurationError(HeadstartError):
    """The settings are not usable. `problems` lists every one of them, each with the name to set."""

    exit = Exit.CONFIGURATION

    def __init__(self, *problems: str, hint: str | None = None, **context: object) -> None:
        self.problems = problems
        super().__init__("; ".join(problems), hint=hint, **context)


class EnvironmentWritesError(ConfigurationError):
    """env.py writes to the database before Alembic is asked anything."""


class NotReadyError(HeadstartError):
    """The server did not become ready in time."""

    exit = Exit.NOT_READY


class LostInTheQueueError(NotReadyError):
    """The session has ended while it waited for the migration lock: nothing was begun, and the run can begin again."""


class RefusedError(HeadstartError):
    """The server refused us, and waiting would not change its mind."""

    exit = Exit.REFUSED


class UnsuitableServerError(HeadstartError):
    """The server is there, but no migration can be run safely on it."""

    exit = Exit.UNSUITABLE_SERVER


class LockNotObtainedError(HeadstartError):
    """Another runner held the migration lock for too long, or ours was lost."""

    exit = Exit.LOCK_NOT_OBTAINED


class BackupFailedError(HeadstartError):
    """The backup failed, so nothing was migrated."""

    exit = Exit.BACKUP_FAILED


class RestoreFailedError(HeadstartError):
    """The backup was not restored, or did not take the database's place; the database itself is untouched."""

    exit = Exit.RESTORE_FAILED


class MigrationFailedError(HeadstartError):
    """A revision failed and was rolled back."""

    exit = Exit.MIGRATION_FAILED


class PartlyCommittedError(MigrationFailedError):
    """A revision failed after a statement outside its transaction had taken effect."""

    exit = Exit.PARTLY_COMMITTED


class TableLocksNotObtainedError(MigrationFailedError):
    """A revision did not get its table locks in time and was rolled back."""

    exit = Exit.TABLE_LOCKS_NOT_OBTAINED


class InterruptedMigrationError(MigrationFailedError):
    """The server, the connection or the worker failed while revisions were run, and not a revision."""

    exit = Exit.MIGRATION_INTERRUPTED


class BrokenHistoryError(HeadstartError):
    """The revision files do not form one history."""

    exit = Exit.BROKEN_HISTORY


class DatabaseUnknownError(HeadstartError):
    """The database's recorded revision is not in this history."""

    exit = Exit.DATABASE_UNKNOWN


class DatabaseAheadError(HeadstartError):
    """The database is newer than this history."""

    exit = Exit.DATABASE_AHEAD


class RevisionEditedError(HeadstartError):
    """The source of an applied revision has changed since."""

    exit = Exit.REVISION_EDITED


class VerificationFailedError(HeadstartError):
    """The database is not where it should be after the run."""

    exit = Exit.VERIFICATION_FAILED


class TenantsFailedError(HeadstartError):
    """Some tenants are not at the target.

    Args:
        message: which.
        exit: of the first of them, in the order of the list.
        hint: what to do next.
        context: fields for the log line.
    """

    def __init__(self, message: str, *, exit: Exit, hint: str, **context: object) -> None:  # noqa: A002  (as elsewhere)
        self.exit = exit
        super().__init__(message, hint=hint, **context)


class InterruptedRunError(HeadstartError):
    """A signal ended the run.

    Args:
        signum: SIGHUP, SIGINT, SIGQUIT or SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        self.exit = next(code for code in Exit if code == 128 + signum)
        super().__init__(f"interrupted by {signal.Signals(signum).name}")


def named(name: str) -> type[HeadstartError]:
    """The class of that name, as the worker reports it.

    Args:
        name: of a class whose arguments are a message, a hint and a context.
    """
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, HeadstartError) else HeadstartError
