"""What is to be done: recorded revisions, the history's graph and the target in, a `Plan` or a refusal out.

Nothing here touches a file or a database. A plan made without importing Alembic is the plan that Alembic carries out;
where that is not certain, `decide` answers None, and the worker asks Alembic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headstart.errors import BrokenHistoryError, ConfigurationError, DatabaseAheadError, DatabaseUnknownError
from headstart.history.graph import RESERVED, Graph, heads_named, lineage, listed
from headstart.log.printable import counted

# Alembic completes an abbreviated id only to ids and labels of at least this length.
_SHORTEST_COMPLETED = 4


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of a revision that was applied.

    Args:
        follows: what had to be applied before it.
        at: when it was applied, RFC 3339.
        by: the image that did, or the version of Headstart.
        host: where that ran.
        run_id: of that run.
    """

    follows: tuple[str, ...]
    at: str
    by: str
    host: str
    run_id: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the database is, where it is to go, and the revisions between.

    Args:
        before: the recorded revisions; none for an empty database.
        target: as it was asked for.
        after: what the version table holds once everything pending is applied.
        pending: ids, in the order in which they are applied.
        beyond: the database already holds more than the target asks for (`up` never goes down).
    """

    before: tuple[str, ...]
    target: str
    after: tuple[str, ...]
    pending: tuple[str, ...] = ()
    beyond: bool = False

    @property
    def nothing_pending(self) -> bool:
        """Whether the database holds the target already."""
        return not self.pending


def decide(
    recorded: tuple[str, ...],
    graph: Graph,
    target: str,
    *,
    ledger: Mapping[str, Entry] | None = None,
    allow_ahead: bool = False,
) -> Plan | None:
    """Compare what the database records with what the history holds.

    Args:
        recorded: the rows of the version table; none for an empty database.
        graph: the history.
        target: "head", "heads", "base", an id or an unambiguous beginning of one.
        ledger: what is known of applied revisions: it distinguishes a newer one from an unknown one.
        allow_ahead: a database that is newer than this history is fine.

    Returns:
        The plan, or None where only Alembic knows: branch labels and relative targets, recorded revisions that contain
        one another, and pending revisions that do not follow one another in a line.

    Raises:
        BrokenHistoryError: "head" is asked for and there are several.
        ConfigurationError: the target is none of this history's, or ambiguous.
        DatabaseAheadError: a recorded revision is not in this history, which ends below it.
        DatabaseUnknownError: a recorded revision is not in this history, and nobody knows where it belongs.
    """
    if target == "head" and len(graph.heads) > 1:
        raise _several_heads(graph)
    unknown = tuple(i for i in recorded if i not in graph.revisions)
    if unknown:
        ahead = _ahead(recorded, unknown, graph, ledger or {})
        if not allow_ahead or not isinstance(ahead, DatabaseAheadError):
            raise ahead
        return Plan(before=recorded, target=target, after=recorded, beyond=True)
    goals = _resolve(graph, target)
    if goals is None or _overlapping(graph, recorded):
        return None
    held = lineage(graph.parents, recorded)
    wanted = lineage(graph.parents, goals)
    needed = wanted - held
    if not needed:
        return Plan(before=recorded, target=target, after=recorded, beyond=not held <= wanted)
    pending = _path(graph, recorded, needed, goals)
    if pending is None:
        return None
    heads = {*recorded, pending[-1]}.difference(graph.parents[pending[0]])  # it takes the place of what it follows
    after = tuple(i for i in graph.revisions if i in heads)
    return Plan(before=recorded, target=target, after=after, pending=tuple(pending))


def _resolve(graph: Graph, target: str) -> tuple[str, ...] | None:
    """The revisions that `target` means, or None where only Alembic knows."""
    if target in ("head", "heads"):
        # "heads" leaves out those that another one depends on: they are never recorded beside it.
        needed_by_others = {parent for parents in graph.parents.values() for parent in parents}
        return graph.heads if target == "head" else tuple(i for i in graph.heads if i not in needed_by_others)
    if target == "base":
        return ()
    if target in graph.revisions:
        return (target,)
    labels = {label for revision in graph.revisions.values() for label in revision.branch_labels}
    if not target or not RESERVED.isdisjoint(target) or any(label.startswith(target) for label in labels):
        return None
    found = [i for i in graph.revisions if len(i) >= _SHORTEST_COMPLETED and i.startswith(target)]
    if len(found) == 1:
        return (found[0],)
    if found:
        raise _bad_target(target, f"is the beginning of {listed(graph, found)}", "write more of the id")
    raise _bad_target(
        target,
        f"is none of this history's {counted(len(graph.revisions), 'revision')} ({heads_named(graph)})",
        "ask for head, heads, or an id that `headstart history` lists",
    )


def _overlapping(graph: Graph, recorded: tuple[str, ...]) -> bool:
    """Whether one recorded revision is or contains another: no run of Alembic leaves that behind."""
    below = lineage(graph.parents, (parent for i in recorded for parent in graph.parents[i]))
    return len(set(recorded)) < len(recorded) or not below.isdisjoint(recorded)


def _path(graph: Graph, recorded: Sequence[str], needed: set[str], goals: Sequence[str]) -> list[str] | None:
    """What is needed, first to last, where one follows the other; None where the order is Alembic's to choose."""
    tops = [i for i in goals if i in needed]
    if len(tops) > 1 or any(revision.depends_on for revision in graph.revisions.values()):
        return None
    path = tops
    while not needed.isdisjoint(below := graph.parents[path[-1]]):
        if len(below) > 1:
            return None
        path.append(below[0])
    # Of a merge's parents, one that another recorded revision contains is not recorded: Alembic may fail there.
    return path[::-1] if len(below) <= 1 or set(below) <= set(recorded) else None


def _bad_target(target: str, cause: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"target {target!r} {cause}", hint=f"HEADSTART_TARGET: {remedy}", target=target)


def _several_heads(graph: Graph) -> BrokenHistoryError:
    common = set.intersection(*(lineage(graph.parents, (head,)) for head in graph.heads))
    older = {parent for i in common for parent in graph.parents[i]}
    fork = [i for i in graph.revisions if i in common and i not in older]
    origin = f"they diverge after {listed(graph, fork)}" if fork else "they have no common parent"
    return BrokenHistoryError(
        f"the history has {len(graph.heads)} heads: {listed(graph, graph.heads)}; {origin}",
        hint='join them with `headstart merge heads -m "merge heads"`, or apply them all with HEADSTART_TARGET=heads',
        heads=list(graph.heads),
        parents=fork,
        files=[graph.revisions[i].path for i in (*graph.heads, *fork)],
    )


def _ahead(
    recorded: tuple[str, ...], unknown: tuple[str, ...], graph: Graph, ledger: Mapping[str, Entry]
) -> DatabaseAheadError | DatabaseUnknownError:
    """Find out from the ledger whether recorded revisions that the history does not hold are newer."""
    held, above, stack = [i for i in recorded if i in graph.revisions], [], list(unknown)
    while stack:
        i = stack.pop()
        if i in graph.revisions:
            held.append(i)
        elif i not in ledger:
            return _database_unknown(recorded, unknown, graph)
        elif i not in above:
            above.append(i)
            stack.extend(ledger[i].follows)
    missing = set(graph.heads) - lineage(graph.parents, held)
    if missing:
        return _diverged(unknown, held, missing, graph, ledger)
    newest = ledger[unknown[0]]
    return DatabaseAheadError(
        f"the database is newer than this image: it is at {', '.join(recorded)}, applied by {newest.by}"
        f" at {newest.at} (host {newest.host}, run {newest.run_id}); this image has {heads_named(graph)}",
        hint="start that image or a newer one, or set HEADSTART_AHEAD=allow to start this one on the newer database",
        recorded=list(recorded),
        ahead=above[::-1],
        heads=list(graph.heads),
        applied_by=newest.by,
        applied_at=newest.at,
    )


def _diverged(
    unknown: tuple[str, ...], held: list[str], missing: set[str], graph: Graph, ledger: Mapping[str, Entry]
) -> DatabaseUnknownError:
    by = ledger[unknown[0]]
    hint = (
        "two branches of the code have gone different ways: bring both revisions into one image, then"
        ' `headstart merge heads -m "merge"`'
        if held
        else "they have no revision in common: see that DATABASE_URL names the database of this project"
    )
    return DatabaseUnknownError(
        f"the database records {', '.join(unknown)}, applied by {by.by} at {by.at}, which this history does not hold;"
        f" it has what the database has not: {listed(graph, sorted(missing))}; they diverge after"
        f" {listed(graph, held) if held else 'the base'}",
        hint=hint,
        unknown=list(unknown),
        heads=list(graph.heads),
        parents=held,
    )


def _database_unknown(recorded: tuple[str, ...], unknown: tuple[str, ...], graph: Graph) -> DatabaseUnknownError:
    rest = tuple(i for i in recorded if i not in unknown)
    beside = f" (beside {listed(graph, rest)})" if rest else ""
    held = (
        f"{counted(len(graph.revisions), 'revision')}, {heads_named(graph)}"
        if graph.revisions
        else "no revision at all"
    )
    return DatabaseUnknownError(
        f"the database records {', '.join(unknown)}{beside}, which this history does not hold: it has {held}",
        hint="start the image that holds this revision; `headstart status` shows which database this is,"
        " `headstart history --ledger` who applied what",
        recorded=list(recorded),
        unknown=list(unknown),
        heads=list(graph.heads),
        revisions=len(graph.revisions),
    )
