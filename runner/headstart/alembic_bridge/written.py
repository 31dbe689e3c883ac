"""A revision file that is written without `alembic revision`: named and formatted as the project wants its files.

Alembic's manual, 'Editing the .ini File' (file_template) and 'Applying Post Processing and Python Code Formatters'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.script import write_hooks
from sqlalchemy.util import greenlet_spawn

from headstart.alembic_bridge.writing import hooks_heard
from headstart.log import bridge

if TYPE_CHECKING:
    import datetime
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.alembic_bridge.scripts import Scripts


def file_name(scripts: Scripts, revision: str, message: str, moment: datetime.datetime) -> str:
    """What `alembic revision` would call the file of a revision."""
    return scripts.directory._rev_path("", revision, message, moment).name  # noqa: SLF001  (no public name for it)


async def run_hooks(scripts: Scripts, path: Path, *, log: FilteringBoundLogger) -> None:
    """Let the project's post-write hooks at a file.

    Args:
        scripts: the project, whose env.py has run: it may register hooks.
        path: the file.
        log: gets what they print.

    Raises:
        ConfigurationError: a hook is not set up rightly, or its program is not there (10).
    """

    def run() -> None:
        write_hooks._run_hooks(path, scripts.directory.hooks)  # noqa: SLF001  (likewise)

    with bridge(log), hooks_heard(log):
        await greenlet_spawn(run)
