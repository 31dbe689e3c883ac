"""What is recorded against what the revision files hold, without Alembic. `ask` is the same by env.py itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from headstart import ledger
from headstart.history.graph import lineage, revision_field
from headstart.history.plan import Plan, decide
from headstart.postgres import version_table
from headstart.postgres.version_table import Place
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.history import History, Project
    from headstart.history.graph import Graph, Revision
    from headstart.history.plan import Entry
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run

_EMPTY = "write the first by `headstart revision -m TEXT`; or see version_locations, and what was copied into the image"


class UpToDate(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is pending.

    Args:
        recorded: what the version table holds.
        place: the version table.
        beyond: that is more than the target asks for.
    """

    recorded: tuple[str, ...]
    place: Place
    beyond: bool = False


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """Something is to be done.

    Args:
        recorded: what the version table holds.
        steps: what is to be run, in order.
        place: the version table.
        up: whether it is applied; otherwise reverted.
        one_transaction: why all of it shares one transaction; "" if each revision has its own, or nobody knows yet.
        heads: of the history.
    """

    recorded: tuple[str, ...]
    steps: tuple[Revision, ...]
    place: Place
    up: bool = True
    one_transaction: str = ""
    heads: tuple[str, ...] = ()

    @property
    def revisions(self) -> tuple[str, ...]:
        """The ids of the steps."""
        return tuple(step.id for step in self.steps)

    def is_done(self, step: Revision, recorded: tuple[str, ...]) -> bool:
        """Whether a step has been taken, by what is recorded: it is held if it is recorded, or below what is."""
        return (step.id in lineage({each.id: each.down for each in self.steps}, recorded)) is self.up


class Undetermined(msgspec.Struct, frozen=True, kw_only=True):
    """Only env.py can tell, or not even that without changing something."""

    reason: str


Comparison = UpToDate | Pending | Undetermined


async def compare(run: Run, ready: Ready, found: History) -> Comparison:
    """Hold what is recorded against the revision files, without Alembic.

    Raises:
        BrokenHistoryError: the target is `head`, and there are several (70).
        DatabaseAheadError: the recorded revision is newer than all of it (71).
        DatabaseUnknownError: the recorded revision is not in it (72).
        RevisionEditedError: an applied revision's file has changed since (73).
    """
    with run.record.timed(Stage.COMPARE):
        project, graph = found
        if found.empty:
            run.log.warning("history_empty", reason=project.why, hint=_EMPTY)
        if not project.conclusive or graph is None:
            return _undetermined(run, project.why or "the revision files are written in an unusual way")
        recorded = await version_table.recorded_revisions(
            ready.connection, project.version_table, project.version_schema
        )
        return await _against(run, ready, found, recorded)


async def by_name(run: Run, ready: Ready, found: History, *, strict: bool) -> Comparison:
    """The same where env.py writes before it can be asked: by the table and the schema that it has written out.

    Args:
        run: this run.
        ready: the supervisor's session.
        found: the project.
        strict: as for `ask`.

    Returns:
        Undetermined where env.py computes them, or leaves the schema to a search path, and there is a version table; or
        where the target is Alembic's to resolve.
    """
    project, graph = found
    table, schema = project.version_table, project.version_schema
    if graph is None or (schema is None and await version_table.is_any(ready.connection)):
        return Undetermined(reason="env.py does not write out where its version table is")
    recorded = () if schema is None else await version_table.recorded_revisions(ready.connection, table, schema)
    if strict:
        return await _against(run, ready, found, recorded)
    run.record.found(recorded)
    return UpToDate(recorded=recorded, place=_place(project))


async def _against(run: Run, ready: Ready, found: History, recorded: tuple[str, ...]) -> Comparison:
    """What is recorded, held against the files."""
    project, graph = found
    assert graph is not None  # noqa: S101  (seen to before)
    run.record.found(recorded)
    name = ledger.key(project.version_table, project.version_schema)
    plan = await decided(run, ready, recorded, graph, name)
    if plan is None:
        return _undetermined(run, f"the way to {run.settings.target!r} is Alembic's to find")
    if not graph.revisions.keys() >= set(recorded):
        let_through(run, recorded)
        return UpToDate(recorded=recorded, place=_place(project), beyond=True)
    if plan.nothing_pending:
        run.log.info(
            "nothing_pending", revision=revision_field(recorded), target=run.settings.target, beyond=plan.beyond
        )
        return UpToDate(recorded=recorded, place=_place(project), beyond=plan.beyond)
    return pending(run, found, plan)


def let_through(run: Run, recorded: tuple[str, ...]) -> None:
    """Say that a newer database is left as it is."""
    run.log.warning("database_ahead", revision=revision_field(recorded), hint="left as it is: HEADSTART_AHEAD=allow")


def pending(run: Run, found: History, plan: Plan) -> Pending:
    """A plan by the files, of which something is to be done."""
    project, graph = found
    assert graph is not None  # noqa: S101  (there is no plan without it)
    run.record.pending = plan.pending
    steps = (msgspec.structs.replace(graph.revisions[each], down=graph.parents[each]) for each in plan.pending)
    return Pending(
        recorded=plan.before,
        steps=tuple(steps),
        place=_place(project),
        heads=graph.heads,
    )


def _place(project: Project) -> Place:
    return Place(table=project.version_table, schema=project.version_schema, configured=project.version_schema)


def _undetermined(run: Run, reason: str) -> Undetermined:
    run.log.info("alembic_decides", reason=reason)
    return Undetermined(reason=reason)


async def decided(run: Run, ready: Ready, recorded: tuple[str, ...], graph: Graph, name: str) -> Plan | None:
    """The plan by the files and the ledger; refuses a database that this history does not fit."""
    entries: dict[str, Entry] = {}
    kept = run.settings.ledger != "off"  # one that is kept no longer knows nothing of what was applied since
    if not graph.revisions.keys() >= set(recorded):
        from headstart.history.squashed import refuse_midway

        refuse_midway(recorded, graph)
        if kept:
            with _ledger_locked(run):
                entries = await ledger.entries(ready.connection, name)
    allow_ahead = run.settings.ahead == "allow"
    plan = decide(recorded, graph, run.settings.target, ledger=entries, allow_ahead=allow_ahead)
    if kept:
        with _ledger_locked(run):
            await ledger.refuse_edited(ready.connection, name, recorded, graph)
    return plan


@contextlib.contextmanager
def _ledger_locked(run: Run) -> Iterator[None]:
    """Go on without the ledger where somebody holds it locked, and say so."""
    try:
        yield
    except ledger.LedgerLockedError as error:
        hint = "whether a file was edited (73) is not looked at"
        run.log.warning("ledger_not_read", cause=str(error), hint=hint)
