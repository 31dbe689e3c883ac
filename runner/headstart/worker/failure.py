"""What an exception out of env.py or a revision means."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import traceback
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import PurePath

from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError

from headstart.errors import (
    BrokenHistoryError,
    ConfigurationError,
    EnvironmentWritesError,
    HeadstartError,
    NotReadyError,
    RefusedError,
    remedies,
)
from headstart.postgres.activity import cut, summary
from headstart.postgres.script_run import failure_of
from headstart.sql.constants import without_constants
from headstart.sql.script import ScriptError, split
from headstart.worker import sessions

READ_ONLY = "25006"
"""read_only_sql_transaction: what a session is told that may not write."""

_LONGEST = 2_000
_MOST_CALLS = 10
_MOST_ROWS = 1_000
_LIBRARIES = frozenset({"alembic", "asyncpg", "greenlet", "headstart", "psycopg", "psycopg2", "pg8000", "sqlalchemy"})
_PYTHON_S = (str(PurePath(os.__file__).parent), str(PurePath(__file__).parents[1]))


def sqlstate_of(error: BaseException) -> str | None:
    """The server's code, if the error is the server's."""
    original = _of_driver(error)
    state: str | None = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state


def _of_driver(error: BaseException) -> BaseException | None:
    """The driver's error below SQLAlchemy's; the error itself if it is not SQLAlchemy's."""
    database = find(error)
    return error if database is None else database.orig


def find(error: BaseException) -> DBAPIError | None:
    """SQLAlchemy's error among an error and its causes."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, DBAPIError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def field(error: BaseException, name: str, libpq_s: str) -> str | None:
    """A field of the server's error.

    Args:
        error: SQLAlchemy's, or a driver's own.
        name: as asyncpg has it.
        libpq_s: as the drivers on libpq have it.
    """
    original = _of_driver(error)
    server = getattr(original, "__cause__", None) or original
    found: str | None = getattr(server, name, None) or getattr(getattr(original, "diag", None), libpq_s, None)
    return found


def of_environment(error: BaseException, directory: str) -> HeadstartError:
    """What an exception out of env.py means where no revision was at work.

    Args:
        error: what was raised.
        directory: of env.py.
    """
    if sessions.has_withheld():  # it may well be that alone: env.py is asked again, and may commit then
        return EnvironmentWritesError(
            f"env.py writes to the database, and fails where that is not committed: {type(error).__name__}"
        )
    if isinstance(error, HeadstartError):
        return error
    database = find(error)
    if database is not None:
        return _of_statement(database, directory)
    if sqlstate_of(error) == READ_ONLY:  # on the driver's own connection
        return EnvironmentWritesError(f"env.py writes to the database: {first_line(error)}")
    return _of_code(error, directory)


def _of_code(error: BaseException, directory: str) -> HeadstartError:
    text = first_line(error)
    if isinstance(error, CommandError | RevisionError):
        return BrokenHistoryError(f"Alembic cannot go on: {text}")
    hint = _remedy(error)
    if isinstance(error, SystemExit):
        cause = f"env.py failed: it called sys.exit({error.code!r}) ({place(error, directory)})"
        return ConfigurationError(cause, hint=hint)
    cause = f"env.py failed: {type(error).__name__}: {text} ({place(error, directory)})"
    return ConfigurationError(cause, hint=hint, **_detail(error), **_calls(error, f"{directory}/env.py"))


def _of_statement(error: DBAPIError, directory: str) -> HeadstartError:
    """What a statement of env.py's own that has failed means. Its text is not shown: it may hold a secret."""
    state, found = sqlstate_of(error), of_server(error)
    cause = str(found.pop("cause"))
    if state == READ_ONLY:
        return EnvironmentWritesError(f"env.py writes to the database: {cause}")
    if state == "42501":
        return RefusedError(f"the role of env.py's connection may not do what it has to: {cause}", hint=_GRANT)
    if state == "55P03":
        return NotReadyError(
            f"env.py waited too long for a lock that another session holds: {cause}",
            hint="end or wait for that session (`headstart status`, pg_blocking_pids), then run again;"
            " HEADSTART_TABLE_LOCK_TIMEOUT says how long env.py waits",
        )
    return ConfigurationError(
        f"env.py failed: {cause}{f' [{state}]' if state else ''} ({place(error, directory)})",
        hint="correct env.py; nothing was changed",
        **found,
    )


_GRANT = "grant it to that role; the version table needs select, insert, update and delete"
_PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "pg8000": "pg8000", "asyncpg": "asyncpg"}


_ENGINES = ("create_engine", "create_async_engine")


def _remedy(error: BaseException) -> str:
    """What to do about an exception out of env.py that is not the database's."""
    if isinstance(error, ImportError):
        return of_import(error)
    if _misses_variable(error):
        return "set the variables that it names (any value will do in `check`); nothing was changed"
    return "correct env.py; nothing was changed"


def _misses_variable(error: BaseException) -> bool:
    """Whether `os.environ[...]` has not found one, or settings of pydantic's lack one."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, KeyError):
        return codes[-1] is type(os.environ).__getitem__.__code__
    return type(error).__name__ == "ValidationError" and "field required" in _text(error).lower()


def of_import(error: ImportError) -> str:
    """What to do about a module that is missing.

    A driver that nobody has named is SQLAlchemy's default: there it may be enough to name one that is installed.
    """
    package = _PACKAGES.get(error.name or "")
    if package is None:
        return "install what it imports beside Headstart, or correct `prepend_sys_path`"
    install = f"pip install '{package}'"
    fits = _installed_for_unnamed(error)
    if fits is None:
        return f"install the driver beside Headstart: {install}; Headstart's image has it"
    # The worker's own variable has the spelling that the user has given it, or none of a driver.
    place = "" if "+" in os.environ.get("DATABASE_URL", "").partition(":")[0] else "DATABASE_URL="
    return (
        f"the URL names no driver, so SQLAlchemy takes {error.name}: write {place}postgresql+{fits}://...,"
        f" or `{install}`"
    )


def _installed_for_unnamed(error: ImportError) -> str | None:
    """A driver that is installed and fits the engine in whose making the error was raised, if its URL names none."""
    made = [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name in _ENGINES and str(frame.f_globals.get("__name__")).startswith("sqlalchemy.")
    ]
    url = made[0].f_locals.get("url") if made else None
    if not isinstance(url, str | URL) or make_url(url).drivername != "postgresql":
        return None
    fitting = ("asyncpg",) if made[0].f_code.co_name == "create_async_engine" else ("psycopg", "psycopg2")
    return next((name for name in fitting if importlib.util.find_spec(name) is not None), None)


def of_loading(error: BaseException, directory: str) -> BrokenHistoryError:
    """What an exception out of a revision file means, when it is imported."""
    if isinstance(error, CommandError | RevisionError | KeyError):
        return BrokenHistoryError(f"Alembic cannot read the history: {error}")
    where = place(error, directory)
    return BrokenHistoryError(
        f"a revision file cannot be loaded: {type(error).__name__}: {first_line(error)} ({where})",
        hint=remedies.of_failure(error, None) or "correct the file, or install what it imports beside Headstart",
    )


def place(error: BaseException, directory: str) -> str:
    """The last line of the user's own project that an error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(directory)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else directory


def first_line(error: BaseException) -> str:
    """An error's text, without what comes below its first line."""
    return "".join(_text(error).splitlines()[:1])


def _detail(error: BaseException) -> dict[str, str]:
    """The rest of an error's text, as a field, if there is more than one line."""
    rest = cut("\n".join(_text(error).splitlines()[1:]), _LONGEST)
    return {"detail": rest} if rest else {}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001  (out of a class of the user's)
        return f"its text cannot be had: {type(another).__name__}"


def _calls(error: BaseException, path: str) -> dict[str, list[str]]:
    """Where an error was raised, as a field: from a file on through the app's own code, if it was not there itself."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((at for at, frame in enumerate(frames) if frame.filename == path), len(frames))
    shown = [f"{each.filename}:{each.lineno} in {each.name}" for each in frames[ours:] if _is_the_app_s(each.filename)]
    elsewhere = any(not each.startswith(f"{path}:") for each in shown)
    return {"calls": shown[-_MOST_CALLS:]} if elsewhere else {}


def _is_the_app_s(filename: str) -> bool:
    """Whether it is neither Python's nor a library's that has to do with the database."""
    _, installed, below = filename.rpartition("/site-packages/")
    if installed:
        return PurePath(below).parts[0] not in _LIBRARIES
    return not filename.startswith((*_PYTHON_S, "<"))


def of_revision(error: BaseException, *, path: str, line: int | None) -> dict[str, object]:
    """What is reported of a failed revision: cause, sqlstate, statement, position, location, detail; or what it raised.

    Args:
        error: what was raised.
        path: the revision's file.
        line: of the call that executed the last statement.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    location = f"{path}:{frames[-1].lineno}" if frames else f"{path}:{line}" if line else path
    if isinstance(error, HeadstartError):
        return {"cause": error.message, "location": location}
    if find(error) is not None or sqlstate_of(error) is not None:
        return {**of_server(error), "location": location, **_calls(error, path)}
    text = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else first_line(error)
    if isinstance(error, CommandError) and "expected to match one row" in text:
        cause = f"the version table was changed by the revision itself, or beside this run: {text}"
        return {"cause": cause, "location": location}
    name = type(error).__name__
    cause = f"{name}: {text}".rstrip(": ")
    return {"cause": cause, "location": location, "raised": name, **_detail(error), **_calls(error, path)}


def of_server(error: BaseException) -> dict[str, object]:
    """What the server says of a statement: cause, sqlstate, statement, position, detail, server_hint.

    Args:
        error: SQLAlchemy's, or a driver's own.
    """
    database, original = find(error), _of_driver(error)
    position: str | int | None = field(error, "position", "statement_position")
    statement = database.statement if database is not None else None
    script = failure_of(getattr(original, "__cause__", None) or original)
    if script is not None:
        statement, position = script.statement, script.position
    elif statement and position:
        statement, position = _of_several(statement, int(position))
    cause = field(error, "message", "message_primary") or str(original)
    detail, hint = field(error, "detail", "message_detail"), field(error, "hint", "message_hint")
    state = sqlstate_of(error)
    values = () if database is None else tuple(_values(database.params))

    def shown(text: object) -> str:
        return without_constants(str(text), state, statement or "", values)

    found = {
        "cause": (shown(cause).strip().splitlines() or [type(error).__name__])[0],
        "sqlstate": state,
        "statement": summary(statement) if statement else None,
        "position": _position_in_summary(statement, int(position)) if statement and position else None,
        "detail": shown(detail) if detail else None,
        "server_hint": shown(hint) if hint else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _values(parameters: object) -> Iterator[object]:
    """The values of a statement's parameters, of one row or of several."""
    if isinstance(parameters, Mapping):
        parameters = tuple(parameters.values())
    if isinstance(parameters, list | tuple):
        for each in islice(parameters, _MOST_ROWS):
            yield from _values(each) if isinstance(each, Mapping | list | tuple) else (each,)


def _position_in_summary(statement: str, position: int) -> int | None:
    """Where a character of a statement is in what is shown of it; None if it is not shown, or not where it was."""
    before = summary(f"{statement[: position - 1]}|", position + 1)
    return len(before) if summary(statement).startswith(before[:-1]) else None


def _of_several(text: str, position: int) -> tuple[str, int]:
    """The one of several statements that the server points into, and where in it."""
    with contextlib.suppress(ScriptError):
        for one in split(text):
            if one.start < position <= one.start + len(one.text):
                return one.text, position - one.start
    return text, position
