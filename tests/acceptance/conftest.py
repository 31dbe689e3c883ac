"""headstart as its users run it: in a project's folder, with the server's own pg_dump on PATH."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import path_of
from support.postgres import script
from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Headstart, Run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty Alembic project in the folder that headstart is run in."""
    return Project(tmp_path)


@pytest.fixture
def headstart(run_headstart: Callable[..., Run], any_server: Postgres) -> Callable[..., Run]:
    """`run_headstart` with the pg_dump of `any_server` on PATH."""
    return partial(_with_path, run_headstart, any_server)


@pytest.fixture
def begin_headstart(start_headstart: Callable[..., Headstart], any_server: Postgres) -> Callable[..., Headstart]:
    """`start_headstart` with the pg_dump of `any_server` on PATH."""
    return partial(_with_path, start_headstart, any_server)


def _with_path(
    launch: Callable[..., Any], server: Postgres, *args: str, env: Mapping[str, str] | None = None, **named: Any
) -> Any:
    return launch(*args, env={"PATH": path_of(server), **(env or {})}, **named)


@pytest.fixture
def doubled(project: Project, any_database: str) -> str:
    """A database at revision a1, with two equal rows in table a, so that a unique index stays INVALID."""
    project.revision("a1", "create table a (id int)", "insert into a values (1), (1)")
    script(
        any_database,
        "create table a (id int); insert into a values (1), (1);"
        "create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);"
        "insert into alembic_version values ('a1')",
    )
    return any_database
