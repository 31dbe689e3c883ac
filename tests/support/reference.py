"""The reference project as tests see it: where it is, what its history holds, and stock Alembic on it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from headstart.postgres import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

    from support.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
INI = ROOT / "alembic.ini"

COMPARES_CHECKS = importlib.util.find_spec("alembic.ext") is not None
"""Whether the installed Alembic has the plugin that compares CHECK constraints."""


def scripts() -> list[Script]:
    """The revisions, the oldest first."""
    return list(ScriptDirectory.from_config(Config(INI)).walk_revisions())[::-1]


def history() -> list[str]:
    """The revisions' ids, the oldest first."""
    return [one.revision for one in scripts()]


def parent_of(revision: str) -> str:
    """The revision before another one."""
    ids = history()
    return ids[ids.index(revision) - 1]


def alembic(url: str | None, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the stock command in an empty folder of nobody's, with the project's ini."""
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {} if url is None else {"DATABASE_URL": url}
    argv = [sys.executable, "-m", "alembic", "-c", str(INI), *args]
    return subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=120)


def migrated(url: str, target: str = "head") -> None:
    """Bring a database to a revision by the stock command."""
    done = alembic(url, "upgrade", target)
    assert done.returncode == 0, done.stderr


@contextmanager
def clone(server: Postgres, revision: str = "head") -> Iterator[str]:
    """Give the URL of a database at a revision, cloned from one that the stock command has built."""
    template = server.template(f"reference at {revision}", lambda url: migrated(url, revision))
    url = server.create_database(template=template)
    yield url
    server.drop_database(url)


def schema(url: str) -> catalog.Catalog:
    """Everything that the database's schemas define, with privileges and the order of columns."""

    async def look() -> catalog.Catalog:
        connection = await asyncpg.connect(url)
        try:
            return await catalog.read(connection, grants=True, order=True)
        finally:
            await connection.close()

    return asyncio.run(look())


def execute(url: str, statement: sa.Executable) -> sa.CursorResult[Any]:
    """Execute a statement as a service would: SQLAlchemy Core over asyncpg, in a transaction."""

    async def run() -> sa.CursorResult[Any]:
        engine = create_async_engine(re.sub(r"^postgresql:", "postgresql+asyncpg:", url), poolclass=NullPool)
        async with engine.begin() as connection:
            return cast("sa.CursorResult[Any]", await connection.execute(statement))

    return asyncio.run(run())
