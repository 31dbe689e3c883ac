"""Revision files on disk -> graph, without importing Alembic.

`project` finds the project by the rules of Alembic's own configuration, `files` reads its revision files, `graph` joins
them, and `plan` compares them with what a database records. They answer "only Alembic knows" (`Project.conclusive`,
None) rather than guess.

Begin with `history`, which does the first three.
"""

from headstart.history.files import check_sources, read_graph
from headstart.history.history import History, read
from headstart.history.project import Project, locate

__all__ = ["History", "Project", "check_sources", "locate", "read", "read_graph"]
