"""Alembic's own commands, read and run as the `alembic` command reads and runs them. Alembic manual, 'Commands'."""

from __future__ import annotations

import contextlib
import datetime
import io
import sys
from typing import TYPE_CHECKING, Any

from alembic import command as commands
from alembic import util
from alembic.config import CommandLine
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import MultipleHeads, ResolutionError, RevisionError
from alembic.util import CommandError

from headstart.errors import (
    BrokenHistoryError,
    ConfigurationError,
    DatabaseUnknownError,
    HeadstartError,
    VerificationFailedError,
)
from headstart.worker import failure, project, sessions
from headstart.worker.autogenerate import explained
from headstart.worker.environment import configured, exiting, past_ledger
from headstart.worker.messages import Data
from headstart.worker.place import Guard
from headstart.worker.writing import report_hooks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from alembic.config import Config

    from headstart.worker.port import Port
    from headstart.worker.tasks import Command, Parse

_NOT_AT_HEAD: tuple[type[Exception], ...] = tuple(
    kind for name, kind in vars(util).items() if name == "DatabaseNotAtHead"
)
"""What `current --check-heads` raises; older versions of Alembic have neither."""


def parse(task: Parse, port: Port) -> dict[str, Any]:
    """Read a verb's arguments.

    Returns:
        `options`; or, where a usage error or `--help` has ended it, `exit` and what was written: `stdout`, `stderr`.
    """
    del port
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            options = _options(task.verb, task.arguments)
    except SystemExit as leaving:
        return {"exit": leaving.code or 0, "stdout": out.getvalue(), "stderr": err.getvalue()}
    return {"options": {name: value for name, value in vars(options).items() if name != "cmd"}}


def _options(verb: str, arguments: Sequence[str]) -> argparse.Namespace:
    return CommandLine(prog="headstart").parser.parse_args([verb, *arguments])


def command(task: Command, port: Port) -> None:
    """Run one of the commands. What it prints is sent as data.

    The data of `revision` and `merge` is the path of each file that they write, a line each.

    Raises:
        VerificationFailedError: `current --check-heads` or `revision --autogenerate` found the database elsewhere (80).
        BrokenHistoryError: there are several heads and one is asked for, or the files are no history (70).
        DatabaseUnknownError: `current` of a revision that is not in the history (72).
        ConfigurationError: Alembic refused (an unknown revision, say), or env.py failed (10).
    """
    sessions.begin(task.access, port, work=False)
    data: Any = _Data(port)  # TextIO is no class that one could inherit
    config = project.configure(task.project, task.dsn, task.options, stdout=data)
    config.output_buffer = data  # of `--sql`
    options = _options(task.verb, task.arguments)
    options.x, options.name = task.options.get("x"), task.project.section
    config.cmd_opts = options
    function, positional, keywords = options.cmd
    writes = function in {commands.revision, commands.merge}
    if writes:
        options.quiet = True  # not "Generating ... done"
        options.rev_id = options.rev_id or new_id(datetime.datetime.now(datetime.UTC))
        report_hooks(port)
    # A function stands in for the class, and in this module alone: Alembic's proxy does not know subclasses of it.
    guard = Guard(writing=False)
    commands.EnvironmentContext = _environments(port, data, guard, compares=getattr(options, "autogenerate", False))  # type: ignore[assignment, attr-defined]
    try:
        with guard:
            made = function(
                config,
                *[getattr(options, name, None) for name in positional],
                **{name: getattr(options, name, None) for name in keywords},
            )
    except (Exception, SystemExit) as error:
        if function is commands.current and isinstance(error.__cause__, ResolutionError):  # it was asked for none
            unknown = f"the database is at {error.__cause__.argument}, which is not in this history"
            raise DatabaseUnknownError(
                unknown, hint="start the image that knows it; `headstart history --ledger` lists who applied what"
            ) from error
        raise _meaning(error, config) from error
    if writes:
        data.writelines(f"{each.path}\n" for each in _scripts(made))


class _Data(io.TextIOBase):
    """A stream whose text is sent as data.

    Args:
        port: the supervisor.
    """

    encoding = "utf-8"  # Alembic asks for it

    def __init__(self, port: Port) -> None:
        self._port = port

    def write(self, text: str) -> int:
        """Send a text."""
        self._port.send(Data(text=text))
        return len(text)


def _environments(port: Port, data: _Data, guard: Guard, *, compares: bool) -> Callable[..., EnvironmentContext]:
    """What makes the EnvironmentContext of a command, with what has to hold for each env.py.

    Args:
        port: the supervisor.
        data: where SQL goes.
        guard: of the version table.
        compares: whether the models are compared with the database.
    """

    def make(config: Config, script: ScriptDirectory, **options: Any) -> EnvironmentContext:  # noqa: ANN401
        if not options.get("as_sql"):
            options["dont_mutate"] = True  # none of these commands is to make the version table
        environment = EnvironmentContext(config, script, **options)

        def change(given: dict[str, Any]) -> dict[str, Any]:
            if given.get("output_buffer") is sys.stdout:
                given["output_buffer"] = data
            return past_ledger(explained(environment, given, port) if compares else given)

        configured(environment, guard, change)
        run_env, run_migrations = script.run_env, environment.run_migrations
        ended = False

        def run(**given: Any) -> None:  # noqa: ANN401  (run_migrations' own)
            nonlocal ended
            run_migrations(**given)
            ended = True

        def to_its_end() -> None:
            with exiting(lambda: ended):
                run_env()

        environment.run_migrations = run  # type: ignore[method-assign]  # attributes of the instances: as in `configured`
        script.run_env = to_its_end  # type: ignore[method-assign]
        return environment

    return make


def _scripts(made: Script | Sequence[Script | None] | None) -> list[Script]:
    """What `revision` and `merge` return, which is one, none or several."""
    several = [made] if made is None or isinstance(made, Script) else made
    return [each for each in several if each is not None]


def _meaning(error: BaseException, config: Config) -> HeadstartError:
    """What Alembic, env.py or a revision's file has raised, in our words."""
    if isinstance(error, HeadstartError):
        return error
    if isinstance(error, _NOT_AT_HEAD):
        return VerificationFailedError(str(error), hint="`headstart up` brings it there")
    if isinstance(error, CommandError | RevisionError):
        several = project.several_heads(project.load(config)) if isinstance(error.__cause__, MultipleHeads) else None
        hint = "`headstart history` and `headstart heads` show what there is"
        return several or ConfigurationError(str(error), hint=hint)
    directory = project.load(config)
    try:
        project.read(directory)
    except BrokenHistoryError as broken:  # a revision file has raised it, and not env.py
        return broken
    if isinstance(error, AssertionError) and failure.place(error, directory.dir) == directory.dir:  # Alembic's own
        return ConfigurationError("Alembic does not take these arguments", hint="see `headstart VERB --help`")
    return failure.of_environment(error, directory.dir)


def new_id(moment: datetime.datetime) -> str:
    """The id of a revision that is written at a moment: ids, and so files, sort by time."""
    return moment.strftime("%Y%m%d_%H%M%S%f")[:-3]
