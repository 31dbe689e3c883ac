"""What the work with a worker is given: the run, the supervisor's session, the project, and a process of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headstart.steps.environ import environ_of

if TYPE_CHECKING:
    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.steps.run import Run
    from headstart.worker.process import Process
    from headstart.worker.tasks import Access


class Context(msgspec.Struct, frozen=True):
    """What every step of one run's work is given.

    Args:
        run: this run: gets what was applied, what failed, what is pending.
        ready: the supervisor's session.
        found: the project.
        process: of the worker.
        access: what its sessions are proven by.
    """

    run: Run
    ready: Ready
    found: History
    process: Process
    access: Access

    @property
    def given(self) -> dict[str, Any]:
        """What each task is given."""
        return {
            "project": self.found.project,
            "access": self.access,
            "options": self.run.options,
            "environ": environ_of(self.run),
        }
