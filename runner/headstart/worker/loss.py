"""Whether a failure is the server's or the connection's (63), or the revision's own (60).

The class of a SQLSTATE does not say so: RAISE takes any code that its author likes, and COPY from a file that is not
there has one of class 58 as a broken disk has. What does: whether the session has ended, and which part of the server
speaks. PostgreSQL manual: 'PostgreSQL Error Codes', 'Error and Notice Message Fields'.

The server says the same of a session or a statement that a revision ends by itself, and of one that an administrator
ends. So that is 63, too, and its hint says what to look at if it comes again.
"""

from __future__ import annotations

import traceback

import asyncpg

from headstart.errors import remedies
from headstart.postgres.diagnosis import has_failed
from headstart.worker.failure import field, find, sqlstate_of

CANCELED = "57014"

# FATAL errors that tell of the session or the server; another session that is refused is not it.
_ENDED = ("08", "25P03", "25P04", "53", "57P", "58", "XX")
# Where codes are passed on: those of PL/pgSQL's RAISE, of Python, Perl and Tcl, and of another server.
_PASSED_ON = frozenset({"pl_exec.c", "plpy_elog.c", "plpy_plpymodule.c", "plperl.c", "pltcl.c", "dblink.c"})


def is_lost(error: BaseException, *, statement_timeout: float) -> bool:
    """Whether the connection, the session or the server has failed, and not what was executed.

    Args:
        error: what was raised.
        statement_timeout: seconds; where there is none, a cancelled statement was cancelled by somebody.
    """
    state = sqlstate_of(error)
    severity = field(error, "severity_en", "severity_nonlocalized") or field(error, "severity", "severity")
    if severity in {"FATAL", "PANIC"}:
        return (state or "").startswith(_ENDED)
    if severity:
        return not is_chosen(error) and _has_failed(error, state, statement_timeout)
    return _is_closed(error, state)


def is_chosen(error: BaseException) -> bool:
    """Whether the revision has chosen the SQLSTATE itself: then it says nothing of the server, or of others."""
    return field(error, "server_source_filename", "source_file") in _PASSED_ON


def remedy(error: BaseException) -> str | None:
    """What to do about a failed revision, where the error tells."""
    return None if is_chosen(error) else remedies.of_failure(error, sqlstate_of(error))


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
