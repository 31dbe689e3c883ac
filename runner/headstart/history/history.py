"""A project and its graph, read together."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from headstart.history.files import read_graph
from headstart.history.graph import Graph
from headstart.history.project import Project, locate


class History(NamedTuple):
    """A project and its graph; no graph where only Alembic knows."""

    project: Project
    graph: Graph | None

    @property
    def empty(self) -> bool:
        """Whether there are no revision files. The project is not conclusive then, and its `why` names the folders."""
        return self.graph is not None and not self.graph.revisions


def read(config: str, *, cwd: str, explicit: bool = False, section: str = "alembic") -> History:
    """Find the project and read its revision files, once for a run. Arguments and errors are those of the two steps."""
    project = locate(config, cwd=cwd, explicit=explicit, section=section)
    found = History(project, read_graph(project))
    if found.empty:
        # Nothing is pending in it whatever the database holds: it may be the wrong folder, or env.py may name others.
        why = f"there are no revision files in {', '.join(project.version_locations)}"
        return found._replace(project=msgspec.structs.replace(project, conclusive=False, why=why))
    return found
