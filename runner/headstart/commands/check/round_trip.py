"""Every revision up, down and up again on a scratch database, with the schema compared each time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.commands.check.finding import Finding, few, line_of
from headstart.errors import (
    HeadstartError,
    InterruptedMigrationError,
    MigrationFailedError,
    VerificationFailedError,
)
from headstart.history.baseline import read_baseline
from headstart.postgres import catalog
from headstart.steps.replay import Replay, replay

if TYPE_CHECKING:
    from headstart.postgres.catalog import Catalog
    from headstart.postgres.scratch import Scratch
    from headstart.settings.dsn import Dsn
    from headstart.steps.run import Run
    from headstart.worker.messages import Executed
    from headstart.worker.supervise import Worker

_INTERVAL = 10.0
_REMEDY = "let downgrade() take back what upgrade() does, and nothing else"
_UPWARDS = frozenset({"fails", "again-fails", "again-differs"})


class Walk:
    """The way from an empty database to the head.

    Args:
        run: this run.
        server: where the databases are made.
        worker: runs env.py.

    Attributes:
        findings: of the round trip, and why the way ended early.
        statements: of every revision on its way up, once.
        applied: the revisions that have gone up.
        ended: why the head was not reached; None if it was.
    """

    def __init__(self, run: Run, server: Scratch, worker: Worker) -> None:
        self._run = run
        self._server = server
        self._worker = worker
        self._spares = AsyncExitStack()
        self._current = AsyncExitStack()
        self._spare: Dsn | None = None
        self._spare_at = 0
        self._went_back = False
        self.findings: list[Finding] = []
        self.statements: list[Executed] = []
        self.applied: list[str] = []
        self.ended: str | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, run: Run, server: Scratch, worker: Worker) -> AsyncIterator[Walk]:
        """A walk before its first revision. Its databases are dropped afterwards."""
        walk = cls(run, server, worker)
        try:
            await walk._open()
            yield walk
        finally:
            await walk._current.aclose()
            await walk._spares.aclose()

    async def go(self, *, round_trip: bool, check: str) -> None:
        """Apply every revision.

        Args:
            round_trip: revert and apply each again before the next.
            check: under which a failing revision is reported.
        """
        before = await self.schema()
        revisions = self.replay.revisions
        reported = time.monotonic()
        for at, revision in enumerate(revisions):
            if time.monotonic() - reported >= _INTERVAL:
                reported = time.monotonic()
                self._run.log.info("check_running", revision=revision, done=at, of=len(revisions))
            known = len(self.replay.statements)
            if error := await _failure(self.replay.apply(revision)):
                self.ended = f"revision {revision} fails on an empty database"
                message = f"fails on an empty database: {_cause(error)}"
                remedy = "let every revision run on what those before it have made; nothing after it was checked"
                self._found("fails", message, remedy, revision, error, check=check)
                return
            self.applied.append(revision)
            self.statements += self.replay.statements[known:]
            if not round_trip:
                continue
            after = await self.schema()
            usable = _is_baseline(self.replay.files[revision]) or await self._round_trip(revision, before, after)
            if not usable and (error := await _failure(self._start_again(at))):
                self.ended = f"{_cause(error)} (when revision {revision} was applied to a second database)"
                return
            before = after

    async def ensure_forward(self) -> None:
        """Be at the head in a database in which nothing was reverted: its rows and sequences are those of any new one.

        Raises:
            MigrationFailedError: a revision cannot be applied twice on a server.
        """
        if self._went_back:
            await self._start_again(len(self.replay.revisions) - 1)

    async def schema(self) -> Catalog:
        """The schema as it is now, privileges included."""
        return await catalog.read(self.replay.connection, passing_over=[self.version_table], grants=True)

    @property
    def version_table(self) -> str:
        """Alembic's, with its schema if it has one."""
        return ".".join(filter(None, (self.replay.place.configured, self.replay.place.table)))

    async def _round_trip(self, revision: str, before: Catalog, after: Catalog) -> bool:
        """Revert the revision that was applied last, and apply it again; False if the database cannot be used further.

        Args:
            revision: its id.
            before: the schema before it was applied.
            after: the schema since.
        """
        recorded, self._went_back = self.replay.recorded, True
        if error := await _failure(self.replay.revert(revision)):
            if error.context.get("raised") == NotImplementedError.__name__:
                remedy = "write downgrade(), or accept that with --write-baseline"
                self._found("irreversible", "cannot be reverted: its downgrade() refuses", remedy, revision, error)
            else:
                self._found("downgrade-fails", f"cannot be reverted: {_cause(error)}", _REMEDY, revision, error)
            return await self.schema() == after
        reverted = await self.schema()
        if reverted == after != before:
            message = "cannot be reverted: its downgrade() leaves everything as it is"
            self._found("downgrade-empty", message, _REMEDY, revision)
            await self.replay.stamp(recorded)
            return True
        if reverted != before:
            message = _differences(before, reverted, "the schema before it", "the schema after its downgrade()")
            self._found("downgrade-differs", f"is not wholly reverted: {message}", _REMEDY, revision)
            return False
        if error := await _failure(self.replay.apply(revision)):
            self._found("again-fails", f"cannot be applied a second time: {_cause(error)}", _REMEDY, revision, error)
            return False
        again = await self.schema()
        if again != after:
            message = _differences(after, again, "the schema the first time", "the schema the second time")
            self._found("again-differs", f"does not do the same a second time: {message}", _REMEDY, revision)
        return again == after

    async def _open(self, template: Dsn | None = None) -> None:
        self._current = AsyncExitStack()
        self.dsn = await self._current.enter_async_context(self._server.database(template))
        self.replay: Replay = await self._current.enter_async_context(replay(self._run, self.dsn, self._worker))

    async def _start_again(self, at: int) -> None:
        """Go on in a database in which nothing was reverted, up to this revision.

        A spare one is taken along for that, and copied: all of it together is the way to the head once more.

        Raises:
            MigrationFailedError: a revision cannot be applied twice on a server.
        """
        await self._current.aclose()
        if self._spare is None:
            self._spare = await self._spares.enter_async_context(self._server.database())
        async with replay(self._run, self._spare, self._worker) as spare:
            for revision in spare.revisions[self._spare_at : at + 1]:
                await spare.apply(revision)
        self._spare_at, self._went_back = at + 1, False
        await self._open(self._spare)

    def _found(
        self,
        kind: str,
        message: str,
        remedy: str,
        revision: str,
        error: HeadstartError | None = None,
        *,
        check: str = "round-trip",
    ) -> None:
        path = self.replay.files[revision]
        where, _, line = str(error.context.get("location") or "").rpartition(":") if error is not None else ("", "", "")
        going = "upgrade" if kind in _UPWARDS else "downgrade"
        self.findings.append(
            Finding(
                check=check,
                key=f"{check}:{revision}:{kind}",
                message=f"revision {revision} {message}",
                remedy=remedy,
                revision=revision,
                path=path,
                line=int(line) if where == path and line.isdigit() else line_of(path, going),
            )
        )


def _is_baseline(path: str) -> bool:
    """Whether the file is one of `headstart squash`, which cannot be reverted."""
    return read_baseline(Path(path).read_bytes()) is not None


async def _failure(work: Awaitable[object]) -> HeadstartError | None:
    """The error of a revision that fails, which is a finding. Any other, such as a lost server, is raised."""
    try:
        await work
    except InterruptedMigrationError:
        raise
    except (MigrationFailedError, VerificationFailedError) as error:
        return error
    return None


def _cause(error: HeadstartError) -> str:
    """What a revision failed of, with its statement; file and line are reported apart."""
    context = error.context
    text = error.message.removeprefix(f"revision {context.get('revision')} failed: ")
    text = text.removesuffix(f" ({context.get('location')})")
    return f"{text}: {context['statement']}" if context.get("statement") else text


def _differences(left: Catalog, right: Catalog, left_name: str, right_name: str) -> str:
    return few([each.sentence(left_name, right_name) for each in catalog.differences(left, right)])
