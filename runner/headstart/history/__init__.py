"""Revision files on disk -> graph, without importing Alembic.

`locate` finds the project as Alembic's own configuration rules do, `read_graph` reads its revision files. Both answer
"only Alembic knows" (`Project.conclusive`, None) rather than guess.
"""

from __future__ import annotations

from headstart.history.files import check_sources, read_graph, revision_files
from headstart.history.project import Project, locate
from headstart.history.source import broken_source

__all__ = ["Project", "broken_source", "check_sources", "locate", "read_graph", "revision_files"]
