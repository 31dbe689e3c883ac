"""Alembic's environment for the reference project: the address comes from DATABASE_URL, see headstart.environment."""

from headstart import environment
from migrations.schema import metadata

environment.configure(metadata)
