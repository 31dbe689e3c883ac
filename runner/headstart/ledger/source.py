"""Has an applied revision been edited: its source as it was applied, beside the file as it is now."""

from __future__ import annotations

import ast
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.baseline import read_baseline
from headstart.errors import RevisionEditedError
from headstart.ledger import fetch

if TYPE_CHECKING:
    from headstart.script_connection import ScriptConnection

_SOURCES = """
select distinct on (revision) revision, source
from headstart.ledger where history = $1 and revision = any($2) and source is not null order by revision, id desc
"""


async def require_unedited(
    connection: ScriptConnection, history: str, files: Mapping[str, str], applied: Mapping[str, str]
) -> None:
    """Refuse files that differ from what was applied, if they differ in what they do.

    A baseline differs from the file whose id it has taken over. It counts as unedited where what was applied, and what
    came before that, are the files that it says it replaces.

    Args:
        connection: to the database.
        history: `key` of the project.
        files: paths by revision, of those whose bytes differ.
        applied: the SHA-256 of what was applied, by revision.

    Raises:
        RevisionEditedError: with each file and the first line that differs (73).
    """
    sources = {revision: _read(path) for revision, path in files.items()}
    baselines = [one for one in map(read_baseline, sources.values()) if one is not None]
    replaced = {i: one for one in baselines for i in one.digests if i in applied}
    doubted = [i for i in {**sources, **replaced} if i not in replaced or not replaced[i].holds(i, applied[i])]
    found = {}
    for revision, before in (await as_applied(connection, history, doubted)).items():
        done = fingerprint(before)
        if revision in replaced and replaced[revision].holds(revision, done):
            continue
        if revision not in sources:
            found[revision] = replaced[revision].archive
        elif done != fingerprint(sources[revision]):
            found[revision] = f"{files[revision]}:{first_difference(before, sources[revision])}"
    if found:
        named = "; ".join(f"{revision} ({place})" for revision, place in sorted(found.items()))
        raise RevisionEditedError(
            f"edited since it was applied: revision {named}",
            hint="put the file back as it was applied (`headstart history --source REVISION` prints it), and the change"
            " into a new revision; if the database is as the file says now, `headstart stamp` the recorded revision",
            revisions=sorted(found),
            files=sorted(found.values()),
        )


async def as_applied(connection: ScriptConnection, history: str, revisions: Sequence[str]) -> dict[str, bytes]:
    """The files of revisions as they were when these were last applied.

    Args:
        connection: to the database.
        history: `key` of the project.
        revisions: their ids.
    """
    rows = await fetch(connection, _SOURCES, history, list(revisions))
    return {row["revision"]: zlib.decompress(row["source"]) for row in rows}


def first_difference(before: bytes, now: bytes) -> int:
    """The number of the first line that differs."""
    old, new = before.splitlines(), now.splitlines()
    differ = (number for number, (one, other) in enumerate(zip(old, new, strict=False), 1) if one != other)
    return next(differ, min(len(old), len(new)) + 1)


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def fingerprint(source: bytes) -> str:
    """What a revision file does, whatever it looks like: comments, docstrings and formatting are left out.

    The syntax tree without places. A field that is empty is passed over, so that a newer Python, whose tree has fields
    that an older one's has not, gives the same.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source.hex()
    parts: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, ast.AST):
            parts.append(type(node).__name__)
            for name, value in ast.iter_fields(node):
                if name in {"ctx", "kind", "type_comment"} or value is None or value == []:
                    continue
                parts.append(name)
                walk(_without_docstring(node, value) if name == "body" else value)
        elif isinstance(node, list):
            parts.append(str(len(node)))
            for each in node:
                walk(each)
        else:
            parts.append(repr(node))

    walk(tree)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _without_docstring(node: ast.AST, body: Any) -> Any:  # noqa: ANN401  (ast's own)
    if not isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return body
    return body if ast.get_docstring(node, clean=False) is None else body[1:]
