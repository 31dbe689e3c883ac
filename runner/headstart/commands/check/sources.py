"""What can be found in the revision files themselves, without a database."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.commands.check.finding import Finding, parsed
from headstart.history.baseline import read_baseline
from headstart.ledger.fingerprint import fingerprint
from headstart.ledger.source import first_difference

if TYPE_CHECKING:
    from headstart.commands.check.git import Base
    from headstart.history.graph import Graph, Revision

_SQL_FILE = re.compile(r"\S*\.sql", re.IGNORECASE)
_READS = frozenset({"open", "read_text", "read_bytes"})


def edited(graph: Graph, base: Base) -> list[Finding]:
    """Revisions of the base that do something else now, or are gone. Formatting, comments and docstrings do not count.

    What a baseline of `headstart squash` has replaced is not gone.
    """
    files = [Path(each.path).read_bytes() for each in graph.revisions.values()]
    squashed = [found for each in files if (found := read_baseline(each)) is not None]
    findings = []
    for revision, (path, before) in base.changed.items():
        digests = (hashlib.sha256(before).hexdigest(), fingerprint(before))
        if any(each.holds(revision, digest) for each in squashed for digest in digests):
            continue
        if revision not in graph.revisions:
            findings.append(_removed(revision, path, base.ref))
            continue
        now = Path(graph.revisions[revision].path).read_bytes()
        print_now = fingerprint(now)
        if print_now != fingerprint(before):
            findings.append(
                Finding(
                    check="edited",
                    key=f"edited:{revision}:{print_now[:16]}",
                    message=f"revision {revision} does something else than in {base.ref}",
                    remedy="put the file back, and the change into a new revision: databases have applied it as it was",
                    revision=revision,
                    path=graph.revisions[revision].path,
                    line=first_difference(before, now),
                )
            )
    return findings


def _removed(revision: str, path: str, ref: str) -> Finding:
    return Finding(
        check="edited",
        key=f"edited:{revision}:removed",
        message=f"revision {revision} is in {ref}, and is gone: {Path(path).name}",
        remedy="put the file back: databases that have applied it cannot go on without it"
        " (`headstart squash` replaces old revisions by a baseline)",
        revision=revision,
        path=path,
    )


def external_sql(revision: Revision) -> list[Finding]:
    """Where a revision reads a file: what that holds tomorrow is not what was applied today (R5.3)."""
    found: dict[str, int] = {}
    for what, line in _reads(parsed(revision.path)):
        found.setdefault(what, line)
    return [
        Finding(
            check="external-sql",
            key=f"external-sql:{revision.id}:{what}",
            message=f"revision {revision.id} reads its SQL from elsewhere: {what}",
            remedy="put the SQL into the revision: a file beside it may change, or be missing, when it is applied",
            revision=revision.id,
            path=revision.path,
            line=line,
        )
        for what, line in found.items()
    ]


def _reads(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The names of SQL files, or else the calls that read a file."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    named = [
        (node.value, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and _SQL_FILE.fullmatch(node.value)
    ]
    yield from sorted(named, key=lambda each: each[1])
    if named:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name in _READS and not _writes(node):
                yield f"{name}()", node.lineno


def _writes(call: ast.Call) -> bool:
    texts = [each.value for each in (*call.args, *(k.value for k in call.keywords)) if isinstance(each, ast.Constant)]
    return any(isinstance(text, str) and re.fullmatch(r"[wax][bt+]*", text) for text in texts)
