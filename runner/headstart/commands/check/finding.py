"""What a check has found, and the report of all of them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

CHECKS: Final[Mapping[str, str]] = {
    "heads": "the revision files are one history with one head",
    "edited": "no revision that is in the git base (--since) has been edited or removed",
    "external-sql": "no new revision reads its SQL from another file",
    "round-trip": "every revision goes up, down and up again, and leaves the schema as it was each time",
    "models": "the models (env.py's target_metadata) say what the revisions build",
    "schema-file": "the schema file, where there is one, is the schema at head",
    "rules": "no revision holds SQL that is risky on a database in use",
    "drift": "the given database (--database) has the schema of the revision that it records",
}
"""The checks by their ids, in the order in which they are run, and what each makes sure of."""

_NAMED = 5


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that CI should refuse.

    Args:
        check: the id of the check.
        key: what it is known by in a baseline: the same finding has the same key tomorrow, whatever its words.
        message: what was found, in one line; `told` in JSON.
        remedy: what to do, in one line.
        revision: whose.
        path: the file, absolute.
        line: in that file, counted from 1.
        severity: `warn` for what is shown but not refused.
    """

    check: str
    key: str
    message: str = msgspec.field(name="told")
    remedy: str
    revision: str | None = None
    path: str | None = None
    line: int | None = None
    severity: Literal["refuse", "warn"] = "refuse"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to check.

    Args:
        checks: ids out of `CHECKS`.
        since: a git revision; what is in it counts as released. None: no revision is known to be.
        baseline: the file of accepted findings; None for the usual place.
        write_baseline: accept whatever is found.
    """

    checks: tuple[str, ...]
    since: str | None = None
    baseline: str | None = None
    write_baseline: bool = False


class Report(msgspec.Struct, kw_only=True):
    """The result of the checks.

    Args:
        checks: those that were wanted.
        findings: what was found and is not accepted.
        accepted: what was found and is.
        stale: keys of the baseline that nothing matches any more.
        not_run: by check, why it could not be run, or not to its end.
        absent: by check, what the project does not have, so that there is nothing to look at.
        revisions: how many the history has.
        released: ids and file names of the revisions that were not judged, since `--since` has them.
        baseline: the file of accepted findings, if there is one.
        seconds: that it took.
    """

    checks: tuple[str, ...]
    findings: list[Finding] = []
    accepted: list[Finding] = []
    stale: list[str] = []
    not_run: dict[str, str] = {}
    absent: dict[str, str] = {}
    revisions: int = 0
    released: set[str] = set()
    baseline: str | None = None
    seconds: float = 0.0

    @property
    def refused(self) -> list[Finding]:
        """The findings that decide the exit code."""
        return [each for each in self.findings if each.severity == "refuse"]


def line_of(path: str, function: str) -> int | None:
    """The line in which a revision's file defines `upgrade` or `downgrade`; None if it does not."""
    tree = parsed(path)
    found = [node.lineno for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    return found[-1] if found else None


def parsed(path: str) -> ast.Module:
    """The syntax tree of a revision's file; an empty one if it is no Python source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes, which no check is about
            return ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def few(items: list[str]) -> str:
    """The first of several things in one line, and how many more there are."""
    rest = len(items) - _NAMED
    return "; ".join(items[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
