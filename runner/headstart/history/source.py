"""One revision file -> one `Revision`: by regular expression where its form leaves no doubt, by syntax tree otherwise.

Importing a file costs a millisecond, parsing it a fifth of that, matching it a fiftieth. So a file is matched as long
as its head has the plain form that Alembic's templates have written over the years; anything else is parsed; what
parsing cannot find out (a computed id) is left to Alembic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from headstart.errors import BrokenHistoryError
from headstart.history.graph import Revision

if TYPE_CHECKING:
    import ast

_NAMES = ("revision", "down_revision", "branch_labels", "depends_on")

_STRING = r"""u?(?:"[^"\\\n]*"|'[^'\\\n]*')"""
_VALUE = rf"(?:None|{_STRING}|[(\[][^()\[\]\\\#]*[)\]])"
_END = r"[ \t]*(?:\#[^\n]*)?(?:\n|\Z)"
_IS = r"""[ \t]*(?::[^=\n\#;()"'\\]*)?=[ \t]*"""

# The head of a file: comments, docstring, then only what leaves no doubt that a line `revision = ...` is a statement of
# the module. A group inside the repetition keeps its last match, as a name keeps its last value. A docstring with a
# backslash is not taken, since it may hold escaped quotes. Written to be fast: a character class never has to back up.
_HEAD = re.compile(
    rf"""
    (?:[ \t]*(?:\#[^\n]*)?\n)*
    (?:
        [rRuU]?
        (?:
            "{{3}} ( [^"\\]* (?: "(?!"") [^"\\]* )* ) "{{3}}
          | '{{3}} ( [^'\\]* (?: '(?!'') [^'\\]* )* ) '{{3}}
          | "([^"\\\n]+)"
          | '([^'\\\n]+)'
        ){_END}
    )?
    ()
    (?:
        [ \t]*(?:\#[^\n]*)?\n
      | (?:import|from)\b [^\n()\\"'\#;*]+ (?: \( [^()\\"'\#]* \) )? {_END}
      | revision{_IS}({_STRING}){_END}
      | down_revision{_IS}({_VALUE}){_END}
      | branch_labels{_IS}({_VALUE}){_END}
      | depends_on{_IS}({_VALUE}){_END}
      | (?!(?:down_)?revision\b|branch_labels\b|depends_on\b|try\b) [A-Za-z_]\w*{_IS}(?:{_STRING}|\w+){_END}
    )*""",
    re.VERBOSE,
)
_COMMENT = "# revision identifiers"
_ANY = "(?:(?:down_)?revision|branch_labels|depends_on)"
# An import that binds one of the names, or looks as if it did.
_IMPORTED = rf"(?m)^(?:import|from)\b[^\n(]*(?:\([^)]*)?\b{_ANY}\b"
# Other ways to bind one of them further down, as code or as something that only looks like it.
_REBOUND = (
    rf"\b{_ANY}\s*(?:(?::[^\n=]*|[-+*/|&^%@]+)?=(?!=)|[,\])][^\n]*=)|\b(?:exec|globals|locals|vars|setattr)\("
    rf"|\b(?:import|as|for|def|class|global|del|case)\b[^\n]*\b{_ANY}\b"
)
# Calls at module level that can bind a name out of sight.
_DYNAMIC = frozenset({"exec", "eval", "globals", "locals", "vars", "setattr"})
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


def broken_source(path: str, error: SyntaxError | ValueError) -> BrokenHistoryError:
    """The refusal for a revision file that is not Python: file, line and reason.

    Args:
        path: the file.
        error: what compiling or importing it raised; a ValueError is about null bytes.
    """
    line = error.lineno if isinstance(error, SyntaxError) else None
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return BrokenHistoryError(
        f"{path}{f', line {line}' if line else ''} is not valid Python: {reason}",
        hint="correct the file; was it written with another encoding, for a newer Python, or left half merged?",
        files=[path],
        line=line,
    )


def _match(path: str, text: str) -> Revision | None:
    """The revision, or None if the file's form leaves any doubt."""
    head = _HEAD.match(text)
    if head is None:
        return None
    double, single, line, other, _, revision, down, labels, depends = head.groups()
    if not revision or not down or "import *" in text or "\r" in text:
        return None
    body = head.end(5)
    # The names stand once each, beside the templates' comment. Where they stand again, what for has to be looked at.
    mentions = text.count("revision", body) - text.count(_COMMENT, body)
    if (
        (
            mentions != 2  # noqa: PLR2004  (revision, down_revision)
            or text.count("branch_labels", body) != (labels is not None)
            or text.count("depends_on", body) != (depends is not None)
        )
        and (re.search(_IMPORTED, text[body : head.end()]) or re.search(_REBOUND, text[head.end() :]))
    ):
        return None
    try:
        (ident,) = _strings(revision)
        if not ident:
            return None
        return Revision(
            id=ident,
            down=_strings(down),
            depends_on=_strings(depends),
            branch_labels=_strings(labels),
            path=path,
            doc=(double or single or line or other or "").strip().partition("\n")[0],
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
    except (SyntaxError, ValueError) as error:
        raise broken_source(path, error) from None


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
