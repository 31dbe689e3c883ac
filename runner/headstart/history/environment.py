"""Where a project's env.py has its version table, read from its syntax tree: env.py is not run.

The answer is certain only if nothing in env.py can change where the version table is, what its connection sees there,
or which revision files count. In any other case there is a doubt, and only Alembic knows. To make one more thing a
doubt, add a name to one of the tables below.

Alembic manual, "Runtime Objects", `EnvironmentContext.configure`: version_table and version_table_schema.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, cast

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.source import compiled
from headstart.history.syntax import Source
from headstart.settings.files import read_bytes

_DEFAULT: Final = "alembic_version"
_ENGINES: Final = frozenset({"engine_from_config", "async_engine_from_config", "create_engine", "create_async_engine"})
_OPENS: Final = frozenset({"connect", "begin"})

_NO_CALL: Final = "env.py does not call context.configure with its connection itself"
_COMPUTED: Final = "env.py computes what it gives to context.configure, so its version table is not known"
_ENGINE: Final = "env.py does not make its engine itself"
_ELSEWHERE: Final = "env.py gives its engine or connection to code that is not in it"
_OPTIONS: Final = "env.py gives options of its own to its engine or connection"

# Within a name or a string, docstrings apart, in lower case.
_MENTIONED: Final = (
    "search_path", "default_schema_name", "schema_translate_map", "connect_args", "server_settings", "pgoptions",
    "version_locations", "script_location",
)  # fmt: skip
# The same, as regular expressions: the fewer, the faster is a no-op. `%3d` is how a URL spells an equals sign.
_MATCHED: Final = {  # shown by these names: what matches may be a piece of a password
    "set role": r"\bset[\s_]+(local\s+|session\s+)?(role\b|session\s+authorization)",
    "options": r"\boptions(=|%3d)|-c\s*[\w.]+\s*(=|%3d)",
}
# Names and attributes, called or handed on: SQL, sessions, the driver's own connection, options, events, code.
_USED: Final = frozenset({
    "execute", "executemany", "executescript", "exec_driver_sql", "scalar", "scalars", "stream", "stream_scalars",
    "fetch", "fetchrow", "fetchval", "cursor", "create_all", "drop_all",
    "Session", "AsyncSession", "sessionmaker", "async_sessionmaker",
    "raw_connection", "get_raw_connection", "dbapi_connection", "driver_connection",
    "execution_options", "listen", "listens_for", "exec", "eval",
})  # fmt: skip
# Keyword arguments, and keys of a dictionary, which may be some: of an engine, and of Alembic's task.
_PASSED: Final = frozenset({
    "creator", "async_creator", "options", "execution_options", "isolation_level",
    "fn", "starting_rev", "destination_rev", "dont_mutate", "purge", "as_sql",
})  # fmt: skip
# Names and attributes too, but by their full name, however they are imported.
_IMPORTED: Final = frozenset({
    "sqlalchemy.text", "sqlalchemy.sql.text", "sqlmodel.text", "sqlalchemy.event", "alembic.command",
    "alembic.context.script",
})  # fmt: skip


class Environment(NamedTuple):
    """What is read from an env.py.

    Args:
        version_table: the table that records the revision.
        version_schema: its schema, None for the search path's first.
        doubt: why only Alembic knows, "" if it is certain.
    """

    version_table: str = _DEFAULT
    version_schema: str | None = None
    doubt: str = ""


def read_environment(path: str) -> Environment:
    """Read an env.py.

    Raises:
        ConfigurationError: the file cannot be read or is not Python.
    """
    source = Source(_parsed(path))
    calls = [call for call in source.calls if _is_configure(call.func, source)]
    tables = {_version_table(call) for call in calls if _is_online(call)}
    if not tables or _is_handed_on(calls, source):
        return Environment(doubt=_NO_CALL)
    table = tables.pop()
    if tables or table is None:
        return Environment(doubt=_COMPUTED)
    return Environment(table[0] or _DEFAULT, table[1], next(_doubts(source), ""))


def _parsed(path: str) -> ast.Module:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="put a file there that headstart's user may read"
        ) from None
    try:
        return cast("ast.Module", compiled(path, data, ast.PyCF_ONLY_AST))
    except BrokenHistoryError as error:
        raise ConfigurationError(error.message, hint="correct env.py") from None


def _is_configure(node: ast.expr, source: Source) -> bool:
    return source.full_name(node) in {"alembic.context.configure", "headstart.environment.configure"}


def _is_online(call: ast.Call) -> bool:
    """Whether a call of `configure` is how a database is reached: offline mode's has a url and no connection."""
    return bool(call.args) or any(keyword.arg in {"connection", None} for keyword in call.keywords)


def _is_handed_on(calls: list[ast.Call], source: Source) -> bool:
    """Whether `configure` is used in another way than to call it, which hides its arguments."""
    called = {id(call.func) for call in calls}
    return any(id(name) not in called and _is_configure(name, source) for name in source.names)


def _version_table(call: ast.Call) -> tuple[str | None, str | None] | None:
    """version_table and version_table_schema of a call, or None if they are computed."""
    values: dict[str, str | None] = {"version_table": None, "version_table_schema": None}
    if len(call.args) > 1 or any(isinstance(argument, ast.Starred) for argument in call.args):
        return None
    for keyword in call.keywords:
        if keyword.arg is None:  # **options
            return None
        if keyword.arg in values:
            match keyword.value:
                case ast.Constant(value=str() | None as value):
                    values[keyword.arg] = value
                case _:
                    return None
    return values["version_table"], values["version_table_schema"]


def _doubts(source: Source) -> Iterator[str]:
    """Why the version table may be elsewhere, or look different, when env.py runs."""
    full_names = {*map(source.full_name, source.names)}
    used = {name.id if isinstance(name, ast.Name) else name.attr for name in source.names}
    used.update(name.rpartition(".")[2] for name in full_names)
    passed = set(_passed(source))
    mentioned = "\n".join([*used, *passed, *source.functions, *source.strings]).lower()
    found = [word for word in _MENTIONED if word in mentioned]
    found += [name for name, pattern in _MATCHED.items() if re.search(pattern, mentioned)]
    found += sorted((used & _USED) | (passed & _PASSED) | (full_names & _IMPORTED))
    yield from (f"env.py has {word!r} in it" for word in found)
    yield from _engine_doubts(source, full_names)


def _passed(source: Source) -> Iterator[str]:
    """The names of keyword arguments, and the keys of dictionaries."""
    for node in source.nodes:
        match node:
            case ast.keyword(arg=str() as name) | ast.Subscript(slice=ast.Constant(value=str() as name)):
                yield name
            case ast.Dict(keys=keys):
                yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def _engine_doubts(source: Source, full_names: set[str]) -> Iterator[str]:
    """Whether the connection is of an engine that env.py makes, and stays in env.py."""
    engines = [call for call in source.calls if _is_engine(source.full_name(call.func))]
    opened = [call for call in source.calls if isinstance(call.func, ast.Attribute) and call.func.attr in _OPENS]
    made_here = engines or "headstart.environment.configure" in full_names
    if not made_here or any(source.is_elsewhere(call.func) for call in opened):
        yield _ENGINE
    configured = [call for call in engines if source.full_name(call.func).endswith("engine_from_config")]
    if any(source.is_elsewhere(argument) for call in configured for argument in call.args):
        yield _OPTIONS
    if any(keyword.arg is None for call in engines for keyword in call.keywords):  # **options
        yield _OPTIONS
    held = _names_of_connections(source, {*engines, *opened})
    if any(_hands_on(call, source, held) for call in source.calls):
        yield _ELSEWHERE


def _is_engine(full_name: str) -> bool:
    library, _, name = full_name.partition(".")
    return library in {"sqlalchemy", "sqlmodel"} and name.rpartition(".")[2] in _ENGINES


def _names_of_connections(source: Source, makers: set[ast.Call]) -> set[str]:
    assigned = {name for name, values in source.values.items() for value in values if makers & {*ast.walk(value)}}
    configured = {
        keyword.value.id
        for call in source.calls
        for keyword in call.keywords
        if keyword.arg == "connection" and isinstance(keyword.value, ast.Name)
    }
    return assigned | configured


def _hands_on(call: ast.Call, source: Source, held: set[str]) -> bool:
    """Whether a call gives an engine or a connection to a function that is not in env.py."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "run_sync":
        return any(source.is_elsewhere(one) for one in given)
    return source.is_elsewhere(call.func) and any(isinstance(one, ast.Name) and one.id in held for one in given)
