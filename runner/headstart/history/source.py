"""One revision file -> one `Revision`: by regular expression where its form leaves no doubt, by syntax tree otherwise.

Importing a file costs a millisecond, parsing it a fifth of that, matching it a fiftieth. So a file is matched as long
as it has the plain form that Alembic's templates give it: a docstring, then each name once. Anything else is parsed;
what parsing cannot find out (a computed id) is left to Alembic.
"""

from __future__ import annotations

import ast
import re
from typing import cast

from headstart.errors import BrokenHistoryError
from headstart.history.graph import Revision

_NAMES = ("revision", "down_revision", "branch_labels", "depends_on")

_DOCSTRING = re.compile(r"""(?:[ \t]*(?:\#[^\n]*)?\n)*[rRuU]?("{3}|'{3})([^\\]*?)\1[ \t]*\n""")
_STRING = r"""u?(?:"[^"\\\n]+"|'[^'\\\n]+')"""
_DECLARED = re.compile(
    rf"""^({"|".join(_NAMES)})[ \t]*(?::[^=\n\#;()"'\\]*)?=[ \t]*"""
    rf"""(None|{_STRING}|[(\[][^()\[\]\\\#]*[)\]])[ \t]*(?:\#[^\n]*)?$""",
    re.MULTILINE,
)
_COMMENT = "# revision identifiers"
# Calls at module level that can bind a name out of sight.
_DYNAMIC = frozenset({"exec", "eval", "globals", "locals", "vars", "setattr"})
_HIDING = ("import *", "\r", *(f"{name}(" for name in _DYNAMIC))
_LEGACY_NAME = r"([a-f0-9]+)\.py$"


class OnlyAlembicKnowsError(Exception):
    """A file whose revision cannot be found out from its source."""


def read_revision(path: str, data: bytes) -> Revision:
    """Tell what a revision file declares.

    Args:
        path: the file, for messages and for ids that its name gives (Alembic 0.1).
        data: its content.

    Raises:
        BrokenHistoryError: the file is not Python, or declares no revision or parent.
        OnlyAlembicKnowsError: what it declares is computed.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _parse(path, data)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return _match(path, text) or _parse(path, data)


def _match(path: str, text: str) -> Revision | None:
    """The revision, or None if the file's form leaves any doubt."""
    docstring = _DOCSTRING.match(text)
    if docstring is None:
        return None
    text = text[docstring.end() :]
    declared = list(_DECLARED.finditer(text))
    values = {each[1]: each[2] for each in declared}
    # The names stand once each, beside the templates' comment, and nothing else binds them or hides a line from Python.
    mentions = sum(map(text.count, ("revision", "branch_labels", "depends_on"))) - text.count(_COMMENT)
    if not len(values) == len(declared) == mentions or not {"revision", "down_revision"} <= values.keys():
        return None
    above = text[: declared[-1].start()]
    if any(sign in above for sign in ('"""', "'''", "\\")) or any(sign in text for sign in _HIDING):
        return None
    try:
        (ident,) = _strings(values["revision"])
        return Revision(
            id=ident,
            down=_strings(values["down_revision"]),
            depends_on=_strings(values.get("depends_on")),
            branch_labels=_strings(values.get("branch_labels")),
            path=path,
            doc=docstring[2].strip().partition("\n")[0],
        )
    except (OnlyAlembicKnowsError, SyntaxError, ValueError):
        return None  # _parse finds out which it is, and reports it


def _strings(value: str | None) -> tuple[str, ...]:
    """The strings of a literal, as the pattern has found it."""
    if value is None or value == "None":
        return ()
    if value[0] == "'" or value[0] == '"':
        return (value[1:-1],)
    import ast

    return _several(ast.literal_eval(value))


def compiled(path: str, data: bytes, flags: int = 0) -> object:
    """Compile a revision file as importing it would.

    Args:
        path: the file, for messages.
        data: its content.
        flags: of `compile`.

    Raises:
        BrokenHistoryError: it is not Python.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes: it is not for us to write about them to stderr
            return compile(data, path, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # a ValueError is about null bytes
        line = getattr(error, "lineno", None)
        deep = "something in it is nested too deeply" if isinstance(error, RecursionError | MemoryError) else error
        raise BrokenHistoryError(
            f"{path}{f', line {line}' if line else ''} is not valid Python: {getattr(error, 'msg', deep)}",
            hint="correct the file; was it written with another encoding, for a newer Python, or left half merged?",
            files=[path],
            line=line,
        ) from None


def _parse(path: str, data: bytes) -> Revision:
    import ast

    tree = cast("ast.Module", compiled(path, data, ast.PyCF_ONLY_AST))
    values = _declared(tree)
    name = path.rpartition("/")[2]
    if "revision" not in values and (legacy := re.match(_LEGACY_NAME, name)):
        values["revision"] = legacy.group(1)
    for missing in ("revision", "down_revision"):
        if missing not in values:
            raise BrokenHistoryError(
                f"{path} lies among the revision files but sets no {missing}",
                hint="move it elsewhere if it is no revision; otherwise set revision and down_revision in it",
                files=[path],
            )
    ident = values["revision"]
    if not isinstance(ident, str) or not ident:
        raise BrokenHistoryError(
            f"the revision id in {path} is {ident!r}, not a string", hint="write it as a string", files=[path]
        )
    return Revision(
        id=ident,
        down=_several(values["down_revision"]),
        depends_on=_several(values.get("depends_on")),
        branch_labels=_several(values.get("branch_labels")),
        path=path,
        doc=(ast.get_docstring(tree, clean=False) or "").strip().partition("\n")[0],
    )


def _several(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, (tuple, list)) or not all(isinstance(v, str) for v in values):
        raise OnlyAlembicKnowsError
    return tuple(values)


def _declared(tree: ast.Module) -> dict[str, object]:
    """The four names' values as plain assignments of the module leave them; anything cleverer is Alembic's to know."""
    import ast

    values: dict[str, object] = {}
    unsure: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            unsure.update({statement.name}.intersection(_NAMES))
            continue
        name, value = _assignment(statement)
        if name in _NAMES and value is not None:
            unsure.discard(name)
            try:
                values[name] = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                unsure.add(name)
        elif isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
            unsure.update(_NAMES)
        else:
            unsure.update(_bound(statement))
    if unsure:
        raise OnlyAlembicKnowsError
    return values


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    import ast

    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return "", None
    return (target.id, value) if isinstance(target, ast.Name) else ("", None)


def _bound(statement: ast.stmt) -> set[str]:
    """Which of the four names a statement may bind in some other way."""
    import ast

    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _DYNAMIC:
            found.update(_NAMES)
        elif isinstance(node, (ast.MatchAs, ast.ExceptHandler)) and node.name:
            found.add(node.name)
    return found.intersection(_NAMES)
