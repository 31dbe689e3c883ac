"""SIGTERM to PID 1: no shell or init stands above the program, and it ends well within the grace period."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

ENV = """
import os
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op
revision = {0!r}
down_revision = {1!r}
def upgrade():
    op.execute({2!r})
"""
GRACE = 10
"""What `docker stop` gives by default; Kubernetes gives 30."""


def test_while_waiting(engine: Engine, runner_image: str, network: str) -> None:
    """Waiting for a server that never comes, it ends at once with 143."""
    env = {"DATABASE_URL": "postgresql://app@nowhere.invalid/app"}
    with engine.running(runner_image, "wait", options=["--network", network], env=env) as name:
        eventually(lambda: "run_started" in engine.logs(name).stderr, "its first line")
        assert engine.docker("exec", name, "cat", "/proc/1/comm").stdout in {"headstart\n", "python3\n"}
        began = time.monotonic()
        engine.docker("stop", "--time", str(GRACE), name)
        assert time.monotonic() - began < GRACE
        ended = engine.logs(name)
    assert (ended.code, ended.last["outcome"]) == (143, "terminated")


def test_in_a_statement(
    engine: Engine, runner_image: str, network: str, database: Callable[[str], Server], tmp_path: Path
) -> None:
    """In a long statement: it is cancelled in the server, rolled back, and what was committed before stays."""
    stopped = database("stopped")
    _project(tmp_path / "project")
    env = {"DATABASE_URL": stopped.url(), "HEADSTART_BACKUP": "off"}
    options = ["--network", network, "--volume", f"{tmp_path / 'project'}:/project:ro"]
    with engine.running(runner_image, options=options, env=env) as name:
        eventually(lambda: _asleep(stopped), "the statement")
        engine.docker("stop", "--time", str(GRACE), name)
        ended = engine.logs(name)
    assert (ended.code, ended.last["outcome"]) == (143, "terminated"), ended
    assert ended.last["applied"] == ["a1"]
    assert not _asleep(stopped)
    assert stopped.query("select version_num from alembic_version") == ["a1"]
    assert stopped.query("select to_regclass('second') is null") == ["t"]


def test_after_exec(engine: Engine, stock_image: str, network: str, database: Callable[[str], Server]) -> None:
    """`up -- CMD`: the command is PID 1 and gets the signals itself."""
    fresh = database("taken over")
    options = ["--network", network]
    program = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('here', flush=True); signal.pause()"
    command = ["up", "--", "python3", "-c", program]
    with engine.running(stock_image, *command, options=options, env={"DATABASE_URL": fresh.url()}) as name:
        eventually(lambda: "here" in engine.logs(name).stdout, "the command")
        assert "signal.pause" in engine.docker("exec", name, "cat", "/proc/1/cmdline").stdout
        engine.docker("kill", "--signal", "TERM", name)
        assert engine.wait(name).code == 7


def _asleep(server: Server) -> bool:
    query = "select count(*) from pg_stat_activity where state = 'active' and query ~ '^select pg_sleep'"
    return server.query(query) == ["1"]


def _project(folder: Path) -> None:
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
    (versions.parent / "env.py").write_text(ENV)
    (versions / "a1.py").write_text(REVISION.format("a1", None, "create table first (id int)"))
    (versions / "b2.py").write_text(
        REVISION.format("b2", "a1", "create table second (id int)") + "    op.execute('select pg_sleep(600)')\n"
    )
