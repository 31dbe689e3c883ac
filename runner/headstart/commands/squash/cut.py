"""What a baseline would replace, or why it cannot: decided from the graph alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.graph import Graph, Revision, listed, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.history import Project


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the history that begins with nothing and ends in one revision.

    Args:
        top: the revision that it ends in, whose id the baseline gets.
        replaced: all of it, in the order in which it is applied; `top` is the last.
        labels: the branch labels in it.
        location: the version folder in which the file of `top` is.
    """

    top: Revision
    replaced: tuple[Revision, ...]
    labels: tuple[str, ...]
    location: Path


def decide_cut(graph: Graph, applied: Sequence[str], project: Project) -> Cut:
    """Decide what is replaced.

    Args:
        graph: the history.
        applied: what is applied to an empty database to reach the revision that was asked for, in order.
        project: whose version folders hold the files.

    Raises:
        ConfigurationError: there is nothing to replace, or it does not end in one revision (10).
        BrokenHistoryError: a revision that stays needs one that would go (70).
    """
    inside = set(applied)
    tops = [i for i in applied if not any(i in graph.parents[other] for other in inside)]
    if len(tops) != 1:
        raise ConfigurationError(
            f"a baseline replaces the way to one revision, not for {listed(graph, tops)}",
            hint="squash up to one of them, or merge them first",
        )
    top = graph.revisions[tops[0]]
    if len(inside) == 1:
        raise ConfigurationError(f"there is nothing to squash: {named(top)} follows nothing")
    _refuse_ties(graph, inside, top)
    replaced = (*(graph.revisions[i] for i in applied if i != top.id), top)
    names = [Path(each.path).name for each in replaced]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"several folders have a revision file called {', '.join(twice)}",
            hint="rename them: the archive is one folder",
        )
    folders = [Path(each) for each in project.version_locations]
    inside_of = {each.path: [f for f in folders if Path(each.path).is_relative_to(f.resolve())] for each in replaced}
    if links := [path for path, found in inside_of.items() if not found]:
        raise ConfigurationError(
            f"only a link to the revision file is in a version folder: {', '.join(links)}",
            hint="put the file itself in the place of the link",
        )
    location = inside_of[top.path][0]
    labels = {label for each in replaced for label in each.branch_labels}
    return Cut(top=top, replaced=replaced, labels=tuple(sorted(labels)), location=location)


def _refuse_ties(graph: Graph, inside: set[str], top: Revision) -> None:
    """Refuse where a revision that stays follows, or depends on, one that goes, other than the last."""
    tied = {
        other: [parent for parent in parents if parent in inside and parent != top.id]
        for other, parents in graph.parents.items()
        if other not in inside
    }
    ties = [
        f"{named(graph.revisions[other])} needs {listed(graph, parents)}" for other, parents in tied.items() if parents
    ]
    if ties:
        raise BrokenHistoryError(
            f"later revisions would lose what they need: {'; '.join(ties)}",
            hint="squash up to a revision that everything later follows: where branches part, or where they are merged",
        )
