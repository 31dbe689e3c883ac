"""Our SQL, as it is written: no name in it depends on a search path."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import headstart

ROOT = Path(headstart.__file__).parent
# It is run with a search_path of its own (`catalog.queries.SESSION`), on which what it renders depends as well.
WITH_ITS_OWN_PATH = {"postgres/catalog/queries.py"}
# What people are told to type.
HINTS = ("select pg_terminate_backend(",)

_RELATION = re.compile(r"\b(?:from|join)\s+(pg_(?!catalog\.)\w+)")
_FUNCTION = re.compile(
    r"(?<![\w.])((?:pg_|has_|to_reg|quote_|inet_)\w+|current_(?:setting|database|schemas)|set_config|unnest|format_type)\("
)
_CAST = re.compile(r"::(?!pg_catalog\.)(\"?\w+)")


def unqualified(sql: str) -> list[str]:
    """Postgres' own names in some SQL that are not said to be in pg_catalog."""
    return [name for pattern in (_RELATION, _FUNCTION, _CAST) for name in pattern.findall(sql)]


def constants(path: Path) -> list[str]:
    """The strings of a module that may be SQL: no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            text = node.value
            for hint in HINTS:
                text = text.replace(hint, "")
            if re.search(r"\b(?:select|set|from|join|where)\b", text):
                found.append(text)
    return found


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("select pg_try_advisory_lock($1)", ["pg_try_advisory_lock"]),
        ("select * from pg_class c join pg_namespace n", ["pg_class", "pg_namespace"]),
        ("select oid::int8, set_config('a', $1::pg_catalog.text, true)", ["set_config", "int8"]),
        ("select pg_catalog.pg_backend_pid() from pg_catalog.pg_class", []),
    ],
)
def test_what_is_found(sql: str, names: list[str]) -> None:
    """A table, a function and a type without its schema are found."""
    assert unqualified(sql) == names


def test_every_name_is_qualified() -> None:
    """Each of Postgres' own tables, functions and types is named with its schema, wherever we send SQL."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in WITH_ITS_OWN_PATH
        for text in constants(path)
        for name in unqualified(text)
    }
    assert found == set()
