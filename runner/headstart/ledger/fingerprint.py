"""What a revision file does, whatever it looks like: two files with one fingerprint do the same.

It is taken of the syntax tree, without places. Left out is what formatters and upgraders change and what nothing that
`upgrade()` or `downgrade()` does hangs on: comments, docstrings, quotes, annotations, and where and how a name is
imported. What a class annotates stays: `Mapped[int]` or a dataclass's field says what its table or arguments are.
"""

from __future__ import annotations

import ast
import collections.abc
import hashlib
from collections.abc import Iterator
from typing import Final

_PASSED_OVER: Final = frozenset({"ctx", "kind", "type_comment"})


def fingerprint(source: bytes) -> str:
    """The fingerprint of a revision file; of its bytes if it is not Python, or too deep for Python's own parser.

    Args:
        source: the file.
    """
    try:
        tree = ast.parse(source)
        _strip(tree)
        _gather_imports(tree)
        return hashlib.sha256("\0".join(_parts(tree)).encode("utf-8", "surrogatepass")).hexdigest()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return hashlib.sha256(source).hexdigest()


def _strip(tree: ast.Module) -> None:
    """Take out annotations, and statements that do nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        for name, body in _bodies(node):
            in_class = isinstance(node, ast.ClassDef)
            setattr(node, name, [part for each in body for part in _effective(each, in_class=in_class)])


def _effective(statement: ast.stmt, *, in_class: bool) -> list[ast.stmt]:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):  # a docstring, too
            return []
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return [part for each in statement.orelse for part in _effective(each, in_class=in_class)]
        case ast.AnnAssign() if in_class:
            statement.annotation = ast.Constant(" ".join(sorted(_kinds(statement.annotation))))
        case ast.AnnAssign(value=None):
            return []
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return [ast.Assign(targets=[target], value=value)]
    return [statement]


def _kinds(annotation: ast.expr) -> set[str]:
    """What an annotation names, however it spells it: `Optional[List[int]]` is `list[int] | None`, in quotes or not."""
    found: set[str] = set()
    for node in ast.walk(annotation):
        match node:
            case ast.Name(id="Optional") | ast.Attribute(attr="Optional"):
                found.add("None")
            case ast.Name(id=name) | ast.Attribute(attr=name) if name not in {"typing", "Union"}:
                found.add(name.lower())
            case ast.Constant(value=str() as text):
                try:
                    found |= _kinds(ast.parse(text, mode="eval").body)
                except SyntaxError:  # `Literal["a b"]`
                    found.add(repr(text))
            case ast.Constant(value=value):
                found.add(repr(value))
    return found


def _gather_imports(tree: ast.Module) -> None:
    """Put a sorted list of what each block imports, and of that what the file uses, in place of its imports."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        for name, body in _bodies(node):
            imports = {key for each in body for key in _imported(each, used)}
            rest = [each for each in body if not isinstance(each, ast.Import | ast.ImportFrom)]
            setattr(node, name, [*(ast.Expr(ast.Constant(repr(key))) for key in sorted(imports)), *rest])


def _imported(statement: ast.stmt, used: set[str]) -> Iterator[tuple[str, str, str]]:
    """Module, name and the name in this file of what a statement imports and the file uses."""
    match statement:
        case ast.Import(names=names):
            for each in names:
                here = each.asname or each.name.partition(".")[0]
                if here in used:
                    yield each.name, "", each.asname or ""
        case ast.ImportFrom(module=module, names=names, level=level) if module != "__future__":
            for each in names:
                if each.name == "*" or (each.asname or each.name) in used:
                    old = module in {"typing", "typing_extensions"} and each.name in collections.abc.__all__
                    yield "collections.abc" if old else "." * level + (module or ""), each.name, each.asname or ""


def _bodies(node: ast.AST) -> Iterator[tuple[str, list[ast.stmt]]]:
    for name, value in list(ast.iter_fields(node)):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield name, value


def _parts(tree: ast.Module) -> Iterator[str]:
    """The tree, node by node: not by recursion, so that no file is too deep.

    A field that is empty is passed over, so that a newer Python, whose tree has fields that an older one's has not,
    gives the same.
    """
    stack: list[object] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.AST):
            fields = [
                (name, value)
                for name, value in ast.iter_fields(node)
                if name not in _PASSED_OVER and value is not None and value != []
            ]
            yield f"{type(node).__name__} {' '.join(name for name, _ in fields)}"
            stack += [value for _, value in reversed(fields)]
        elif isinstance(node, list):
            yield str(len(node))
            stack += reversed(node)
        else:
            yield repr(node)
