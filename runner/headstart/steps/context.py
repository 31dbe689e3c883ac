"""What the work with a worker is given: the run, the supervisor's session, the project, and a process of the worker.

The variables are those by which an env.py may look for the database's address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headstart.settings.dsn import without_libpq_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headstart.history import History
    from headstart.postgres.readiness import Ready
    from headstart.settings.dsn import Dsn
    from headstart.steps.run import Run
    from headstart.worker.process import Process
    from headstart.worker.tasks import Access

_OTHER_URLS = ("DATABASE_URL_FILE", "DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")


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


def environ_of(run: Run) -> dict[str, str | None]:
    """For the run's own database: a direct address goes before a pooler's. None takes a variable away."""
    direct = run.environ.get("DATABASE_DIRECT_URL")
    return {**({"DATABASE_URL": direct} if direct else {}), **run.variables}


def scheme_of(environ: Mapping[str, str]) -> str:
    """How DATABASE_URL begins, with the driver that it names: `postgresql+asyncpg`; `postgresql` if it is no URL."""
    scheme, found, _ = environ.get("DATABASE_URL", "").partition("://")
    return scheme if found else "postgresql"


def environ_for(dsn: Dsn, environ: Mapping[str, str]) -> dict[str, str | None]:
    """What is to change in an environment, so that it speaks of another database. None takes a variable away."""
    after = dsn.libpq_env(without_libpq_variables(environ))
    after["DATABASE_URL"] = dsn.url(scheme_of(environ))
    for name in _OTHER_URLS:
        after.pop(name, None)
    return {name: after.get(name) for name in environ.keys() | after.keys() if environ.get(name) != after.get(name)}
