"""A history of which a part was squashed, or is just being squashed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headstart.errors import BrokenHistoryError, DatabaseUnknownError
from headstart.history.baseline import read_baseline
from headstart.history.graph import Graph, named
from headstart.history.project import Project

JOURNAL: Final = ".headstart-squash.json"
"""Lies in a version folder as long as `squash` exchanges its files: whoever finds it there finishes that first."""


def refuse_midway(recorded: Sequence[str], graph: Graph) -> None:
    """Refuse a database that is in the middle of what a baseline has replaced: it has some of that, but not all.

    Args:
        recorded: what the version table holds.
        graph: the revision files.

    Raises:
        DatabaseUnknownError: with the way to the baseline (72).
    """
    unknown = [i for i in recorded if i not in graph.revisions]
    for base in graph.bases:
        revision = graph.revisions[base]
        baseline = read_baseline(Path(revision.path).read_bytes())
        inside = [] if baseline is None else [i for i in unknown if i in baseline.digests]
        if baseline is not None and inside:
            raise DatabaseUnknownError(
                f"the database is at {', '.join(inside)}, in the middle of the history that the baseline"
                f" {named(revision)} has replaced",
                hint=f"bring it to {base} first: with the image from before (`headstart upgrade {base}`), or with a"
                f" configuration whose version_locations is {baseline.archive}, where the old files are kept",
                recorded=list(recorded),
                baseline=base,
                archive=baseline.archive,
            )


def explain_interruption(error: BrokenHistoryError, project: Project) -> BrokenHistoryError:
    """The same error, or what it means where `squash` was interrupted while it exchanged the files."""
    if not any(Path(folder, JOURNAL).exists() for folder in project.version_locations):
        return error
    return BrokenHistoryError(
        f"`headstart squash` was interrupted among the revision files: {error.message}",
        hint="run `headstart squash` again: it first finishes what it had begun",
        **error.context,
    )
