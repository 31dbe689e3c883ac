"""What a project's env.py says about its version table, read from its text: it is not run.

Alembic manual, "Runtime Objects", `EnvironmentContext.configure`: version_table and version_table_schema.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import ConfigurationError

if TYPE_CHECKING:
    import ast

# The form that every template of Alembic's writes, and that of headstart.environment. Whatever mentions `configure` in
# another way is looked at closely.
_CALL = re.compile(r"\b(?:context|environment)\.configure\(")
_MENTION = re.compile(r"\bconfigure\b")
_DEFAULT = "alembic_version"


def read_environment(path: str) -> tuple[str, str | None, str]:
    """Read the version table's name and schema.

    Args:
        path: the env.py.

    Returns:
        table, schema (None for the default), and what made it inconclusive ("" if nothing did).

    Raises:
        ConfigurationError: the file cannot be read or is not Python.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="correct the file's permissions"
        ) from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    plain = "version_table" not in text and "**" not in text
    if plain and (calls := len(_CALL.findall(text))) and calls == len(_MENTION.findall(text)):
        return _DEFAULT, None, ""
    return _by_tree(path, data)


def _by_tree(path: str, data: bytes) -> tuple[str, str | None, str]:
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data, path)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigurationError(
            f"{path}{line} is not valid Python: {getattr(error, 'msg', error)}", hint="correct env.py"
        ) from None
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _is_configure(node.func)]
    if not calls:
        return _DEFAULT, None, "env.py does not call context.configure itself"
    # Offline mode's call has a url, online mode's a connection: only the latter is how a database is reached.
    online = [call for call in calls if any(k.arg in {"connection", None} for k in call.keywords) or call.args]
    found = {_arguments(call, nodes) for call in online or calls}
    if len(found) != 1 or None in found:
        return _DEFAULT, None, "env.py computes what it gives to context.configure, so its version table is not known"
    table, schema = found.pop() or (_DEFAULT, None)
    return table or _DEFAULT, schema, ""


def _is_configure(func: ast.expr) -> bool:
    import ast

    if isinstance(func, ast.Name):
        return func.id == "configure"
    if not isinstance(func, ast.Attribute) or func.attr != "configure":
        return False
    owner = func.value
    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    return name not in {"structlog", "logging", "mappers", "registry"}


def _arguments(call: ast.Call, nodes: list[ast.AST]) -> tuple[str | None, str | None] | None:
    """version_table and version_table_schema of a call, or None if they are computed."""
    values: dict[str, str | None] = {"version_table": None, "version_table_schema": None}
    if len(call.args) > 1:
        return None
    for keyword in call.keywords:
        if keyword.arg is None:
            return None
        if keyword.arg in values:
            constant, value = _constant(keyword.value, nodes)
            if not constant:
                return None
            values[keyword.arg] = value
    return values["version_table"], values["version_table_schema"]


def _constant(node: ast.expr, nodes: list[ast.AST]) -> tuple[bool, str | None]:
    """Whether this is a string or None, written out or by a name that is assigned once; and its value."""
    import ast

    if isinstance(node, ast.Name):
        bound = [n for n in nodes if isinstance(n, ast.Name) and n.id == node.id and not isinstance(n.ctx, ast.Load)]
        assigned = [
            n.value
            for n in nodes
            if isinstance(n, ast.Assign) and len(n.targets) == 1 and n.targets[0] in bound and len(bound) == 1
        ]
        if len(assigned) != 1:
            return False, None
        node = assigned[0]
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
        return True, node.value
    return False, None
