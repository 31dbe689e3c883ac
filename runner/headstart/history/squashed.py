"""A history of which a part was squashed."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.errors import ConfigurationError, DatabaseUnknownError
from headstart.history.baseline import read_baseline
from headstart.history.graph import Graph, Revision, named
from headstart.settings.files import read_bytes


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
        baseline = read_baseline(read_bytes(revision.path))
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


def refuse_below(steps: Sequence[Revision]) -> None:
    """Refuse a way down that a baseline would end: what is above it would be reverted, and then the run fail.

    Args:
        steps: what would be reverted.

    Raises:
        ConfigurationError: with the last revision that can be reached (10).
    """
    for step in filter(lambda each: each.path, steps):
        baseline = read_baseline(read_bytes(step.path))
        if baseline is not None:
            raise ConfigurationError(
                f"the baseline {named(step)} cannot be reverted: it has replaced revisions that are files no more",
                hint=f"`headstart downgrade {step.id}` reverts what follows it; a backup has what was before"
                f" (`headstart restore`), and {baseline.archive} the old files",
            )
