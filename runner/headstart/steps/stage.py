"""The stages of a run, and what it means that one of them fails: the deadline passes in it, say."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from headstart.errors import (
    BackupFailedError,
    ConfigurationError,
    HeadstartError,
    LockNotObtainedError,
    MigrationFailedError,
    RestoreFailedError,
)


class Stage(StrEnum):
    """What a run is doing. The log has the seconds of each as `<name>_seconds`.

    Attributes:
        failure: the error, and with it the exit code, that a failure in this stage is; None where its cause decides.
    """

    failure: type[HeadstartError] | None

    def __new__(cls, name: str, failure: type[HeadstartError] | None = None) -> Self:
        """Make a member from its row of the table."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.failure = failure
        return member

    START = "start"
    WAIT = "wait"
    COMPARE = "compare"
    LOAD = "load", ConfigurationError
    LOCK = "lock", LockNotObtainedError
    BACKUP = "backup", BackupFailedError
    UPGRADE = "upgrade", MigrationFailedError
    DOWNGRADE = "downgrade", MigrationFailedError
    STAMP = "stamp", MigrationFailedError
    VERIFY = "verify"
    CHECK = "check", RestoreFailedError
    RESTORE = "restore", RestoreFailedError
    EXCHANGE = "exchange", RestoreFailedError
    REPAIR = "repair", MigrationFailedError
    REPLAY = "replay"
    DRIFT = "drift"
    REBUILD = "rebuild"
