"""Whether a baseline gives what the revisions give: the same catalog, the same order of columns, and the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headstart.commands.schema.pg_dump import dump_entries
from headstart.commands.schema.script import Entry
from headstart.commands.squash.text import content
from headstart.errors import MigrationFailedError, VerificationFailedError
from headstart.history import read_graph
from headstart.history.baseline import read_baseline
from headstart.postgres import catalog
from headstart.steps.replay import replay
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from headstart.history import Project
    from headstart.postgres.scratch import Scratch
    from headstart.settings.dsn import Dsn
    from headstart.steps.replay import Replay
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker


class Made(msgspec.Struct, frozen=True):
    """What revisions have made in a scratch database: its catalog, and its dump."""

    catalog: catalog.Catalog
    entries: list[Entry]


async def rebuilt(run: Run, scratch: Scratch, worker: Worker, revision: str, staged: Project) -> Made:
    """What the baseline makes, from the file that will be used.

    Args:
        run: this run.
        scratch: where a database is made for it.
        worker: runs env.py.
        revision: its id.
        staged: the project with no other revision file.

    Raises:
        VerificationFailedError: it cannot be read, or does not run (80).
    """
    _require_readable(staged, revision)
    async with scratch.database() as dsn, replay(run, dsn, worker, project=staged) as new:
        with run.record.timed(Stage.REBUILD):
            try:
                await new.up(revision)
            except MigrationFailedError as error:
                raise VerificationFailedError(
                    f"the baseline does not run; nothing was changed: {error.message}",
                    hint="see what of the schema pg_dump cannot write so that it can be made again, or squash up to an"
                    " earlier revision",
                    **error.context,
                ) from error
            return await made_by(run, dsn, new)


def _require_readable(staged: Project, revision: str) -> None:
    graph = read_graph(staged)
    file = None if graph is None else graph.revisions.get(revision)
    if file is None or file.down or read_baseline(Path(file.path).read_bytes()) is None:
        raise VerificationFailedError(
            "the baseline is not what it was when it was written; nothing was changed",
            hint="see what the post-write hooks make of it: the names of the module and their values have to stay",
        )


async def made_by(run: Run, dsn: Dsn, history: Replay) -> Made:
    """What a replay's revisions have made in its database."""
    table = ".".join(filter(None, (history.place.configured, history.place.table)))
    found = await catalog.read(history.connection, passing_over=[table], grants=True, order=True)
    return Made(found, await dump_entries(run, history.connection, dsn, history.place))


def require_same(before: Made, after: Made, write: Callable[[str], object]) -> None:
    """Refuse a baseline that gives another schema, or other rows.

    Args:
        before: what the revisions have made.
        after: what the baseline has made.
        write: receives a line for each difference.

    Raises:
        VerificationFailedError: with each difference (80).
    """
    found = [
        each.sentence("the revisions", "the baseline") for each in catalog.differences(before.catalog, after.catalog)
    ]
    ours, theirs = content(before.entries), content(after.entries)
    found += [
        f"{label}: other content"
        for label in sorted(ours.keys() | theirs.keys())
        if ours.get(label) != theirs.get(label)
    ]
    for line in found:
        write(line)
    if found:
        raise VerificationFailedError(
            f"the baseline does not give what the revisions give; nothing was changed: {'; '.join(found[:3])}"
            + (f" and {len(found) - 3} more" if len(found) > 3 else ""),  # noqa: PLR2004  (enough to see what it is)
            hint="let a later revision bring what pg_dump does not write, or remove it; or squash up to an earlier one",
            differences=found,
        )
