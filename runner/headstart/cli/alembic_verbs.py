"""Alembic's own verbs: the worker reads their options and runs them, and what they print is data for stdout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from headstart.cli import output
from headstart.cli.arguments import CommandLine
from headstart.errors import ConfigurationError, DatabaseUnknownError, EnvironmentWritesError, UsageError
from headstart.postgres.lock import WORK
from headstart.steps.connect import access, connected, find, locked, working
from headstart.steps.context import environ_of
from headstart.steps.run import Run
from headstart.steps.standing import standing
from headstart.worker.messages import Data, Message, TaskFailedError
from headstart.worker.process import Process, WorkerLostError
from headstart.worker.supervise import Worker
from headstart.worker.tasks import Command, Parse

_RUN_ENVIRONMENT = frozenset({"revision", "merge", "history"})
"""Verbs that run env.py if the project has `revision_environment = true`."""


def read(asked: CommandLine, worker: Worker, log: FilteringBoundLogger) -> CommandLine:
    """Let Alembic read the verb's own options. `--help` prints and leaves through SystemExit.

    Args:
        asked: the command line, as far as we read it.
        worker: stays, for the verb itself.
        log: receives what goes wrong with it.

    Raises:
        UsageError: the options are not Alembic's (2).
        ConfigurationError: the worker cannot be started (10).
    """

    async def parse() -> dict[str, Any]:
        async with Process(worker, log) as process:
            found: dict[str, Any] = await process.do(Parse(verb=asked.verb.name, arguments=asked.arguments))
            return found

    try:
        found = asyncio.run(parse())
    except WorkerLostError as error:
        raise ConfigurationError(
            f"Alembic cannot be started: {error.message}", hint="see whether `python -m alembic --version` works there"
        ) from error
    if "options" not in found:
        output.write(found["stdout"])
        if found["exit"]:
            cause = found["stderr"].strip().rpartition("error: ")[2]
            raise UsageError(cause, hint=f"`headstart {asked.verb.name} --help` lists what there is")
        raise SystemExit(0)
    alembic = found["options"]
    tag = {"tag": alembic["tag"]} if alembic.get("tag") else {}
    return replace(asked, alembic=alembic, options={**asked.options, **tag})


def needs_database(asked: CommandLine) -> bool:
    """Whether a verb of Alembic's runs env.py on a database."""
    alembic = asked.alembic or {}
    if alembic.get("sql"):
        return False
    match asked.verb.name:
        case "heads" | "merge":
            return False
        case "history":
            return bool(alembic.get("indicate_current") or "current" in (alembic.get("rev_range") or ""))
        case "revision":
            return bool(alembic.get("autogenerate"))
        case "show":
            return alembic.get("rev") == "current"
    return True


async def run_alembic(
    run: Run, verb: str, arguments: Sequence[str], *, database: bool, write: Callable[[str], None] = output.write
) -> None:
    """Run one of Alembic's reading verbs, one with `--sql`, or `revision` and `merge`, which write files.

    Args:
        run: this run.
        verb: Alembic's.
        arguments: its own.
        database: whether it needs one.
        write: what it prints to stdout.

    Raises:
        VerificationFailedError: `current --check-heads` or `revision --autogenerate` found the database elsewhere (80).
        BrokenHistoryError: there are several heads and one is asked for (70).
        DatabaseAheadError: the recorded revision is newer than all of the history (71).
        DatabaseUnknownError: the recorded revision is not in it (72).
        ConfigurationError: Alembic refused, or env.py failed (10).
    """
    found = find(run)
    project = found.project
    if project.revision_environment and verb in _RUN_ENVIRONMENT and run.settings.dsn_source:
        database = True
    async with working(run) as worker, Process(worker, run.log) as process:
        environ = environ_of(run)
        task = Command(project=project, options=run.options, environ=environ, verb=verb, arguments=tuple(arguments))
        if not database:
            await _run(process, task, write)
            return
        async with connected(run) as ready:
            proof = replace(await access(run, ready, work_key=None), rolled_back=True)
            try:
                await _run(process, replace(task, access=proof), write, ready.connection)
            except EnvironmentWritesError as error:
                run.log.info("env_writes", reason=error.message)
                async with locked(run, ready):  # as `up` would run it
                    proven = replace(task, access=await access(run, ready, work_key=WORK))
                    await _run(process, proven, write, ready.connection)
            except DatabaseUnknownError:
                await standing(run, ready, found, worker=worker)  # the ledger may know more
                raise


async def _run(
    process: Process,
    task: Command,
    write: Callable[[str], None],
    connection: asyncpg.Connection[Any] | None = None,
) -> None:
    """Run a task and write its data to stdout. What it printed before it failed is data too."""
    data: list[str] = []

    def receive(message: Message) -> None:
        if isinstance(message, Data):
            data.append(message.text)

    try:
        await process.do(task, receive)
    except asyncio.CancelledError:
        await process.stop(connection)
        raise
    except TaskFailedError as error:
        found = error.meaning
        if not isinstance(found, EnvironmentWritesError):
            write("".join(data))
        raise found from error
    except WorkerLostError as error:
        raise ConfigurationError(
            f"`{task.verb}` did not end: {error.message}", hint="see what env.py and the revisions do when imported"
        ) from error
    write("".join(data))
