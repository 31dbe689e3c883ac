"""The history as a graph: revision files in, one sound history or a refusal that names every file out."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headstart.errors import BrokenHistoryError

# Characters that mean something in a revision argument ("branch@head", "ae10+2", "a:b"), so no id may hold them.
RESERVED = frozenset("@-+:")


def revision_field(revisions: tuple[str, ...] | None) -> str | list[str] | None:
    """Recorded revisions as the log and `status` show them: one as it is, several as a list, none as `base`."""
    if revisions is None:
        return None
    return list(revisions) if len(revisions) > 1 else (revisions[0] if revisions else "base")


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision file.

    Args:
        id: its `revision`.
        down: the revisions that it follows; none for a base, several for a merge.
        depends_on: ids or branch labels of other revisions that have to be applied before it.
        branch_labels: names given to the branch that starts here.
        path: the file, absolute.
        doc: first line of the file's docstring, "" if unknown.
        sha256: of the file, "" if unknown.
    """

    id: str
    down: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    branch_labels: tuple[str, ...] = ()
    path: str = ""
    doc: str = ""
    sha256: str = ""


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A sound history: every id once, every parent present, no cycle. All in the order in which Alembic reads files.

    Args:
        revisions: by id.
        heads: revisions that no other one follows (`depends_on` does not count, as in `alembic heads`).
        bases: revisions that follow none.
        parents: by id, what has to be applied before it: `down`, then what `depends_on` resolves to.
    """

    revisions: Mapping[str, Revision]
    heads: tuple[str, ...]
    bases: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]


def build_graph(revisions: Iterable[Revision]) -> Graph:
    """Join revision files to one history.

    Args:
        revisions: in the order in which Alembic reads the files: the order of pending revisions rests on it.

    Raises:
        BrokenHistoryError: an id used twice or not allowed, a parent, dependency or label that does not resolve,
            a cycle. Every file involved is named.
    """
    known: dict[str, Revision] = {}
    for revision in revisions:
        other = known.setdefault(revision.id, revision)
        if other is not revision:
            raise _duplicate(other, revision)
        if not RESERVED.isdisjoint(revision.id):
            raise _reserved(revision)
    labels = _labels(known)
    parents: dict[str, tuple[str, ...]] = {}
    followed: set[str] = set()
    bases = []
    for revision in known.values():
        down = revision.down
        if not down:
            bases.append(revision.id)
        for parent in down:
            if parent not in known:
                raise _missing(revision, parent, "follows", known)
        followed.update(down)
        parents[revision.id] = down if not revision.depends_on else down + _dependencies(revision, known, labels)
    _refuse_cycle(known, parents)
    return Graph(
        revisions=known, heads=tuple(i for i in known if i not in followed), bases=tuple(bases), parents=parents
    )


def lineage(parents: Mapping[str, Sequence[str]], revisions: Iterable[str]) -> set[str]:
    """Revisions, and everything that has to be applied before them.

    Args:
        parents: of each revision what has to be applied before it. What is not in it has none.
        revisions: where to begin.
    """
    seen: set[str] = set()
    stack = list(revisions)
    while stack:
        revision = stack.pop()
        if revision not in seen:
            seen.add(revision)
            stack.extend(parents.get(revision, ()))
    return seen


def named(revision: Revision) -> str:
    """A revision as messages name it: id and file."""
    return f"{revision.id} ({revision.path})"


def listed(graph: Graph, ids: Iterable[str]) -> str:
    """Several revisions as messages name them."""
    every = [named(graph.revisions[i]) for i in ids]
    return " and ".join(part for part in (", ".join(every[:-1]), *every[-1:]) if part) or "none"


def heads_named(graph: Graph) -> str:
    """The heads as messages name them."""
    return f"{'heads' if len(graph.heads) > 1 else 'head'}: {listed(graph, graph.heads)}"


def _labels(known: Mapping[str, Revision]) -> dict[str, Revision]:
    labels: dict[str, Revision] = {}
    for revision in known.values():
        for label in revision.branch_labels:
            other = labels.get(label) or known.get(label)
            if other is not None:
                raise BrokenHistoryError(
                    f"the branch label {label} of {named(revision)} is already used by {named(other)}",
                    hint="give one of the two another label",
                    revisions=[revision.id, other.id],
                    files=[revision.path, other.path],
                )
            labels[label] = revision
    return labels


def _dependencies(revision: Revision, known: Mapping[str, Revision], labels: Mapping[str, Revision]) -> tuple[str, ...]:
    found = []
    for name in revision.depends_on:
        other = known.get(name) or labels.get(name)
        if other is None:
            raise _missing(revision, name, "depends on", known)
        found.append(other.id)
    return tuple(found)


def _refuse_cycle(known: Mapping[str, Revision], parents: Mapping[str, tuple[str, ...]]) -> None:
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        ring = error.args[1][::-1]  # what follows first
        files = [known[i].path for i in ring[1:]]
        raise BrokenHistoryError(
            f"revisions follow each other in a circle: {' -> '.join(ring)} in {', '.join(files)}",
            hint="correct down_revision (or depends_on) in one of these files, so that one of them is first again",
            revisions=ring[1:],
            files=files,
        ) from None


def _duplicate(first: Revision, second: Revision) -> BrokenHistoryError:
    return BrokenHistoryError(
        f"two files have the revision id {first.id}: {first.path} and {second.path}",
        hint="give the newer file an id of its own, and make what follows it follow that id; or delete the copy",
        revision=first.id,
        files=[first.path, second.path],
    )


def _reserved(revision: Revision) -> BrokenHistoryError:
    found = " ".join(sorted(RESERVED.intersection(revision.id)))
    return BrokenHistoryError(
        f"the revision id {revision.id} in {revision.path} holds {found}, which Alembic does not allow",
        hint="rename the revision, here and in the files that follow it",
        revision=revision.id,
        files=[revision.path],
    )


def _missing(revision: Revision, parent: str, verb: str, known: Mapping[str, Revision]) -> BrokenHistoryError:
    near = [other.path for i, other in known.items() if parent and (i.startswith(parent) or parent.startswith(i))]
    return BrokenHistoryError(
        f"{named(revision)} {verb} {parent or repr(parent)}, which is in no revision file",
        hint=f"is the id misspelled? {near[0]} is near"
        if near
        else f"add the file of {parent}, or correct the reference",
        revision=revision.id,
        missing=parent,
        files=[revision.path],
    )
