"""The project's revisions on a scratch database: up, down, one by one, wherever env.py thinks that it connects to."""

from __future__ import annotations

import io
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from headstart import catalog
from headstart import log as logs
from headstart.errors import ConfigurationError, MigrationFailedError
from headstart.program import settings_from
from headstart.replay import Replay, replay
from headstart.run import Run
from headstart.scratch import scratch_server
from support.postgres import psql
from support.project import Project, fingerprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from support.postgres import Postgres

    Start = Callable[[], AbstractAsyncContextManager[Replay]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture
def heard() -> io.StringIO:
    """What is logged."""
    return io.StringIO()


@pytest.fixture
def start(project: Project, any_server: Postgres, heard: io.StringIO) -> Start:
    """Replay the project on a new scratch database."""
    settings = settings_from({"HEADSTART_SCRATCH_URL": any_server.url()}, require_database=False)
    log = logs.build(heard, json=True, run_id="test", redact=str)
    run = Run(settings, log, "test", environ=os.environ, cwd=str(project.folder), redact=str)

    @asynccontextmanager
    async def started() -> AsyncIterator[Replay]:
        async with scratch_server(settings, log=log) as server, server.database() as dsn, replay(run, dsn) as made:
            yield made
        assert run.applied == []

    return started


async def tables(made: Replay) -> list[str]:
    """The tables of the scratch database."""
    found = await catalog.read(made.connection)
    return [each.removeprefix("table public.") for each in found if each.startswith("table ")]


async def test_up_and_down(project: Project, start: Start) -> None:
    """Targets are Alembic's, relative ones too; what is recorded is known at each step, and nothing is logged."""
    project.revision("a1", "create table a (id int)", undo=["drop table a"])
    project.revision("b2", "create table b (id int)", undo=["drop table b"])
    async with start() as made:
        assert made.revisions == ("a1", "b2")
        assert made.files["b2"] == str(project.versions / "b2.py")
        assert (await made.up("+1"), made.recorded, await tables(made)) == (("a1",), ("a1",), ["a"])
        assert (await made.up(), made.recorded, await tables(made)) == (("b2",), ("b2",), ["a", "b"])
        assert await made.up() == ()
        assert (await made.down("-1"), made.recorded) == (("b2",), ("a1",))
        assert (await made.down("base"), made.recorded, await tables(made)) == (("a1",), (), [])
        with pytest.raises(ConfigurationError, match="nowhere"):
            await made.up("nowhere")


async def test_the_log_is_quiet(project: Project, start: Start, heard: io.StringIO) -> None:
    """Neither a revision nor what it prints is logged; a warning is."""
    project.revision("a1", body="print('hello'); op.execute('select 1')")
    project.revision("b2", body="import logging; logging.getLogger('mine').warning('careful')")
    async with start() as made:
        await made.up()
    assert [line["message"] for line in map(json.loads, heard.getvalue().splitlines())] == ["careful"]


async def test_one_by_one_in_branches(project: Project, start: Start) -> None:
    """Each revision of a branched and merged history is applied, reverted and applied again by itself."""
    for name, down in (("a", None), ("b", "a"), ("c", "a"), ("d", ("b", "c"))):
        project.revision(name, f"create table {name} (id int)", undo=[f"drop table {name}"], down=down)
    async with start() as made:
        for revision in made.revisions:
            before = (made.recorded, await tables(made))
            await made.apply(revision)
            await made.revert(revision)
            assert (made.recorded, await tables(made)) == before
            await made.apply(revision)
        assert (made.recorded, await tables(made)) == (("d",), ["a", "b", "c", "d"])


async def test_statements(project: Project, start: Start) -> None:
    """Every statement of a revision is known: text, file and line, in a transaction or not; Alembic's own are not."""
    path = project.revision(
        "a1",
        body="""
op.create_table("t", sa.Column("id", sa.Integer))
op.execute("insert into t values (1); select 1; update t set id = 2")
with op.get_context().autocommit_block():
    op.execute("create index concurrently i on t (id)")
op.bulk_insert(sa.table("t", sa.column("id")), [{"id": 3}, {"id": 4}])
""",
        undo=["drop table t"],
    )
    async with start() as made:
        await made.up()
        await made.down("base")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [
        (each.text.split()[0].lower(), lines[each.line - 1].split("(")[0].strip(), each.in_transaction, each.direction)
        for each in made.statements
        if each.line is not None and each.path == str(path) and each.revision == "a1"
    ]
    assert len(found) == len(made.statements)
    assert found == [
        ("create", "op.create_table", True, "upgrade"),
        ("insert", "op.execute", True, "upgrade"),
        ("select", "op.execute", True, "upgrade"),
        ("update", "op.execute", True, "upgrade"),
        ("create", "op.execute", False, "upgrade"),
        ("insert", "op.bulk_insert", True, "upgrade"),
        ("drop", "op.execute", True, "downgrade"),
    ]


async def test_a_failure(project: Project, start: Start) -> None:
    """A revision that fails is rolled back and named; what it follows stays, and the replay goes on from there."""
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)", "selec 1")
    async with start() as made:
        with pytest.raises(MigrationFailedError) as failed:
            await made.up()
        assert (failed.value.context["revision"], failed.value.context["sqlstate"]) == ("b2", "42601")
        assert (made.recorded, await tables(made)) == (("a1",), ["a"])
        assert await made.up("a1") == ()


@pytest.mark.parametrize(
    "url",
    [
        "os.environ['DATABASE_URL']",
        "os.environ['DATABASE_URL'].replace('postgresql://', 'postgresql+psycopg2://')",
        "'postgresql+asyncpg://somebody:else@real.example/real'",
        "'postgresql+psycopg2://somebody:else@real.example/real'",
        "REAL",
        "REAL.replace('postgresql://', 'postgresql+psycopg2://')",
    ],
)
@pytest.mark.parametrize("variables", [{}, {"DATABASE_URL": "postgres://somebody:else@real.example/real"}])
async def test_a_url_of_its_own(
    project: Project,
    start: Start,
    any_database: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    variables: dict[str, str],
) -> None:
    """Whatever URL env.py takes from wherever, and by whatever driver, it works on the scratch database."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before, variables_before = fingerprint(any_database), dict(os.environ)
    project.in_env(
        f"""
        import os
        REAL = {any_database!r}
        config.set_main_option('sqlalchemy.url', {url}.replace('postgres://', 'postgresql://').replace('%', '%%'))
        """
    )
    project.revision("a1", "create table a (id int)")
    async with start() as made:
        await made.up()
        assert await tables(made) == ["a"]
    assert fingerprint(any_database) == before
    assert dict(os.environ) == variables_before


async def test_a_revision_that_connects_by_itself(
    project: Project,
    start: Start,
    any_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A revision that opens a connection from DATABASE_URL reaches the scratch database, in the usual spelling."""
    monkeypatch.setenv("DATABASE_URL", any_database)
    project.revision(
        "a1",
        body="""
import os, psycopg2
with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("create table apart (id int)")
with psycopg2.connect("") as connection, connection.cursor() as cursor:
    cursor.execute("create table by_variables (id int)")
""",
    )
    async with start() as made:
        await made.up()
        assert await tables(made) == ["apart", "by_variables"]
    assert psql(any_database, "select count(*) from pg_class where relname in ('apart', 'by_variables')") == [(0,)]


async def test_an_engine_that_cannot_be_led(project: Project, start: Start, any_database: str) -> None:
    """An engine with a creator of its own is refused before any revision runs on its database."""
    project.env.write_text(
        f"""
import psycopg2, sqlalchemy
from alembic import context
engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect({any_database!r}))
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
        encoding="utf-8",
    )
    project.revision("a1", "create table a (id int)")
    before = fingerprint(any_database)
    with pytest.raises(ConfigurationError, match="a database of its own"):
        async with start():
            pass
    assert fingerprint(any_database) == before


async def test_two_dozen_revisions_three_times(project: Project, start: Start) -> None:
    """Revisions go up, down and up again one by one, as often as one likes, and the catalog follows."""
    for number in range(24):
        project.revision(f"r{number:02}", f"create table t{number} (id int)", undo=[f"drop table t{number}"])
    async with start() as made:
        for number, revision in enumerate(made.revisions):
            for step, there in ((made.apply, True), (made.revert, False), (made.apply, True)):
                await step(revision)
                assert (f"table public.t{number}" in await catalog.read(made.connection)) == there
