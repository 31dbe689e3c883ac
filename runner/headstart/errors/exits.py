"""The exit codes: what a script, a Job or a pod's `lastState` can decide on.

One enum, and nothing else knows the numbers. docs/exit-codes.md and the README's table are generated from it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """How a run ended. `database` says what it left behind, `advice` what to do next."""

    database: str
    advice: str

    def __new__(cls, code: int, database: str, advice: str) -> Self:
        """Make a member from its row of the table."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.database = database
        member.advice = advice
        return member

    DONE = 0, "at the target", "nothing"
    USAGE = 2, "untouched", "correct the command line; `--help` lists what there is"
    PENDING = 3, "untouched", "revisions are pending (only from `status --exit-code`): run `headstart up`"
    CONFIGURATION = 10, "untouched", "correct the settings that the message lists"
    NOT_READY = (
        20,
        "untouched",
        "the server was not ready in time, or (`wait --for head`) revisions are pending: look there, then run again",
    )
    REFUSED = (21, "untouched", "correct credentials, database name, pg_hba or privilege: waiting would not help")
    UNSUITABLE_SERVER = (
        22,
        "untouched",
        "connect to a primary, directly, of a supported version, with a pg_dump for it",
    )
    LOCK_NOT_OBTAINED = (
        30,
        "untouched",
        "another runner, named in the message, is still at work: wait for it, or end it",
    )
    BACKUP_FAILED = 40, "untouched", "correct disk, privilege or version as the message says, then run again"
    RESTORE_FAILED = 41, "untouched: it restores beside", "correct what the message says, then restore again"
    REHEARSAL_FAILED = 50, "untouched", "reserved: correct the revision, which would have failed"
    MIGRATION_FAILED = (60, "rolled back to the revision named", "correct the revision and run again")
    PARTLY_COMMITTED = (
        61,
        "at the revision named, plus the leftovers listed",
        "undo or remove each of the leftovers as the message says, then run again",
    )
    TABLE_LOCKS_NOT_OBTAINED = (
        62,
        "rolled back to the revision named",
        "end or wait for the blockers listed, then run again",
    )
    MIGRATION_INTERRUPTED = (
        63,
        "rolled back to the revision named, or reported as unknown",
        "the server or the connection failed, not the revision: run again",
    )
    BROKEN_HISTORY = 70, "untouched", "mend the revision files named"
    DATABASE_AHEAD = 71, "untouched", "start a newer image, or set HEADSTART_AHEAD=allow"
    DATABASE_UNKNOWN = 72, "untouched", "use the image that knows the recorded revision, or find out who wrote it"
    REVISION_EDITED = 73, "untouched", "restore the source of the applied revision; put the change into a new one"
    VERIFICATION_FAILED = 80, "as logged", "compare what is named with what was expected before starting the app"
    BUG = 99, "as logged", "report the traceback; the run can be repeated"
    HUNG_UP = 129, "rolled back, lock released", "run again"
    INTERRUPTED = 130, "rolled back, lock released", "run again"
    QUIT = 131, "rolled back, lock released", "run again"
    TERMINATED = 143, "rolled back, lock released", "run again"

    @property
    def outcome(self) -> str:
        """The name in lower case, as `run_finished` gives it in `outcome`."""
        return self.name.lower()
