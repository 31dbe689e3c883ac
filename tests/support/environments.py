"""An env.py of a test's own, and what is expected of every one of them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from support.project import Project, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from conftest import RunHeadstart
    from support.process import Run

HEAD = """\
import asyncio
import logging
import os
from logging.config import fileConfig

import sqlalchemy as sa
from alembic import context
from sqlalchemy import create_engine, engine_from_config, pool, text
from sqlalchemy.ext.asyncio import async_engine_from_config, create_async_engine

config = context.config
URL = os.environ.get("DATABASE_URL", "")
section = config.get_section(config.config_ini_section, {})
ENGINE = {"prefix": "sqlalchemy.", "poolclass": pool.NullPool}


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

"""


def environment(folder: Path, code: str) -> Project:
    """A project with two revisions and an env.py that does what `code` says, with the names of HEAD at hand."""
    project = Project(folder)
    project.env.write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    project.revision("a1", "create table account (id int primary key)")
    project.revision("b2", "alter table account add name text", "insert into account values (1, 'a')")
    return project


def at_head(
    run_headstart: RunHeadstart,
    url: str,
    folder: Path,
    head: Sequence[str],
    *arguments: str,
    env: Mapping[str, str] | None = None,
    table: str = "alembic_version",
) -> Run:
    """Run `headstart up`, and see that it brings the database to head, logs nothing but JSON, and prints nothing."""
    run = run_headstart("up", *arguments, url=url, cwd=folder, env={"HEADSTART_BACKUP": "off", **(env or {})})
    assert run.code == 0, run
    every_line_is_json(run)
    assert run.stdout == "", run
    assert run.last["event"] == "run_finished", run
    assert recorded(url, table) == list(head), run
    after = run.last["revision_after"]
    assert (after if isinstance(after, list) else [after]) == list(head), run
    return run


def nothing_to_do(
    run_headstart: RunHeadstart,
    url: str,
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    locks: bool = False,
) -> Run:
    """Run it once more, and see that it does nothing.

    Args:
        run_headstart: the fixture.
        url: of a database at head.
        folder: of the project.
        arguments: after `up`.
        env: further variables.
        locks: this env.py can only be asked under the lock.
    """
    run = run_headstart("up", *arguments, url=url, cwd=folder, env=env)
    assert run.code == 0, run
    every_line_is_json(run)
    assert run.last["applied"] == [], run
    assert bool(run.events("lock_obtained")) is locks, run
    assert run.events("backup_started") == [], run
    return run


def every_line_is_json(run: Run) -> None:
    """See that nothing has garbled the log."""
    assert len(run.log) == len(run.stderr.splitlines()), run
