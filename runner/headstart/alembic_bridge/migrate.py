"""Runs the pending steps: retries a lost race, and explains a failure with all that it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from headstart import remedies
from headstart.alembic_bridge.environment import run_environment
from headstart.alembic_bridge.scripts import env_failed
from headstart.alembic_bridge.steps import RETRIED, Executed, Failure, Steps, revision_of
from headstart.errors import (
    HeadstartError,
    MigrationFailedError,
    PartlyCommittedError,
    TableLocksNotObtainedError,
    VerificationFailedError,
)
from headstart.observe import Activity, invalid_indexes, summary

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from structlog.typing import FilteringBoundLogger

    from headstart.alembic_bridge.scripts import Scripts
    from headstart.alembic_bridge.workbench import Workbench
    from headstart.ledger.writer import Writer
    from headstart.run import AppliedRevision

    Look = Callable[[], Awaitable[frozenset[str]]]


async def migrate(
    scripts: Scripts,
    workbench: Workbench,
    steps: Sequence[RevisionStep],
    *,
    activity: Activity,
    retry: float,
    record: Callable[[AppliedRevision, tuple[str, ...]], None],
    ledger: Writer | None = None,
    log: FilteringBoundLogger,
    tag: str | None = None,
    executed: Executed | None = None,
    schema: str | None = None,
) -> tuple[str, ...]:
    """Run `steps`, each in a transaction of its own, and again if it lost a race and nothing of it is committed.

    Args:
        scripts: the project.
        workbench: our connection, which holds the migration lock.
        steps: what to run.
        activity: told what is going on.
        retry: seconds for which one revision is tried again.
        record: called with each revision once it is committed, and with what the version table then holds.
        ledger: writes a row for each revision, in its transaction.
        log: gets a line for each revision.
        tag: Alembic's `--tag`.
        executed: told what each step has executed.
        schema: the only one in which INVALID indexes are looked for.

    Returns:
        What the version table holds according to Alembic.

    Raises:
        MigrationFailedError: a revision failed and was rolled back (60).
        PartlyCommittedError: it had committed something outside its transaction (61).
        TableLocksNotObtainedError: it lost the race for its locks again and again (62).
    """
    connection = workbench.connection
    look = partial(invalid_indexes, connection, schema)
    invalid = await look()
    arrived: tuple[str, ...] = ()
    work = Steps(steps, workbench, activity, lambda applied: record(applied, arrived), log, executed)

    def applied(ctx: MigrationContext, heads: set[str], **_: object) -> None:
        nonlocal arrived
        arrived = tuple(sorted(heads))
        work.applied()
        workbench.require_lock()
        work.record_in(ledger, ctx)

    attempt, first_loss, losing = 0, 0.0, -1
    while True:
        try:
            with work.noticing():
                await run_environment(
                    scripts.config, scripts.directory, work.feed, workbench, log=log, applied=applied, tag=tag
                )
        except asyncio.CancelledError:
            await settle(workbench)
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(0.5):
                    if leftovers := await _leftovers(work, look, invalid):
                        log.warning("leftovers_found", leftovers=leftovers)
            raise
        except Exception as error:
            if work.current is None or activity.revision is None:
                await settle(workbench)
                raise env_failed(error, scripts.directory.dir) from error
            failure = work.failure(error)
            await settle(workbench)
            leftovers = await _leftovers(work, look, invalid)
            if losing != work.done:
                attempt, first_loss, losing = 0, time.monotonic(), work.done
            attempt += 1
            left = first_loss + retry - time.monotonic()
            pause = random.uniform(0.5, 1.5) * min(0.25 * 2**attempt, 10.0)  # noqa: S311  (jitter)
            if failure.sqlstate in RETRIED and not leftovers and pause < left and not connection.is_closed():
                log.warning(
                    "revision_retried",
                    revision=revision_of(work.current),
                    sqlstate=failure.sqlstate,
                    cause=failure.cause,
                    attempt=attempt,
                    pause_seconds=pause,
                    left_seconds=left,
                    blockers=[str(each) for each in activity.blockers],
                )
                await asyncio.sleep(pause)
                continue
            raise _failed(error, failure, leftovers, work, activity) from error
        await settle(workbench)
        if work.current is not None:
            raise VerificationFailedError(
                f"env.py ended without running {len(work.pending())} of {len(work.steps)} pending revisions",
                hint="see why env.py skips context.run_migrations(), or swallows what it raises",
            )
        await _refuse_useless_indexes(work, look, invalid, log)
        return arrived


async def settle(workbench: Workbench) -> None:
    """Bring our session out of whatever transaction the user's code, or its cancellation, left it in."""
    connection = workbench.connection
    workbench.connection.lent = False
    if connection.is_closed():
        return
    try:
        async with asyncio.timeout(5):
            await connection.tidy()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.drop()


async def _leftovers(work: Steps, look: Look, invalid: frozenset[str]) -> list[str]:
    """What the failed step had committed all the same: statements, and indexes that stayed INVALID."""
    found = [summary(each, 300) for each in work.outside if each.strip().rstrip(";").lower() not in {"commit", "end"}]
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it may be gone
        new = await look() - invalid
        found += [f"INVALID index {name}: drop index concurrently {name};" for name in sorted(new)]
    return found


async def _refuse_useless_indexes(work: Steps, look: Look, invalid: frozenset[str], log: FilteringBoundLogger) -> None:
    """An INVALID index answers no query, yet `create index if not exists` takes it for done.

    Raises:
        VerificationFailedError: a statement of this run left one, or passed over one (80).
    """
    now = await look()
    if not now:
        return
    text = "\n".join(work.on_indexes)
    ours = sorted(name for name in now if name not in invalid or name.rpartition(".")[2].strip('"') in text)
    if ours:
        raise VerificationFailedError(
            f"INVALID after the upgrade, and so of no use to any query: index {', '.join(ours)}",
            hint="; ".join(f"reindex index concurrently {name};" for name in ours),
            invalid_indexes=ours,
        )
    log.warning("invalid_indexes_found", indexes=sorted(now), hint="reindex index concurrently, or drop them")


def _failed(
    error: BaseException, failure: Failure, leftovers: list[str], work: Steps, activity: Activity
) -> HeadstartError:
    """The error that names revision, statement, SQLSTATE and position, and what was committed."""
    assert work.current is not None  # noqa: S101  (a step failed)
    if isinstance(error, HeadstartError) and not isinstance(error, MigrationFailedError):
        return error
    revision = revision_of(work.current)
    context = {
        key: value for key, value in msgspec.structs.asdict(failure).items() if value is not None and key != "cause"
    }
    context["revision"] = revision
    state = f" [{failure.sqlstate}]" if failure.sqlstate else ""
    message = f"revision {revision} failed: {failure.cause}{state}"
    if failure.location:
        message += f" ({failure.location})"
    if leftovers:
        hint = "undo what the failed revision has committed already, then run again: " + "; ".join(leftovers)
        return PartlyCommittedError(message, hint=hint, leftovers=leftovers, **context)
    if failure.sqlstate in RETRIED:
        blockers = [str(each) for each in activity.blockers]
        named = "; ".join(blockers) or "sessions that have left again"
        hint = f"end or wait for the blockers, then run again, or raise HEADSTART_TABLE_LOCK_RETRY; seen: {named}"
        return TableLocksNotObtainedError(message, hint=hint, blockers=blockers, **context)
    told = error.hint if isinstance(error, MigrationFailedError) else remedies.of_failure(error, failure.sqlstate)
    return MigrationFailedError(message, hint=told, **context)
