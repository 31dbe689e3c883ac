"""What is to be done: recorded revisions, the history's graph and the target in, a `Plan` or a refusal out.

Nothing here touches a file or a database. The order of pending revisions is Alembic's own, so that a plan made without
importing Alembic is the plan that Alembic carries out; where that is not certain, `decide` answers None, and the
worker asks Alembic.
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
        target: "head", "heads", "base", an id or an unambiguous beginning of one, or "+N" (Alembic's "Relative
            Migration Identifiers", forward only).
        ledger: what is known of applied revisions: it distinguishes a newer one from an unknown one.
        allow_ahead: a database that is newer than this history is fine.

    Returns:
        The plan, or None where only Alembic knows: branch labels and other relative targets, recorded revisions that
        contain one another, pending revisions in a history with `depends_on`, whose order Alembic leaves open, and
        merges of a revision with its own ancestor.

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
    goals = _resolve(recorded, graph, target)
    if goals is None or len(set(recorded)) < len(recorded):
        return None
    held = lineage(graph.parents, recorded)
    if len(recorded) > 1 and not held.isdisjoint(recorded) and _overlapping(graph, recorded):
        return None
    wanted = lineage(graph.parents, goals)
    needed = wanted - held
    if not needed:
        return Plan(before=recorded, target=target, after=recorded, beyond=not held <= wanted)
    if any(revision.depends_on for revision in graph.revisions.values()):
        return None
    pending = tuple(_order(graph, goals, needed))
    after = _recorded_after(graph, recorded, pending)
    return None if after is None else Plan(before=recorded, target=target, after=after, pending=pending)


def _recorded_after(graph: Graph, recorded: tuple[str, ...], pending: tuple[str, ...]) -> tuple[str, ...] | None:
    """What the version table holds once `pending` is applied, as Alembic keeps it; None where Alembic may fail.

    A revision takes the place of those of its parents that are recorded, or is added if none is. Of a merge's parents
    all have to be recorded, but for those that another recorded revision contains: a merge of a revision and its own
    ancestor, written by hand, is where Alembic may fail.
    """
    heads = set(recorded)
    for i in pending:
        down = set(graph.parents[i])
        replaced = heads & down
        if len(replaced) > 1 and len(replaced) < len(down) and not down - heads <= lineage(graph.parents, heads - down):
            return None
        heads -= replaced
        heads.add(i)
    return tuple(i for i in graph.revisions if i in heads)


def _resolve(recorded: tuple[str, ...], graph: Graph, target: str) -> tuple[str, ...] | None:
    """The revisions that `target` means, or None where only Alembic knows."""
    if target in ("head", "heads"):
        # "heads" leaves out those that another one depends on: they are never recorded beside it.
        needed_by_others = {parent for parents in graph.parents.values() for parent in parents}
        return graph.heads if target == "head" else tuple(i for i in graph.heads if i not in needed_by_others)
    if target == "base":
        return ()
    if target in graph.revisions:
        return (target,)
    if target[:1] == "+" and target[1:].isascii() and target[1:].isdigit() and int(target) > 0:
        return _steps_up(recorded, graph, target)
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


def _steps_up(recorded: tuple[str, ...], graph: Graph, target: str) -> tuple[str, ...] | None:
    """Walk "+N" steps up from the one recorded revision, or from the base."""
    if len(recorded) > 1:
        return None
    children: dict[str, list[str]] = {}
    for revision in graph.revisions.values():
        for parent in dict.fromkeys(revision.down):
            children.setdefault(parent, []).append(revision.id)
    here = start = recorded[0] if recorded else ""
    for step in range(int(target)):
        above = children.get(here, []) if here else list(graph.bases)
        below = here or "the base"
        if not above:
            raise _bad_target(
                target,
                f"goes past the head: after {start or 'the base'} there is only {counted(step, 'revision')}",
                "ask for head, or for fewer steps",
            )
        if len(above) > 1:
            raise _bad_target(
                target,
                f"is ambiguous: {below} is followed by {listed(graph, above)}",
                "ask for one of them by its id",
            )
        here = above[0]
    return (here,)


def _overlapping(graph: Graph, recorded: tuple[str, ...]) -> bool:
    """Whether one recorded revision already contains another: no run of Alembic leaves that behind."""
    below = lineage(graph.parents, (parent for i in recorded for parent in graph.parents[i]))
    return not below.isdisjoint(recorded)


def _order(graph: Graph, goals: Sequence[str], needed: set[str]) -> list[str]:
    """Sort what is needed as Alembic does: parents first, one branch after the other.

    Alembic walks from the targets down and reverses the result. It keeps a list of fronts, at first the targets in the
    order of their files. It follows one front down until that is an ancestor of another front, which then has its turn;
    a front that ends hands over to the one before it; at a merge the first parent takes the front's place and the
    others are put last.
    """
    place = {i: n for n, i in enumerate(graph.revisions)}
    fronts = sorted(needed.intersection(goals), key=place.__getitem__)
    remaining = set(needed)
    above: dict[str, int] | None = None
    order: list[str] = []
    turn = 0
    while fronts:
        i = fronts[turn]
        if len(fronts) > 1:
            above = above or _ancestry(graph, needed, place)
            bit = 1 << place[i]
            later = next((n for n, other in enumerate(fronts) if n != turn and above[other] & bit), None)
            if later is not None:
                turn = later
                continue
        order.append(i)
        remaining.discard(i)
        down = [parent for parent in dict.fromkeys(graph.parents[i]) if parent in remaining and parent not in fronts]
        if down:
            fronts[turn] = down[0]
            fronts.extend(down[1:])
        else:
            del fronts[turn]
            turn = max(turn - 1, 0)
    order.reverse()
    return order


def _ancestry(graph: Graph, needed: set[str], place: Mapping[str, int]) -> dict[str, int]:
    """Each needed revision's lineage as a set of bits: one test answers whether one is an ancestor of another."""
    lineage: dict[str, int] = {}
    for start in needed:
        stack = [start]
        while stack:
            i = stack[-1]
            missing = [parent for parent in graph.parents[i] if parent in needed and parent not in lineage]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            bits = 1 << place[i]
            for parent in graph.parents[i]:
                bits |= lineage.get(parent, 0)
            lineage[i] = bits
    return lineage


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
    return DatabaseUnknownError(
        f"the database records {', '.join(unknown)}, applied by {by.by} at {by.at}, which this history does not hold;"
        f" it has what the database has not: {listed(graph, sorted(missing))}; they diverge after"
        f" {listed(graph, held) if held else 'the base'}",
        hint="two branches of the code have gone different ways: bring both revisions into one image, then"
        ' `headstart merge heads -m "merge"`',
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
