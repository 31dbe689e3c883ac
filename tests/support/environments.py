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
"""

MIGRATE = """

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

"""


SYNC = """
with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
    migrate(connection)
"""

WAYS: Mapping[str, str] = {
    "fileConfig, and the log is used": (
        "fileConfig(config.config_file_name)\nlogging.getLogger('alembic.env').info('hello')" + SYNC
    ),
    "fileConfig that disables loggers, and basicConfig": (
        "fileConfig(config.config_file_name, disable_existing_loggers=True)\n"
        "logging.basicConfig(force=True, level=0, format='garbled %(message)s')" + SYNC
    ),
    "flask-migrate": (
        """
        logger = logging.getLogger("alembic.env")
        fileConfig(config.config_file_name)
        config.set_main_option("sqlalchemy.url", URL.replace("%", "%%"))

        def process_revision_directives(context, revision, directives):
            pass

        conf_args = {"compare_type": True}
        if conf_args.get("process_revision_directives") is None:
            conf_args["process_revision_directives"] = process_revision_directives
        connectable = create_engine(config.get_main_option("sqlalchemy.url"))
        with connectable.connect() as connection:
            context.configure(connection=connection, target_metadata=None, **conf_args)
            with context.begin_transaction():
                context.run_migrations()
        """
    ),
    "a transaction around all": (
        "with engine_from_config(section, poolclass=pool.NullPool).begin() as connection:\n    migrate(connection)\n"
    ),
    "an asynchronous transaction around all": (
        """
        async def main():
            async with async_engine_from_config(section, poolclass=pool.NullPool).begin() as connection:
                await connection.run_sync(migrate)

        asyncio.run(main())
        """
    ),
    "a new loop's run_until_complete": (
        """
        async def main():
            engine = async_engine_from_config(section, poolclass=pool.NullPool)
            async with engine.connect() as connection:
                await connection.run_sync(migrate)
            await engine.dispose()

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
        """
    ),
    "the current loop's run_until_complete": (
        """
        async def main():
            async with async_engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
                await connection.run_sync(migrate)

        asyncio.get_event_loop().run_until_complete(main())
        """
    ),
    "a Runner": (
        """
        async def main():
            async with async_engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
                await connection.run_sync(migrate)

        with asyncio.Runner() as runner:
            runner.run(main())
        """
    ),
    "a queue pool": (
        "with engine_from_config(section, prefix='sqlalchemy.').connect() as connection:\n    migrate(connection)\n"
    ),
    "two engines one after the other": (
        """
        first = engine_from_config(section, poolclass=pool.NullPool)
        with first.connect() as connection:
            assert connection.scalar(text("select 1")) == 1
        first.dispose()
        """
        + SYNC.replace("\n", "\n        ")
    ),
    "two engines side by side": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as other:
            assert other.scalar(text("select count(*) from pg_class")) > 0
            with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
                migrate(connection)
            assert other.scalar(text("select 1")) == 1
        """
    ),
    "two engines of a pool each, never disposed of": (
        """
        with engine_from_config(section, prefix="sqlalchemy.").connect() as other:
            assert other.scalar(text("select 1")) == 1
        with engine_from_config(section, prefix="sqlalchemy.").connect() as connection:
            migrate(connection)
        """
    ),
    "all schemas": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            context.configure(
                connection=connection,
                include_schemas=True,
                include_name=lambda name, kind, parents: name != "other",
                compare_type=True,
                render_as_batch=True,
            )
            with context.begin_transaction():
                context.run_migrations()
        """
    ),
    "a schema made first": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            connection.execute(text("create schema if not exists app"))
            connection.commit()
            migrate(connection)
        """
    ),
    "a transaction per migration": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            context.configure(connection=connection, transaction_per_migration=True, transactional_ddl=True)
            with context.begin_transaction():
                context.run_migrations()
        """
    ),
    "no transaction of its own": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            context.configure(connection=connection)
            context.run_migrations()
            connection.commit()
        """
    ),
    "autocommit": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            migrate(connection.execution_options(isolation_level="AUTOCOMMIT"))
        """
    ),
    "settings of the session": (
        """
        with engine_from_config(section, poolclass=pool.NullPool).connect() as connection:
            connection.execute(text("set lock_timeout = '4s'"))
            connection.execute(text("set search_path to public"))
            connection.commit()
            migrate(connection)
        """
    ),
    "DATABASE_URL": ("with create_engine(URL).connect() as connection:\n    migrate(connection)\n"),
    "DATABASE_URL for asyncpg": (
        """
        async def main():
            engine = create_async_engine(URL.replace("postgresql:", "postgresql+asyncpg:"))
            async with engine.connect() as connection:
                await connection.run_sync(migrate)

        asyncio.run(main())
        """
    ),
    "DATABASE_URL in the configuration": (
        """
        config.set_main_option("sqlalchemy.url", URL)
        section = config.get_section(config.config_ini_section)
        """
        + SYNC.replace("\n", "\n        ")
    ),
}
"""How env.py reaches the database."""


def environment(folder: Path, code: str) -> Project:
    """A project with two revisions and an env.py that does what `code` says, with HEAD and MIGRATE before it."""
    project = Project(folder)
    text = HEAD + (MIGRATE if "migrate" in code else "") + textwrap.dedent(code)
    project.env.write_text(text, encoding="utf-8")
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
) -> Run:
    """Run it once more, and see that it does nothing, without the lock."""
    run = run_headstart("up", *arguments, url=url, cwd=folder, env=env)
    assert run.code == 0, run
    every_line_is_json(run)
    assert run.last["applied"] == [], run
    assert not run.events("lock_obtained"), run
    assert run.events("backup_started") == [], run
    return run


def every_line_is_json(run: Run) -> None:
    """See that nothing has garbled the log."""
    assert len(run.log) == len(run.stderr.splitlines()), run
