"""Has env.py run revisions, with a transaction for each and a report of each; or plan them, or stamp them."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import msgspec

from headstart.errors import (
    ConfigurationError,
    HeadstartError,
    VerificationFailedError,
)
from headstart.ledger.writer import Writer, source_of
from headstart.worker import failure, loss, project, sessions
from headstart.worker.environment import Environment
from headstart.worker.messages import MOVED, Failed, Idle, Planned, RevisionApplied, RevisionStarted, TaskFailedError
from headstart.worker.recording import record, writer_of
from headstart.worker.tasks import More
from headstart.worker.timeouts import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep

    from headstart.worker import tasks
    from headstart.worker.port import Port


def plan(task: tasks.Plan, port: Port) -> Planned | None:
    """What is recorded, where, and the way to the target; nothing is changed. None if Alembic has not come to look."""
    verb = "upgrade" if task.up else "downgrade"
    environment = Environment(task, port, work=False, verb=verb, target=task.target or "heads")
    planned: Planned | None = None
    refused: Exception | None = None

    def look(heads: tuple[str, ...], context: MigrationContext) -> list[RevisionStep]:
        nonlocal planned, refused
        try:
            directory = environment.directory
            project.read(directory)
            steps: list[RevisionStep] = []
            unknown: tuple[str, ...] = ()
            if task.target is not None:
                unknown = tuple(each for each in heads if not project.knows(directory, each))
                steps = [] if unknown else project.steps_to(directory, task.target, heads, up=task.up)
            planned = msgspec.structs.replace(environment.planned(heads, context, steps), unknown=unknown)
        except Exception as error:
            refused = error
            raise
        return []

    try:
        environment.run(look, dont_mutate=True)
    except (Exception, SystemExit) as error:
        # What follows the migrations in env.py may need what they make.
        if planned is None or isinstance(error, HeadstartError):
            raise _reported(error, environment) from error
    if refused is not None:  # and env.py has swallowed it
        raise _reported(refused, environment)
    return planned and msgspec.structs.replace(planned, one_transaction=environment.one_transaction)


def migrate(task: tasks.Migrate, port: Port) -> list[str]:
    """Have Alembic run the steps, and report each. Gives what is recorded at the end, by Alembic's own account."""
    verb = "upgrade" if task.up else "downgrade"
    environment = Environment(task, port, work=True, single=task.one_transaction, verb=verb, target=task.target)
    work = _Work(task, port, environment)
    try:
        environment.run(work.feed, applied=work.applied)
    except BaseException as error:
        raise _reported(error, environment, work) from error
    if not work.done:
        raise _reported(work.swallowed(), environment, work)
    return sorted(work.recorded)


class _Work:
    """The steps of one `Migrate`."""

    def __init__(self, task: tasks.Migrate, port: Port, environment: Environment) -> None:
        self._task = task
        self._port = port
        self._environment = environment
        self._statements = environment.statements
        self._started = 0.0
        self._source: bytes | None = None
        self._writer: Writer | None = None
        self._settings: SessionSettings
        self.step: RevisionStep | None = None
        self.recorded: set[str] = set()
        self.done = False
        self.uncommitted = False  # revisions have been run in a transaction of env.py's own

    def feed(self, heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep | StampStep]:
        """Alembic's `fn`. What follows a `yield` runs once its step has been committed."""
        task, directory = self._task, self._environment.directory
        project.read(directory)
        self.recorded = set(heads)
        steps = [project.step_of(directory, revision, up=task.up) for revision in task.steps]
        gc.freeze()  # the history stays: the collector need not look at it again and again
        planned = self._environment.planned(heads, context, [])
        self._port.send(planned)
        self._writer = writer_of(task.ledger, planned.place)
        if task.before is not None and set(heads) != set(task.before):
            raise _moved(f"the database is at {', '.join(sorted(heads)) or 'base'} by now")
        if task.place is not None and not planned.place.is_like(task.place):
            raise _moved(f"env.py's version table is {planned.place.table} in schema {planned.place.schema} by now")
        if planned.one_transaction and not task.one_transaction:
            raise _moved(planned.one_transaction)
        assert context.connection is not None  # noqa: S101  (online)
        self._settings = SessionSettings(context.connection)
        for step in steps:
            yield from self._one(step, context)
        while task.interactive and (more := self._more(context)) is not None:
            if more.stamp is not None:
                yield from directory._stamp_revs(more.stamp, tuple(self.recorded))  # noqa: SLF001  (as `alembic stamp`)
            if more.revision is not None:
                yield from self._one(project.step_of(directory, more.revision, up=more.up), context)
        self.done = True

    def _more(self, context: MigrationContext) -> More | None:
        """Wait for what comes next; None at the end. Nothing is left open meanwhile: others look at the database."""
        connection = context.connection
        if connection is not None and connection.in_transaction():
            connection.commit()
        self._port.send(Idle(recorded=tuple(sorted(self.recorded))))
        more = self._port.receive()
        return more if isinstance(more, More) and more != More() else None

    def _one(self, step: RevisionStep, context: MigrationContext) -> Iterator[RevisionStep]:
        revision = str(step.revision.revision)
        if self._port.closing():
            raise TaskFailedError(
                Failed(error="InterruptedMigrationError", message=f"stopped before revision {revision}")
            )
        self.step, self._started = step, time.monotonic()
        self._port.send(RevisionStarted(revision=revision))
        path = str(getattr(step.revision, "path", ""))
        self._source = source_of(path)
        self._statements.begin(revision, path, self._source or b"", up=step.is_upgrade, connection=context.connection)
        self._environment.watch_step(step, context)
        yield step
        self._statements.end()
        connection = context.connection
        assert connection is not None  # noqa: S101  (online)
        if not self._task.one_transaction and connection.in_transaction():
            connection.commit()  # the revision has ended its transaction by itself, and another began
        single = self._task.one_transaction
        self._settings.put_back(connection, unheard=self._statements.unheard, commit=not single)
        self.step = None
        self.uncommitted = single
        self._port.send(
            RevisionApplied(
                revision=revision,
                up=step.is_upgrade,
                seconds=round(time.monotonic() - self._started, 3),
                committed=not single,
            )
        )

    def applied(self, *, ctx: MigrationContext, heads: set[str], **_: object) -> None:
        """Alembic's `on_version_apply`: the step's work is done, its commit comes next."""
        self.recorded = set(heads)
        step, self._statements.versioned = self.step, True
        if self._writer is None or step is None or ctx.connection is None:
            return
        rows = self._writer.record(
            "applied" if step.is_upgrade else "reverted",
            str(step.revision.revision),
            follows=step.revision._all_down_revisions,  # noqa: SLF001  (down_revision and depends_on, resolved)
            source=self._source,
            seconds=round(time.monotonic() - self._started, 3),
        )
        self._writer.there = record(ctx, rows, self._port) or self._writer.there

    def swallowed(self) -> BaseException:
        """What env.py must have passed over: it has ended, and not all was run."""
        return self._environment.failure or VerificationFailedError(
            f"env.py ended without running all of the {len(self._task.steps)} pending revisions",
            hint="see which exception env.py swallows",
        )


def stamp(task: tasks.Stamp, port: Port) -> Planned | None:
    """Write the version table as `alembic stamp` does, running nothing; give what it then holds, and where it is."""
    target = task.revisions[0] if task.revisions else "base"
    environment = Environment(task, port, work=True, single=True, verb="stamp", target=target)
    found: set[str] = set()
    left = 0
    writer: Writer | None = None
    planned: Planned | None = None

    def feed(heads: tuple[str, ...], context: MigrationContext) -> Iterator[StampStep]:
        nonlocal found, left, writer, planned
        project.read(environment.directory)
        found = set(heads)
        planned = environment.planned(heads, context, [])
        writer = writer_of(task.ledger, planned.place)
        try:
            steps = environment.directory._stamp_revs(task.revisions, heads)  # noqa: SLF001  (what alembic.command calls)
        except Exception as error:
            raise ConfigurationError(str(error), hint="`headstart history` shows the revisions there are") from error
        left = len(steps)
        yield from steps
        if not steps:  # the version table says so already
            write(context)
            if context.connection is not None and environment.each:  # a step would be committed by itself
                context.connection.commit()

    def applied(*, ctx: MigrationContext, heads: set[str], **_: object) -> None:
        nonlocal found, left
        found = set(heads)
        left -= 1
        if left == 0:
            write(ctx)

    def write(context: MigrationContext) -> None:
        if writer is None:
            return
        held = project.lineage(environment.directory, sorted(found)) if found else []
        meant = [each for each in held if task.known.get(each.id) != each.sha256 or each.id in found]
        record(context, writer.record_all(task.action, meant) if meant else writer.record(task.action, None), port)

    try:
        environment.run(feed, applied=applied, purge=task.purge)
    except BaseException as error:
        raise _reported(error, environment) from error
    return planned and msgspec.structs.replace(planned, recorded=tuple(sorted(found)))


def _moved(why: str) -> TaskFailedError:
    return TaskFailedError(
        Failed(error="MigrationFailedError", message=f"nothing was run: {why}", context={MOVED: True})
    )


def _reported(error: BaseException, environment: Environment, work: _Work | None = None) -> TaskFailedError:
    """What an exception out of env.py is reported as."""
    if work is not None and work.step is not None:
        error = environment.failure or error  # whatever env.py has made of it
    if isinstance(error, TaskFailedError):
        return error
    statements = environment.statements
    lost = loss.is_lost(error, statement_timeout=sessions.statement_timeout())
    common: dict[str, Any] = {"sqlstate": failure.sqlstate_of(error), "lost": lost}
    if work is not None and work.step is not None:
        found = failure.of_revision(error, path=statements.path, line=statements.line)
        kind, hint = "MigrationFailedError", None
        if isinstance(error, HeadstartError):
            kind, hint = type(error).__name__, error.hint
        if environment.ran > 1:
            found["cause"] = f"{found['cause']}; env.py then ran context.run_migrations() again, which is refused"
            hint = hint or _ONCE
        common |= {
            "hint": hint or _remedy(error, environment),
            "revision": str(work.step.revision.revision),
            "chosen": loss.is_chosen(error),
            "unheard": statements.unheard or statements.elsewhere,
        }
        return TaskFailedError(Failed(error=kind, message=str(found.pop("cause")), context=found, **common))
    if work is not None and work.uncommitted:
        found = failure.of_revision(error, path=environment.directory.dir, line=None)
        message = f"env.py failed after the revisions of its one transaction: {found.pop('cause')}"
        return TaskFailedError(Failed(error="MigrationFailedError", message=message, context=found, **common))
    refused = failure.of_environment(error, environment.directory.dir)
    common |= {"hint": refused.hint, "context": dict(refused.context)}
    return TaskFailedError(Failed(error=type(refused).__name__, message=refused.message, **common))


_ONCE = (
    "correct the revision, and let env.py fail with it: `up` itself tries a revision again that has lost a race for its"
    " locks"
)


def _remedy(error: BaseException, environment: Environment) -> str | None:
    if environment.one_transaction and isinstance(error, AssertionError):  # out of Alembic's autocommit_block
        return (
            "an autocommit_block cannot leave env.py's own transaction: let env.py open its connection by connect()"
            " instead of begin()"
        )
    found = loss.remedy(error)
    statements = environment.statements
    if found is None and (statements.unheard or statements.elsewhere):
        where = "on the driver's own connection" if statements.unheard else "in a program that it starts"
        found = f"correct the revision; it works {where}: see what it has committed there"
    return found
