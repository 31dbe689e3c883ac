"""The drivers that an env.py may name are in the image, on the one libpq that the clients use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

ANYBODY = ["--user", "12345:0", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]

IMPORTS = """
import json, psycopg, psycopg2
libraries = {line.split()[-1] for line in open("/proc/self/maps") if "/libpq.so" in line}
print(json.dumps([psycopg.pq.__impl__, psycopg.pq.version(), psycopg2.extensions.libpq_version(), sorted(libraries)]))
"""

ENV = """\
import os

from alembic import context
from sqlalchemy import create_engine, pool

url = os.environ["DATABASE_URL"].replace("postgresql:", "{scheme}:", 1)
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    print(connection.dialect.driver)
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


def test_imported_by_anybody(engine: Engine, runner_image: str) -> None:
    """Any user imports both on a read-only root; psycopg 3 has its C part, and both load the clients' libpq."""
    done = engine.run(runner_image, "python3", "-c", IMPORTS, options=ANYBODY)
    assert done.code == 0, done
    implementation, three, two, libraries = json.loads(done.stdout)
    assert (implementation, three) == ("c", two)
    assert len(libraries) == 1
    linked = engine.run(runner_image, "sh", "-c", "ldd /usr/lib/postgresql/17/bin/pg_dump | grep libpq").stdout.split()
    real = engine.run(runner_image, "readlink", "-f", linked[2]).stdout.strip()
    assert libraries == [real]


@pytest.mark.parametrize(
    ("scheme", "driver"),
    [("postgresql+psycopg2", "psycopg2"), ("postgresql+psycopg", "psycopg"), ("postgresql", "psycopg")],
)
def test_a_synchronous_env_py(
    scheme: str,
    driver: str,
    engine: Engine,
    runner_image: str,
    network: str,
    database: Callable[[str], Server],
    tmp_path: Path,
) -> None:
    """A project whose env.py is synchronous finds the driver that it names, and Alembic migrates with it."""
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(folder)
    project.env.write_text(ENV.format(scheme=scheme), encoding="utf-8")
    project.revision("a1", "create table made (id int)")
    held = database(scheme)
    options = [*ANYBODY, "--network", network, "--volume", f"{folder}:/project:ro"]
    command = ("python3", "-m", "alembic", "upgrade", "head")
    done = engine.run(runner_image, *command, options=options, env={"DATABASE_URL": held.url()})
    assert (done.code, done.stdout) == (0, f"{driver}\n"), done
    assert held.query("select version_num from alembic_version") == ["a1"]
