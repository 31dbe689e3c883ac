"""New revision files: what they are called, and what the project's post-write hooks make of them.

Alembic's manual, 'Editing the .ini File' (file_template) and 'Applying Post Processing and Python Code Formatters'.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from alembic.script import write_hooks
from alembic.util import CommandError

from headstart.errors import ConfigurationError
from headstart.worker import project
from headstart.worker.messages import Logged

if TYPE_CHECKING:
    from headstart.worker.messages import Format, Name
    from headstart.worker.tasks import Port

_MENDED = "correct the project's post_write_hooks, and format the file by hand"


def name_file(task: Name, port: Port) -> str:
    """What `alembic revision` would call the file of a revision."""
    del port
    directory = project.load(project.configure(task.project, None, task.options))
    moment = datetime.datetime.fromisoformat(task.moment)
    return directory._rev_path("", task.revision, task.message, moment).name  # noqa: SLF001  (no public name for it)


def format_file(task: Format, port: Port) -> None:
    """Let the project's post-write hooks at a file. env.py is run before where there is a database: it may register some.

    Raises:
        ConfigurationError: a hook is not set up rightly, or its program is not there (10).
    """
    from headstart.worker.migration import Environment

    config = project.configure(task.project, None, task.options)
    directory = project.load(config)
    if task.access is not None:
        Environment(task, port, work=False).run(lambda *_: [], dont_mutate=True)
    with hooks_heard(port):
        write_hooks._run_hooks(task.path, directory.hooks)  # noqa: SLF001  (likewise)


@contextlib.contextmanager
def hooks_heard(port: Port) -> Iterator[None]:
    """While this lasts, what a formatter prints goes into the log, and its failure is said: Alembic ignores it.

    Args:
        port: gets `script_output`, and `hook_failed` with the file that is written all the same.

    Raises:
        ConfigurationError: a hook cannot be run at all; the file is written (10).
    """
    run_all = write_hooks._run_hooks  # noqa: SLF001  (the one place that knows both file and hooks)
    written = ""

    def run_hooks(path: str | os.PathLike[str], hooks: list[Any]) -> None:
        nonlocal written
        written = os.fspath(path)
        try:
            run_all(path, hooks)
        except (CommandError, OSError) as error:
            raise ConfigurationError(
                f"{written} is written, but a post-write hook cannot be run: {error}", hint=_MENDED
            ) from error

    def run(argv: Sequence[str], *, cwd: str | None = None, **_: object) -> None:
        done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        for line in filter(str.strip, lines):
            port.send(Logged(level="info", event="script_output", fields={"source": "hook", "message": line}))
        if done.returncode:
            how = f"exit status {done.returncode}" if done.returncode > 0 else f"ended by signal {-done.returncode}"
            fields = {"command": list(argv), "how": how, "path": written, "hint": _MENDED}
            port.send(Logged(level="warning", event="hook_failed", fields=fields))

    # Names of that module alone: nothing else in the process sees another `subprocess`.
    replaced = {"_run_hooks": run_hooks, "subprocess": SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL)}
    before = {name: getattr(write_hooks, name) for name in replaced}
    for name, stand_in in replaced.items():
        setattr(write_hooks, name, stand_in)
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(write_hooks, name, original)
