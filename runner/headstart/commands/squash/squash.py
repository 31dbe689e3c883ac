"""Replace the revision files up to one by a baseline: replay, write, verify, and only then exchange."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from headstart.commands.squash.cut import Cut, decide_cut
from headstart.commands.squash.files import exchange
from headstart.commands.squash.text import baseline_text, statements
from headstart.commands.squash.verify import Made, made_by, rebuilt, require_same
from headstart.errors import ConfigurationError
from headstart.history.baseline import read_baseline
from headstart.history.plan import decide
from headstart.ledger.fingerprint import fingerprint
from headstart.postgres.scratch import scratch_server
from headstart.steps.connect import find
from headstart.steps.describe import describe, file_name
from headstart.steps.replay import replay
from headstart.steps.stage import Stage
from headstart.worker.supervise import Worker

if TYPE_CHECKING:
    from headstart.history import History, Project
    from headstart.steps.replay import Replay
    from headstart.steps.run import Run

_STAGE: Final = ".headstart-squash-"
_README: Final = """\
# What the baseline {revision} has replaced

The {count} revision files up to {revision}, put away by `headstart squash` on {day:%Y-%m-%d}. A database in the middle
of them gets to {revision} with a configuration whose `version_locations` is this folder.
"""


async def squash(
    run: Run, revision: str | None, *, message: str, archive: str | None, write: Callable[[str], object]
) -> Path:
    """Replace the revision files up to one by a baseline that has its id; give the baseline's path.

    Args:
        run: this run; its database is neither needed nor touched.
        revision: the last one that is replaced; the head when left out.
        message: of the baseline.
        archive: the folder that holds a folder of old files for each baseline; `archive` beside the version folder
            when left out.
        write: receives a line for each difference that keeps the baseline from being used.

    Raises:
        ConfigurationError: there is nothing to squash, or no scratch server (10).
        BrokenHistoryError: the files are no history, or later ones hang on what would go (70).
        MigrationFailedError: a revision fails on the scratch server (60).
        VerificationFailedError: the baseline does not give what the revisions give; nothing is changed (80).
    """
    async with Worker(cwd=run.cwd, environ=run.environ) as worker:
        found = find(run)
        cut = await _cut(run, worker, found, revision)
        moment = datetime.datetime.now(datetime.UTC)
        archive_dir = (Path(run.cwd, archive) if archive is not None else cut.location.parent / "archive") / cut.top.id
        name = await file_name(run, worker, found.project, revision=cut.top.id, message=message, moment=moment)
        place = _place(cut, name)
        _refuse_folders(found.project, cut, archive_dir)
        with _stage(cut.location.parent) as staging:
            stage = Path(staging)
            async with scratch_server(run.settings, log=run.log) as scratch, scratch.database() as dsn:
                async with replay(run, dsn, worker) as old:
                    with run.record.timed(Stage.REPLAY):
                        await old.up(cut.top.id)
                        before = await made_by(run, dsn, old)
                    written = _text(old, cut, before, message, found.project.here, archive_dir, moment)
                    (stage / place.name).write_text(written, encoding="utf-8", newline="")
                    await old.format(stage / place.name)
                staged = msgspec.structs.replace(found.project, version_locations=(str(stage),), staged=True)
                after = await rebuilt(run, scratch, worker, cut.top.id, staged)
            require_same(before, after, write)
            readme = _README.format(revision=cut.top.id, count=len(cut.replaced), day=moment)
            text = (stage / place.name).read_bytes()
            exchange(cut.replaced, baseline=place, text=text, archive=archive_dir, readme=readme)
        run.log.info(
            "squashed", revision=cut.top.id, files=len(cut.replaced), baseline=str(place), archive=str(archive_dir)
        )
        return place


async def _cut(run: Run, worker: Worker, found: History, revision: str | None) -> Cut:
    if found.graph is None:
        raise ConfigurationError(
            "the revision files are written in a way that only Alembic can read",
            hint="write revision and down_revision as plain strings, in files with a source",
        )
    if revision is None:
        decide((), found.graph, "head")  # its error names the heads if there are several
    described = await describe(run, worker, found.project, target=revision or "head")
    return decide_cut(found.graph, [each.id for each in described.steps], found.project)


def _place(cut: Cut, name: str) -> Path:
    """Where the baseline goes: beside the file whose id it takes over, under a name that is free."""
    folder = Path(cut.top.path).parent
    for each in (name, name.removesuffix(".py") + "_baseline.py"):
        if not (folder / each).exists():
            return folder / each
    raise ConfigurationError(f"{folder / name} is there already", hint="give the baseline another message: -m MESSAGE")


def _refuse_folders(project: Project, cut: Cut, archive_dir: Path) -> None:
    """Refuse an archive or a stage in which Alembic would look for revisions."""
    if archive_dir.exists():
        raise ConfigurationError(
            f"{archive_dir} is there already", hint="move it away, or name another folder: --archive"
        )
    for folder in (Path(each).resolve() for each in project.version_locations):
        for ours in (archive_dir, cut.location.parent / _STAGE):
            inside = ours.resolve()
            if inside == folder or (project.recursive and inside.is_relative_to(folder)):
                raise ConfigurationError(
                    f"{ours} is inside the version folder {folder}, which is read with its subfolders",
                    hint="name a folder elsewhere: --archive; a version folder is best one below that of env.py",
                )


def _stage(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder in the project, where its formatters find their settings."""
    try:
        return tempfile.TemporaryDirectory(prefix=_STAGE, dir=folder)
    except OSError as error:
        raise ConfigurationError(
            f"no folder can be made in {folder}: {error.strerror}", hint="make the project's folder writable"
        ) from error


def _text(
    old: Replay, cut: Cut, made: Made, message: str, here: str, archive_dir: Path, moment: datetime.datetime
) -> str:
    """The text of the baseline."""
    return baseline_text(
        cut.top.id,
        message=message,
        labels=cut.labels,
        archive=os.path.relpath(archive_dir, here),
        squashed=_squashed(cut),
        statements=statements(made.entries, version_table=old.place.table, schema=old.place.schema or ""),
        count=len(cut.replaced),
        moment=moment,
    )


def _squashed(cut: Cut) -> Iterator[tuple[str, ...]]:
    for each in cut.replaced:
        source = Path(each.path).read_bytes()
        yield each.id, each.sha256, fingerprint(source)
        older = read_baseline(source)
        if older is not None:
            yield from ((revision, *sorted(digests)) for revision, digests in older.digests.items())
