"""What Alembic says of the revision files, and of a new one; env.py is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headstart.errors import BrokenHistoryError
from headstart.history.graph import Revision, lineage
from headstart.log.logger import quiet
from headstart.worker.messages import TaskFailedError
from headstart.worker.process import Process, WorkerLostError
from headstart.worker.tasks import Describe, Name

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Mapping

    from headstart.history import Project
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A history.

    Args:
        heads: of it.
        lineage: all its revisions; what a revision needs comes before it.
        steps: the way to the target that was asked for, from an empty database.
    """

    heads: tuple[str, ...]
    lineage: tuple[Revision, ...]
    steps: tuple[Revision, ...]

    def below(self, revisions: Iterable[str]) -> list[Revision]:
        """Revisions and all that has to be applied before them, that first."""
        held = lineage({each.id: each.down for each in self.lineage}, revisions)
        return [each for each in self.lineage if each.id in held]


async def describe(
    run: Run,
    worker: Worker,
    project: Project,
    target: str | None = None,
    *,
    environ: Mapping[str, str | None] | None = None,
) -> Description:
    """Have Alembic read the revision files; env.py is not run.

    Args:
        run: this run.
        worker: that reads them.
        project: where they are.
        target: in Alembic's words; also say which revisions lead to it.
        environ: variables for code in these files.

    Raises:
        BrokenHistoryError: a file cannot be loaded, or the files do not form a history (70).
        ConfigurationError: the configuration is not one of Alembic's, or there is no way to the target (10).
    """
    task = Describe(project=project, options=run.options, environ=dict(environ or {}), target=target)
    return msgspec.convert(await _asked(run, worker, task), Description)


async def file_name(
    run: Run, worker: Worker, project: Project, *, revision: str, message: str, moment: datetime.datetime
) -> str:
    """What `alembic revision` would call the file of a revision.

    Args:
        run: this run.
        worker: that is asked.
        project: whose `file_template` says it.
        revision: its id.
        message: its message.
        moment: when it is written.
    """
    task = Name(project=project, options=run.options, revision=revision, message=message, moment=moment)
    return str(await _asked(run, worker, task))


async def _asked(run: Run, worker: Worker, task: Describe | Name) -> Any:  # noqa: ANN401  (plain data)
    async with Process(worker, quiet(run.log)) as process:
        try:
            return await process.do(task)
        except TaskFailedError as error:
            raise error.meaning from error
        except WorkerLostError as error:  # a revision file ends the process
            raise BrokenHistoryError(
                f"the revision files cannot be loaded: {error.message}", hint="see what they do when they are imported"
            ) from error
