"""Take over a database that records no revision: compare its schema with the history's, and record the revision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headstart import ledger
from headstart.errors import ConfigurationError, VerificationFailedError
from headstart.history.graph import revision_field
from headstart.postgres import catalog
from headstart.postgres.catalog import Catalog, Difference
from headstart.postgres.lock import stop_if_lost
from headstart.postgres.scratch import scratch_server
from headstart.postgres.server import holds_user_tables
from headstart.steps.connect import connected, find, locked
from headstart.steps.replay import Replay, replay
from headstart.steps.run import Run
from headstart.steps.stage import Stage
from headstart.steps.work import Work
from headstart.worker.supervise import Worker


class Place(msgspec.Struct, frozen=True):
    """A place in the history, and how a database differs from the schema there."""

    revisions: tuple[str, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        return ", ".join(self.revisions)

    def lines(self) -> list[str]:
        """A line for each difference."""
        return [each.sentence(str(self), "the database") for each in self.differences]


async def adopt(
    run: Run, revision: str | None, *, force: bool, ignored: Sequence[str], write: Callable[[str], object]
) -> None:
    """Record the revision whose schema the database has, in the version table and the ledger; nothing else is written.

    The schemas of the history are made on a scratch server of the database's version. What is compared is the catalog:
    neither rows, nor the order of columns, nor owners and privileges.

    Args:
        run: this run.
        revision: of the database; None finds it.
        force: record `revision` even if there are differences.
        ignored: relations of the database's that are no part of the schema, as `table` or `schema.table`.
        write: receives a line for each difference.

    Raises:
        ConfigurationError: it records a revision already, is empty, or fits several revisions (10).
        VerificationFailedError: there are differences (80).
    """
    found = find(run)
    async with connected(run) as ready, Work.opened(run, ready, found) as work, locked(run, ready):
        state = await work.plan(strict=False)
        table = state.place
        if state.recorded:
            raise ConfigurationError(
                f"the database is at {revision_field(state.recorded)} already: there is nothing to adopt",
                hint="`headstart up` brings it to head; `headstart stamp` corrects what is recorded",
            )
        if not await holds_user_tables(ready.connection, table.table):
            raise ConfigurationError(
                "the database holds no tables: there is nothing to adopt", hint="`headstart up` makes them"
            )
        await work.guard(state)
        ignored = (ledger.key(table.table, table.configured), *ignored)
        major = ready.server.version_num // 10000
        with run.record.timed(Stage.COMPARE):
            ours = await catalog.read(ready.connection, passing_over=ignored)
            async with (
                stop_if_lost(ready.connection) as heartbeat,
                scratch_server(run.settings, major=major, log=run.log) as scratch,
                scratch.database() as dsn,
                Worker(cwd=run.cwd, environ=run.environ) as worker,
                replay(run, dsn, worker) as history,
            ):
                place = await _search(history, ours, ignored, revision, heartbeat)
        for line in place.lines():
            write(line)
        if place.differences:
            if not force:
                raise _differs(place, revision)
            run.log.warning(
                "adopted_with_differences", revision=revision_field(place.revisions), differences=place.lines()
            )
        else:
            run.log.info("schema_matches", revision=revision_field(place.revisions), of=len(history.revisions))
        await work.verify(await work.stamp(table, place.revisions, action="adopted"))


async def _search(
    history: Replay,
    ours: Catalog,
    ignored: Sequence[str],
    revision: str | None,
    heartbeat: Callable[[], Awaitable[object]],
) -> Place:
    """The place of the given revision; without one the place whose schema is ours, or is nearest.

    Raises:
        ConfigurationError: several have ours: the revisions between them changed rows alone (10).
    """

    async def here() -> Place:
        theirs = await catalog.read(history.connection, passing_over=ignored)
        return Place(tuple(history.recorded), tuple(catalog.differences(theirs, ours)))

    if revision is not None:
        await history.up(revision)
        if not history.recorded:
            raise ConfigurationError(f"{revision!r} is no revision to adopt", hint="`headstart history` lists them")
        return await here()
    best: list[Place] = []
    for each in history.revisions:
        await heartbeat()
        await history.apply(each)
        place = await here()
        if best and len(place.differences) > len(best[-1].differences):
            continue
        if best and len(place.differences) < len(best[-1].differences):
            best.clear()
        best.append(place)
    if len(best) > 1 and not best[-1].differences:
        raise ConfigurationError(
            f"the database has the schema of {' and of '.join(map(str, best))}: they differ in rows alone",
            hint=f"name the right one: `headstart adopt {best[-1]}` if the rows are as that revision leaves them",
        )
    if not best:
        raise ConfigurationError("the history holds no revision", hint="write the first one: `headstart revision`")
    return best[-1]


def _differs(place: Place, asked: str | None) -> VerificationFailedError:
    count = f"{len(place.differences)} difference{'s' if len(place.differences) > 1 else ''}"
    if asked is None:
        message = f"no revision has the schema of the database; the nearest is {place}, with {count}"
    else:
        message = f"the database does not have the schema of {place}: {count}"
    return VerificationFailedError(
        message,
        hint="bring the database in line by hand, or pass over what is not of the schema (--ignore TABLE);"
        f" `headstart adopt {place} --force` records the revision all the same",
        revision=revision_field(place.revisions),
        differences=place.lines(),
    )
