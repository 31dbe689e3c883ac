"""`headstart current`, `heads`, `show`, `revision` and `merge`: Alembic's own."""

from headstart.cli.alembic_verbs import job, needs_database

__all__ = ["job", "needs_database"]
