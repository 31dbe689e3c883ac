"""The edge: verbs -> settings -> use case -> rendering -> exit code. The only place where an error becomes an exit."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headstart.cli import arguments, output
from headstart.cli.arguments import CommandLine
from headstart.errors import ConfigurationError, HeadstartError, UsageError
from headstart.errors.exits import Exit
from headstart.log import logger as log
from headstart.settings.files import read_once, read_text
from headstart.settings.machine import settings_from
from headstart.settings.settings import redactor_from
from headstart.settings.version import __version__
from headstart.steps.attempt import conduct, too_small
from headstart.steps.outcome import Outcome, finish
from headstart.steps.run import Run

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.cli.signals import Interrupt
    from headstart.worker.supervise import Worker


def main(argv: Sequence[str], environ: Mapping[str, str], interrupt: Interrupt) -> int:
    """Do what the command line asks for.

    Args:
        argv: without the program's name.
        environ: the process's environment.
        interrupt: already listening for signals.

    Returns:
        The exit code. `up -- CMD` does not return when it succeeds.
    """
    stderr = log.stderr()
    run_id = os.urandom(4).hex()
    build = partial(log.build, stderr, run_id=run_id)
    json = log.wants_json(environ.get("HEADSTART_LOG", "auto"), stderr)
    read_file = read_once(read_text)
    redact = redactor_from(environ, read_file)
    logger = build(json=json, redact=redact)
    try:
        with output.delivered():
            asked, cwd, worker = _read(argv, environ, logger)
        needs_database = asked.needs_database
        settings = settings_from(
            environ, asked.flags, require_database=needs_database, read_file=read_file, redact=redact
        )
    except (UsageError, ConfigurationError) as error:
        return _refused(error, logger, redact)
    settings = settings if asked.target is None else replace(settings, target=asked.target)
    redact = settings.redactor(cwd)
    colors = stderr.isatty() and "NO_COLOR" not in environ
    logger = build(json=log.wants_json(settings.log, stderr), redact=redact, colors=colors)
    run = Run(
        settings,
        logger,
        run_id,
        environ=environ,
        cwd=cwd,
        redact=redact,
        interrupted=lambda: interrupt.signum,
        options=asked.options,
        worker=worker,
    )
    if settings.dsn.ignored:
        logger.warning("parameters_ignored", source=settings.dsn_source, parameters=list(settings.dsn.ignored))
    if asked.verb.changes:
        touched = settings.dsn_source and asked.touches_database  # another is not named
        database = settings.dsn.display() if touched else None
        logger.info("run_started", verb=asked.verb.name, database=database, version=__version__)
    try:
        outcome = asyncio.run(_interruptible(asked, run, interrupt))
    except OSError as error:  # the event loop itself needs descriptors
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            return _bug(error, run)
        outcome = finish(run, too_small(run, error))
    except Exception as error:  # noqa: BLE001  (here, and only here, a bug becomes exit 99 with its report)
        return _bug(error, run)
    finally:
        interrupt.finished()
    if not outcome.ok:
        _leave_message(log.clean(run.record.last_line, run.redact))
        return int(outcome.exit)
    return _take_over(asked.command, run, interrupt) if asked.command else int(outcome.exit)


def _read(
    argv: Sequence[str], environ: Mapping[str, str], logger: FilteringBoundLogger
) -> tuple[CommandLine, str, Worker | None]:
    """Read the command line; of a verb of Alembic's, Alembic reads the rest, in the worker that then runs the verb."""
    asked = arguments.read(argv)
    cwd = _working_directory()
    if not asked.verb.alembic:
        return asked, cwd, None
    from headstart.cli import alembic_verbs  # off the no-op path
    from headstart.worker.supervise import Worker

    worker = Worker(cwd=cwd, environ=environ)
    return alembic_verbs.read(asked, worker, logger), cwd, worker


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  (pathlib is not on the no-op path)
    except OSError as error:
        cause = f"the working directory cannot be used: {error.strerror}"
        raise ConfigurationError(cause, hint="start headstart in a folder that exists and may be entered") from error


async def _interruptible(asked: CommandLine, run: Run, interrupt: Interrupt) -> Outcome:
    """Run the verb in a task that a signal can cancel."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine runs in a task)

    def report_end(signum: int) -> None:
        from headstart.errors import InterruptedRunError
        from headstart.log.process import kill_remaining

        kill_remaining()
        finish(run, InterruptedRunError(signum))

    def end() -> None:
        run.log.warning("signal_received", signal=signal.Signals(interrupt.signum or 0).name, stage=run.record.stage)
        task.cancel()

    interrupt.bind(lambda: loop.call_soon_threadsafe(end), report_end)
    return await conduct(run, partial(_deliver, asked), quiet=not asked.verb.changes)


async def _deliver(asked: CommandLine, run: Run) -> None:
    """Do what the verb is for. It has failed if what it printed cannot be written."""
    await asked.verb.load().job(run, asked)
    output.flush()


def _refused(error: HeadstartError, logger: Any, redact: Callable[[str], str]) -> int:  # noqa: ANN401  (a structlog logger)
    fields: dict[str, Any] = {"outcome": error.exit.outcome, "exit_code": int(error.exit), "error": error.message}
    if isinstance(error, ConfigurationError):
        fields["problems"] = list(error.problems)
    fields["hint"] = error.hint
    logger.error("run_finished", **fields)
    _leave_message(log.clean(fields, redact))
    return int(error.exit)


def _bug(error: Exception, run: Run) -> int:
    """Exit 99: the traceback is the report. It is redacted like every log line."""
    run.log.error("bug", error=type(error).__name__, exc_info=error)
    finish(run, HeadstartError(f"{type(error).__name__}: {error}", hint="please report this with the traceback above"))
    _leave_message(log.clean(run.record.last_line, run.redact))
    return int(Exit.BUG)


def _take_over(command: Sequence[str], run: Run, interrupt: Interrupt) -> int:
    """Become CMD: no process of ours stays above it. 126 and 127 mean what they mean to a shell."""
    interrupt.restore()
    if interrupt.signum is not None:
        return 128 + interrupt.signum
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], list(command), dict(run.environ))  # noqa: S606  (no shell, on purpose)
    except (OSError, ValueError) as error:  # ValueError: CMD is an empty word
        run.log.error(  # noqa: TRY400  (a typo needs no traceback)
            "command_failed", command=command[0], error=getattr(error, "strerror", None) or str(error)
        )
        return 127 if isinstance(error, FileNotFoundError | ValueError) else 126


def _leave_message(fields: Mapping[str, object]) -> None:
    """Leave the last line where `kubectl describe pod` shows it, if there is such a place."""
    from headstart.cli.termination import leave_message  # off the no-op path

    leave_message(fields)
