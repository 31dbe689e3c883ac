"""What docs/squash-and-adopt.md tells people to type, typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import path_of
from support.documents import blocks
from support.postgres import script
from support.project import Project, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import Postgres

    Type = Callable[[str, str], None]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "squash-and-adopt.md"
SQUASH, MIDDLE = blocks(DOCUMENT, "Squash: one revision in place of many")
(ADOPT,) = blocks(DOCUMENT, "Adopt: a database that has no version")
FIRST, SECOND, LAST = "20250101_090000000", "20250201_090000000", "20250301_090000000"


@pytest.fixture
def project(project: Project) -> Project:
    """Three revisions, the last of which the document names."""
    for number, ident in enumerate((FIRST, SECOND, LAST)):
        table = f"t{number}"
        project.revision(ident, f"create table {table} (id bigint primary key)", undo=[f"drop table {table}"])
    return project


@pytest.fixture
def type_in(project: Project, any_server: Postgres) -> Type:
    """Type a block into a shell, in the project, for a database."""

    def type_it(block: str, url: str) -> None:
        path = os.pathsep.join((str(Path(sys.executable).parent), path_of(any_server)))
        env = {
            "PATH": path,
            "HOME": str(project.folder),
            "LANG": "C.UTF-8",
            "DATABASE_URL": url,
            "HEADSTART_SCRATCH_URL": any_server.url(),
        }
        done = subprocess.run(
            ["sh", "-ec", block], cwd=project.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return type_it


@pytest.fixture
def another(any_server: Postgres) -> Iterator[str]:
    """Another empty database."""
    url = any_server.create_database()
    yield url
    any_server.drop_database(url)


def test_squash(type_in: Type, project: Project, any_database: str, another: str) -> None:
    """A history is squashed, and a database from the middle of it follows."""
    type_in("headstart up", any_database)
    type_in(f"headstart upgrade {SECOND}", another)
    type_in(SQUASH, any_database)
    assert [path.name for path in project.versions.glob("*.py")] == [f"{LAST}_baseline.py"]
    type_in(MIDDLE, another)
    assert recorded(any_database) == recorded(another) == [LAST]


def test_adopt(type_in: Type, any_database: str) -> None:
    """A database of unknown origin is recognised."""
    script(any_database, "create table t0 (id bigint primary key); create table t1 (id bigint primary key)")
    type_in(ADOPT, any_database)
    assert recorded(any_database) == [LAST]
