"""The syntax tree of a Python file that is read, not run: its names, where they come from, what they stand for."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

# sqlmodel passes SQLAlchemy's own functions on.
_LIBRARIES: Final = frozenset({*sys.stdlib_module_names, "alembic", "headstart", "sqlalchemy", "sqlmodel"})


class Source:
    """A file, by what it consists of.

    Args:
        tree: the file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.nodes: Final = list(ast.walk(tree))
        self.calls: Final = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.strings: Final = list(self._strings())
        """Every string that is a value: docstrings, and others that stand for themselves, are none."""
        self.functions: Final = [
            node.name for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        self.names: Final = [node for node in self.nodes if isinstance(node, ast.Name | ast.Attribute)]
        self.imports: Final = dict(self._imports())
        """Name in this file -> the name of what it was imported from, dots in front of a relative one."""
        self.values: Final[defaultdict[str, list[ast.expr]]] = defaultdict(list)
        """Name -> what is assigned to it, a `with` included."""
        for target, value in self._assignments():
            if isinstance(target, ast.Name):
                self.values[target.id].append(value)

    def full_name(self, node: ast.expr) -> str:
        """The dotted name of an imported object, "" of anything else."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, "")
        if isinstance(node, ast.Attribute) and (owner := self.full_name(node.value)):
            return f"{owner}.{node.attr}"
        return ""

    def is_elsewhere(self, node: ast.expr, depth: int = 4) -> bool:
        """Whether an expression is, comes from or is made by something imported that is in no known library.

        Args:
            node: the expression.
            depth: how many assignments to follow.
        """
        match node:
            case ast.Name(id=name) if name in self.imports:
                return self.imports[name].partition(".")[0] not in _LIBRARIES
            case ast.Name(id=name) if depth:
                return any(self.is_elsewhere(value, depth - 1) for value in self.values.get(name, ()))
            case (
                ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Await(value=inner) | ast.Call(func=inner)
            ):
                return self.is_elsewhere(inner, depth)
            case ast.BoolOp(values=several):
                return any(self.is_elsewhere(one, depth) for one in several)
            case ast.IfExp(body=one, orelse=other):
                return self.is_elsewhere(one, depth) or self.is_elsewhere(other, depth)
        return False

    def _strings(self) -> Iterator[str]:
        remarks = {node.value for node in self.nodes if isinstance(node, ast.Expr)}
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in remarks:
                yield node.value

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    yield name, alias.name if alias.asname else name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}.{alias.name}"

    def _assignments(self) -> Iterator[tuple[ast.expr, ast.expr]]:
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    yield from ((target, value) for target in targets)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    yield target, value
                case ast.NamedExpr(target=target, value=value):
                    yield target, value
                case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                    yield target, value
