"""What the post-write hooks of new revision files say, and what they do not.

Alembic's manual, 'Applying Post Processing and Python Code Formatters to Generated Revisions'.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from alembic.script import write_hooks
from alembic.util import CommandError
from sqlalchemy.util import await_only

from headstart import process
from headstart.errors import ConfigurationError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_MENDED = "correct the project's post_write_hooks, and format the file by hand"


@contextlib.contextmanager
def hooks_heard(log: FilteringBoundLogger) -> Iterator[None]:
    """While this lasts, what a formatter prints goes into the log, and its failure is said: Alembic ignores it.

    Args:
        log: gets `script_output`, and `hook_failed` with the file that is written all the same.

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
        done = await_only(process.run(argv, env=os.environ, redact=str, cwd=Path(cwd) if cwd else None, capture=True))
        lines = [*done.stdout.decode("utf-8", "replace").splitlines(), *done.stderr.splitlines()]
        for line in filter(str.strip, lines):
            log.info("script_output", source="hook", message=line)
        if not done.ok:
            log.warning("hook_failed", command=list(argv), how=done.how, path=written, hint=_MENDED)

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
