"""Whether a failure is the server's or the connection's (63), or the revision's own (60).

The class of a SQLSTATE does not say so: RAISE takes any code that its author likes, and COPY from a file that is not
there has one of class 58 as a broken disk has. What does: whether the session has ended, what has ended it, and which
part of the server speaks. PostgreSQL manual: 'PostgreSQL Error Codes', 'Error and Notice Message Fields'.
"""

from __future__ import annotations

import re
import traceback

import asyncpg

from headstart.errors import remedies
from headstart.postgres.activity import summary
from headstart.postgres.diagnosis import has_failed
from headstart.worker.failure import field, find, sqlstate_of

CANCELED = "57014"

# FATAL errors that tell of the server; another session that is refused, or one that has run into a limit, is not it.
_ENDED = ("08", "53", "57P01", "57P02", "57P03", "58", "XX")
# Where codes are passed on: those of PL/pgSQL's RAISE, of Python, Perl and Tcl, and of another server.
_PASSED_ON = frozenset({"pl_exec.c", "plpy_elog.c", "plpy_plpymodule.c", "plperl.c", "pltcl.c", "dblink.c"})
# Headstart switches these off in env.py's sessions: whoever runs into one has set it.
_LIMITS = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
_SETS_LIMIT = re.compile(
    rf"(?:^|;)\s*set\s+(?:session\s+|local\s+)?({'|'.join(_LIMITS.values())})\s*(?:=|\bto\b)\s*(?!'?0+\b)"
    rf"|\bset_config\s*\(\s*'({'|'.join(_LIMITS.values())})'\s*,\s*(?!'0+')",
    re.IGNORECASE,
)
_LOOKED_AT = 20_000  # characters of a statement, which may have millions
_TERMINATES = re.compile(r"\bpg_terminate_backend\b", re.IGNORECASE)
_CANCELS = re.compile(r"\bpg_cancel_backend\b", re.IGNORECASE)


def limit_in(statement: str) -> str | None:
    """The limit of a session's time that a statement sets; None if it sets none, or to 0, which is no limit."""
    found = _SETS_LIMIT.search(statement[:_LOOKED_AT])
    return None if found is None else (found.group(1) or found.group(2)).lower()


def is_lost(error: BaseException, limit: str | None, *, statement_timeout: float) -> bool:
    """Whether the connection, the session or the server has failed, and not what was executed.

    Args:
        error: what was raised.
        limit: of the session's time, that env.py or the revision has set.
        statement_timeout: seconds; where there is none, a cancelled statement was cancelled by somebody.
    """
    state = sqlstate_of(error)
    severity = field(error, "severity_en", "severity_nonlocalized") or field(error, "severity", "severity")
    if severity in {"FATAL", "PANIC"}:
        return (state or "").startswith(_ENDED) and ended_by(error, limit) is None
    if severity:
        return not is_chosen(error) and _has_failed(error, state, statement_timeout)
    return _is_closed(error, state) and ended_by(error, limit) is None


def is_chosen(error: BaseException) -> bool:
    """Whether the revision has brought the SQLSTATE about itself: then it says nothing of the server, or of others."""
    if field(error, "server_source_filename", "source_file") in _PASSED_ON:
        return True
    return sqlstate_of(error) == CANCELED and _executing(error, _CANCELS)


def ended_by(error: BaseException, limit: str | None) -> str | None:
    """What of the project's own has ended its session; None if somebody else has, or something.

    psycopg2 does not report what the server has said last, nor does asyncpg between two statements. There it is what
    was set, and here what the server says.
    """
    state = sqlstate_of(error)
    if state in _LIMITS:
        return _LIMITS[state]
    ended = _is_closed(error, state) or field(error, "severity", "severity") in {"FATAL", "PANIC"}
    if ended and _executing(error, _TERMINATES):
        return "pg_terminate_backend"
    return None if (state or "").startswith("57P") or not _is_closed(error, state) else limit


def remedy(error: BaseException, limit: str | None) -> str | None:
    """What to do about a failed revision, where the error tells; `limit` as for `is_lost`."""
    found = ended_by(error, limit)
    if found == "pg_terminate_backend":
        return "leave out of the revision what ends its own session: pg_terminate_backend"
    if found is not None:
        return f"raise {found} where the revision or env.py sets it, or leave it out: Headstart switches it off"
    if is_chosen(error):
        cancels = _executing(error, _CANCELS)
        return "leave out of the revision what cancels its own statement: pg_cancel_backend" if cancels else None
    return remedies.of_failure(error, sqlstate_of(error))


def _has_failed(error: BaseException, state: str | None, statement_timeout: float) -> bool:
    """Whether an error that has left the session alive is the server's."""
    if state == CANCELED:
        text = field(error, "message", "message_primary") or ""
        if "user request" in text:
            return True
        return statement_timeout == 0 and "statement timeout" not in text  # one that the revision has set
    function = field(error, "server_source_function", "source_function")
    return has_failed(state, field(error, "hint", "message_hint"), function)


def _is_closed(error: BaseException, state: str | None) -> bool:
    """Whether the driver says that the session is gone."""
    database = find(error)
    if database is not None and database.connection_invalidated:
        return True
    if state is not None:
        return state.startswith("08")  # asyncpg's own word
    original = error if database is None else database.orig
    cause = getattr(original, "__cause__", None) or original
    if isinstance(cause, ConnectionError) and database is None and not _out_of_asyncpg(cause):
        return False  # a revision that calls some web service
    return isinstance(cause, ConnectionError | asyncpg.InterfaceError) and "clos" in str(cause)


def _out_of_asyncpg(error: BaseException) -> bool:
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(each.startswith("asyncpg.") for each in modules)


def _executing(error: BaseException, pattern: re.Pattern[str]) -> bool:
    database = find(error)
    statement = None if database is None else database.statement
    return statement is not None and pattern.search(summary(statement, _LOOKED_AT)) is not None  # without comments
