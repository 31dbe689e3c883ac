"""Revision files as the project wants them: their names, and the post-write hooks that format them.

Alembic's manual, 'Editing the .ini File' (file_template) and 'Applying Post Processing and Python Code Formatters to
Generated Revisions'.
"""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from alembic.script import write_hooks
from alembic.util import CommandError

from headstart.errors import ConfigurationError
from headstart.log.process import how_it_ended
from headstart.worker import failure, project
from headstart.worker.environment import Environment
from headstart.worker.messages import Logged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.worker.port import Port
    from headstart.worker.tasks import Format, Name

_MENDED = "correct the project's post_write_hooks, and format the file by hand"
_RUN_HOOKS = write_hooks._run_hooks  # noqa: SLF001  (the one place that knows both file and hooks)


def file_name(task: Name, port: Port) -> str:
    """What `alembic revision` would call the file of a revision."""
    del port
    directory = project.load(project.configure(task.project, None, task.options))
    return directory._rev_path("", task.revision, task.message, task.moment).name  # noqa: SLF001  (no public name)


def format_file(task: Format, port: Port) -> None:
    """Let the project's post-write hooks at a file. env.py is run first: it may register hooks.

    Raises:
        ConfigurationError: a hook cannot be run at all (10).
    """
    report_hooks(port)
    environment = Environment(task, port, work=False)
    try:
        environment.run(lambda *_: [], dont_mutate=True)
    except (Exception, SystemExit) as error:
        raise failure.of_environment(error, environment.directory.dir) from error
    write_hooks._run_hooks(task.path, environment.directory.hooks)  # noqa: SLF001  (no public name)


def report_hooks(port: Port) -> None:
    """From now on report the hooks that fail, which Alembic ignores.

    What a formatter prints goes to this process's own stdout and stderr, and so into the log.

    Args:
        port: gets `hook_failed`, with the file that is written all the same.
    """
    written = ""

    def run_hooks(path: str | os.PathLike[str], hooks: list[Any]) -> None:
        nonlocal written
        written = os.fspath(path)
        try:
            _RUN_HOOKS(path, hooks)
        except (CommandError, OSError) as error:
            raise ConfigurationError(
                f"{written} is written, but a post-write hook cannot be run: {error}", hint=_MENDED
            ) from error

    def run(argv: Sequence[str], **given: Any) -> None:  # noqa: ANN401  (subprocess.run's own)
        code = subprocess.run(argv, check=False, **given).returncode
        if code:
            fields = {"command": list(argv), "how": how_it_ended(code), "path": written, "hint": _MENDED}
            port.send(Logged(level="warning", event="hook_failed", fields=fields))

    # Two names of that one module. Nothing is put back: they last as long as this fork.
    write_hooks._run_hooks = run_hooks  # noqa: SLF001  (as above)
    write_hooks.subprocess = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment, attr-defined]
