"""What a failure to connect means: whether it may pass by itself, and the error for the user if it does not.

The table of what waiting meets, by SQLSTATE and by exception. PostgreSQL manual, 'PostgreSQL Error Codes'.
"""

from __future__ import annotations

import socket
import ssl
from enum import Enum
from typing import NamedTuple

import asyncpg

from headstart.errors import (
    ConfigurationError,
    HeadstartError,
    LostInTheQueueError,
    NotReadyError,
    RefusedError,
    UnsuitableServerError,
)
from headstart.settings.dsn import Dsn

POOLER_HINT = "set DATABASE_DIRECT_URL to the server itself: the migration lock does not hold through a pooler"


class Verdict(Enum):
    """Whether a failure to connect may pass by itself."""

    AGAIN = "again"
    GRACE = "grace"
    STOP = "stop"


class Diagnosis(NamedTuple):
    """What a failure to connect means."""

    verdict: Verdict
    error: type[HeadstartError]
    cause: str
    hint: str | None = None
    sqlstate: str | None = None


class NotYet(Exception):  # noqa: N818  (a state, not an error)
    """A query was answered, but not yet by the server that we are waiting for."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.cause)
        self.diagnosis = diagnosis


_AGAIN_STATES = {
    "57P03": "the server is starting up or shutting down",
    "57P01": "the server is shutting down",
    "57P02": "the server is restarting after a crash",
    "53300": "the server has no connection slot free",
    "08003": "the connection was closed while it was made",
    "08006": "the connection was lost while it was made",
}
_REFUSED_STATES = {
    "28P01": ("the password is wrong or missing", "correct the password in DATABASE_URL, its _FILE or the passfile"),
    "28000": ("the role does not exist or pg_hba.conf does not admit it", "correct role or pg_hba.conf"),
    "42501": ("the role may not connect to the database", "grant connect on database {database} to {user}"),
    "55000": ("the database does not accept connections", "alter database {database} allow_connections true"),
}


def diagnose(error: BaseException, dsn: Dsn) -> Diagnosis:
    """Say what a failure to connect means.

    Args:
        error: what asyncpg, ssl, the socket layer or `require_primary` raised; anything else is raised again.
        dsn: for the names in the hints.
    """
    if isinstance(error, NotYet):
        return error.diagnosis
    if isinstance(error, HeadstartError):
        return Diagnosis(Verdict.STOP, type(error), error.message, error.hint)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    state = getattr(error, "sqlstate", None)
    found = _from_sqlstate(state, text, dsn) if state else None
    return found or _from_exception(error, state, text, dsn)


def _from_sqlstate(state: str, text: str, dsn: Dsn) -> Diagnosis | None:
    where = dsn.display()
    if state == "3D000":
        hint = f"create it (create database {dsn.database}) or correct the name"
        return Diagnosis(Verdict.GRACE, RefusedError, f"there is no database {dsn.database!r} at {where}", hint, state)
    if state == "08P01":
        cause = f"a pooler refused a start-up parameter ({where}: {text})"
        return Diagnosis(Verdict.STOP, UnsuitableServerError, cause, POOLER_HINT, state)
    if state in _REFUSED_STATES:
        cause, hint = _REFUSED_STATES[state]
        return _refused(f"{cause} ({where}: {text})", hint.format(database=dsn.database, user=dsn.user), state)
    if state in _AGAIN_STATES:
        return Diagnosis(Verdict.AGAIN, NotReadyError, f"{_AGAIN_STATES[state]} ({where})", sqlstate=state)
    return None


def _from_exception(error: BaseException, state: str | None, text: str, dsn: Dsn) -> Diagnosis:  # noqa: C901, PLR0911
    """By the exception's class, the most special first: a certificate's error is an OSError too."""
    where = dsn.display()
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in text:
        hint = "switch TLS on in the server, or set sslmode=prefer or sslmode=disable in the URL"
        return _refused(f"the URL asks for TLS, and the server offers none ({where})", hint)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "give the right sslrootcert in the URL, or the host name that the certificate bears"
        return _refused(f"the server's certificate is not accepted ({where}: {text})", hint)
    if isinstance(error, ssl.SSLError):
        hint = "compare sslmode, sslcert and sslkey in the URL with the server's TLS settings"
        return _refused(f"TLS could not be agreed on ({where}: {text})", hint)
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return _again(f"no host has the role that target_session_attrs asks for ({where})")
    if isinstance(error, socket.gaierror):
        return _again(f"the host name is not known (yet): {where}")
    if isinstance(error, TimeoutError):
        return _again(f"no answer from {where} in time")
    if isinstance(error, OSError):
        return _again(f"no connection to {where}: {error.strerror or text}")
    if isinstance(error, asyncpg.ClientConfigurationError | ValueError):
        return Diagnosis(Verdict.STOP, ConfigurationError, f"the connection settings are not usable: {text}")
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        raise error
    if state is None or state[:2] in {"08", "53", "57"}:
        return _again(f"the connection was lost while it was made ({where}: {text})", state)
    return _refused(f"the server refused the connection ({where}: {text})", sqlstate=state)


def is_lost(error: BaseException) -> bool:
    """Whether a session that was at work has ended: reset, silent, terminated, or the server stopped."""
    fatal = getattr(error, "severity_en", None) in {"FATAL", "PANIC"}
    unanswered = isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.ConnectionDoesNotExistError)
    return fatal or unanswered


# Of errors that leave a session alive, those that are the server's, or its machine's: too little of something, a disk
# that is full or broken, damaged data. What a setting forbids (53400 temp_file_limit) is not among them, nor is a file
# that a statement names and that is not there (58P01).
_SERVER_FAILED = frozenset({"53000", "53100", "53200", "58030", "XX001", "XX002"})
_RACES = frozenset({"simple_heap_update", "simple_heap_delete"})  # XX000 "tuple concurrently updated": another session


def server_failed(error: BaseException) -> bool:
    """Whether an error of asyncpg's that has left its session alive tells of the server, and not of the statement."""
    state = getattr(error, "sqlstate", None)
    return has_failed(state, getattr(error, "hint", None), getattr(error, "server_source_function", None))


def has_failed(state: str | None, hint: str | None, function: str | None) -> bool:
    """The same, by the fields of an error.

    Args:
        state: its SQLSTATE.
        hint: the server's.
        function: of the server's source, that has raised it.
    """
    if state == "53200" and hint:
        # No memory is missing, but a place in a table of fixed size: the hint names its setting, such as
        # max_locks_per_transaction. A revision that takes so many locks takes them again, however often it is run.
        return False
    return state in _SERVER_FAILED or (state == "XX000" and function in _RACES)


def how_lost(error: BaseException) -> str:
    """What is known of the end of a session that was at work, in words; `error` is one for which `is_lost` is true."""
    state = getattr(error, "sqlstate", None) or ""
    known = None if state.startswith("08") else _AGAIN_STATES.get(state)  # 08: while it was made
    return known or str(error).partition("\n")[0] or type(error).__name__


def lost(error: BaseException) -> LostInTheQueueError:
    """The error for a session that has ended while it waited for the migration lock.

    Args:
        error: for which `is_lost` is true.
    """
    return LostInTheQueueError(
        f"the connection was lost while waiting for the migration lock: {how_lost(error)}",
        hint="see why the server ended it, then run again",
        sqlstate=getattr(error, "sqlstate", None),
    )


def _again(cause: str, sqlstate: str | None = None) -> Diagnosis:
    return Diagnosis(Verdict.AGAIN, NotReadyError, cause, sqlstate=sqlstate)


def _refused(cause: str, hint: str | None = None, sqlstate: str | None = None) -> Diagnosis:
    return Diagnosis(Verdict.STOP, RefusedError, cause, hint, sqlstate)
