"""The project's revisions on a scratch database: up, down, one by one, wherever env.py thinks that it connects to."""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart.errors import ConfigurationError, MigrationFailedError, VerificationFailedError
from headstart.log import logger as logs
from headstart.log.secret import Redactor
from headstart.postgres import catalog
from headstart.postgres.scratch import scratch_server
from headstart.settings.machine import settings_from
from headstart.steps.replay import Replay, replay
from headstart.steps.run import Run
from headstart.worker.supervise import Worker
from support.postgres import psql
from support.project import Project, fingerprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from support.postgres import Postgres

    Replaying = Callable[[Project], AbstractAsyncContextManager[Replay]]
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
def replaying(any_server: Postgres, heard: io.StringIO) -> Replaying:
    """Replay a project on a new scratch database."""
    settings = settings_from({"HEADSTART_SCRATCH_URL": any_server.url()}, require_database=False)
    log = logs.build(heard, json=True, run_id="test", redact=str)

    @asynccontextmanager
    async def started(project: Project) -> AsyncIterator[Replay]:
        run = Run(settings, log, "test", environ=dict(os.environ), cwd=str(project.folder), redact=Redactor(()))
        async with (
            Worker(cwd=run.cwd, environ=run.environ) as worker,
            scratch_server(settings, log=log) as server,
            server.database() as dsn,
            replay(run, dsn, worker) as made,
        ):
            yield made
        assert run.record.applied == []

    return started


@pytest.fixture
def start(project: Project, replaying: Replaying) -> Start:
    """Replay the project on a new scratch database."""
    return lambda: replaying(project)


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
        await made.up("+1")
        assert (made.recorded, await tables(made)) == (("a1",), ["a"])
        for _ in range(2):
            await made.up()
            assert (made.recorded, await tables(made)) == (("b2",), ["a", "b"])
        await made.revert("b2")
        await made.revert("a1")
        assert not await tables(made)
        with pytest.raises(ConfigurationError, match="nowhere"):
            await made.up("nowhere")


async def test_the_log_is_quiet(project: Project, start: Start, heard: io.StringIO) -> None:
    """Neither a revision nor what it prints or logs is logged."""
    project.revision("a1", body="print('hello'); op.execute('select 1')")
    project.revision("b2", body="import logging; logging.getLogger('mine').warning('careful')")
    async with start() as made:
        await made.up()
    assert heard.getvalue() == ""


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
        await made.revert("a1")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [
        (each.text.split()[0].lower(), lines[each.line - 1].split("(")[0].strip(), each.in_transaction, each.up)
        for each in made.statements
        if each.line is not None and each.path == str(path) and each.revision == "a1"
    ]
    assert len(found) == len(made.statements)
    assert found == [
        ("create", "op.create_table", True, True),
        ("insert", "op.execute", True, True),
        ("select", "op.execute", True, True),
        ("update", "op.execute", True, True),
        ("create", "op.execute", False, True),
        ("insert", "op.bulk_insert", True, True),
        ("drop", "op.execute", True, False),
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
        await made.up("a1")


@pytest.mark.parametrize(
    "url", ["os.environ['DATABASE_URL']", "'postgresql://somebody:else@real.example/real'", "REAL"]
)
@pytest.mark.parametrize(("template", "driver"), [("generic", "psycopg2"), ("async", "asyncpg")])
@pytest.mark.parametrize("variables", [{}, {"DATABASE_URL": "postgres://somebody:else@real.example/real"}])
async def test_a_url_of_its_own(
    tmp_path: Path,
    replaying: Replaying,
    any_database: str,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    driver: str,
    url: str,
    variables: dict[str, str],
) -> None:
    """Whatever URL env.py takes from wherever, and by whatever driver, it works on the scratch database."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before, variables_before = fingerprint(any_database), dict(os.environ)
    project = Project(tmp_path / "own", template=template)
    project.in_env(
        f"""
        import os
        REAL = {any_database!r}
        url = {url}.partition("://")[2]
        config.set_main_option("sqlalchemy.url", f"postgresql+{driver}://{{url}}".replace("%", "%%"))
        """
    )
    project.revision("a1", "create table a (id int)")
    async with replaying(project) as made:
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


def in_one_transaction(project: Project) -> None:
    """Let env.py hold one transaction around all revisions."""
    text = project.env.read_text(encoding="utf-8")
    assert "with connectable.connect() as connection:" in text
    project.env.write_text(
        text.replace("with connectable.connect() as connection:", "with connectable.begin() as connection:"),
        encoding="utf-8",
    )


async def test_one_transaction_for_all(project: Project, start: Start) -> None:
    """An env.py that holds one transaction commits what it is run for, and each step can be looked at all the same."""
    in_one_transaction(project)
    for name in ("a", "b", "c"):
        project.revision(name, f"create table {name} (id int)", undo=[f"drop table {name}"])
    async with start() as made:
        await made.apply("a")
        assert (made.recorded, await tables(made)) == (("a",), ["a"])
        await made.revert("a")
        assert (made.recorded, await tables(made)) == ((), [])
        await made.up()
        assert (made.recorded, await tables(made)) == (("c",), ["a", "b", "c"])
        await made.stamp(["b"])
        assert made.recorded == ("b",)
        await made.revert("b")
        assert (made.recorded, await tables(made)) == (("a",), ["a", "c"])
        dropped = [each.text for each in made.statements if not each.up]
        assert dropped == ["drop table a", "drop table b"]


async def test_one_transaction_that_fails(project: Project, start: Start) -> None:
    """All of what env.py was run for is rolled back, and the next step begins where the database is."""
    in_one_transaction(project)
    project.revision("a1", "create table a (id int)")
    project.revision("b2", "create table b (id int)", "selec 1")
    async with start() as made:
        with pytest.raises(MigrationFailedError) as failed:
            await made.up()
        assert (failed.value.context["revision"], made.recorded, await tables(made)) == ("b2", (), [])
        await made.up("a1")
        assert (made.recorded, await tables(made)) == (("a1",), ["a"])


async def test_a_transaction_that_is_never_committed(project: Project, start: Start) -> None:
    """An env.py that throws away what it was run for is found out."""
    in_one_transaction(project)
    text = project.env.read_text(encoding="utf-8")
    call = "        await connection.run_sync(do_run_migrations)\n"
    assert call in text
    project.env.write_text(text.replace(call, f"{call}        await connection.rollback()\n"), encoding="utf-8")
    project.revision("a1", "create table a (id int)")
    async with start() as made:
        with pytest.raises(VerificationFailedError, match="at base instead of a1"):
            await made.up()


async def test_env_py_is_run_once(project: Project, start: Start, tmp_path: Path) -> None:
    """One run of env.py takes all revisions, however they go; only after a failure there is another."""
    runs = tmp_path / "runs"
    project.in_env(f"open({str(runs)!r}, 'a').write('.')")
    project.revision("a1", "create table a (id int)", undo=["drop table a"])
    project.revision("b2", "create table b (id int)", undo=["drop table nowhere"])
    async with start() as made:
        await made.up()
        await made.stamp(["a1"])
        await made.stamp(["b2"])
        assert runs.read_text(encoding="utf-8") == "."
        with pytest.raises(MigrationFailedError):
            await made.revert("b2")
        await made.stamp(["a1"])
        await made.revert("a1")
        assert runs.read_text(encoding="utf-8") == ".."
        assert (made.recorded, await tables(made)) == ((), ["b"])


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(3)", "revision a1 failed: the process that ran env.py ended by itself"),
        ("raise NotImplementedError", "revision a1 failed: NotImplementedError"),
    ],
)
async def test_a_revision_that_ends_otherwise(project: Project, start: Start, code: str, told: str) -> None:
    """A revision that ends the process, or raises what it likes, has failed like any other."""
    project.revision("a1", body=code)
    async with start() as made:
        with pytest.raises(MigrationFailedError, match=told) as failed:
            await made.up()
        assert failed.value.context["revision"] == "a1"
        assert made.recorded == ()


async def test_env_py_that_fails_at_its_end(project: Project, start: Start) -> None:
    """What env.py does after the migrations counts: it fails as it would for `alembic upgrade`."""
    with project.env.open("a", encoding="utf-8") as file:
        file.write("\nraise ValueError('after all')\n")
    project.revision("a1", "create table a (id int)")
    with pytest.raises(ConfigurationError, match="after all"):
        async with start() as made:
            await made.up()


async def test_two_at_once(replaying: Replaying, tmp_path: Path) -> None:
    """Two replays in one program do not disturb each other, nor the program's own variables and folder."""
    before, here = dict(os.environ), Path.cwd()
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for project in projects:
        project.in_env("import os; assert os.getcwd() == os.path.dirname(os.path.abspath(config.config_file_name))")
        project.revision("a1", f"create table {project.folder.name} (id int)")

    async def made_by(project: Project) -> list[str]:
        async with replaying(project) as made:
            await made.up()
            return await tables(made)

    assert await asyncio.gather(*map(made_by, projects)) == [["one"], ["two"]]
    assert (dict(os.environ), Path.cwd()) == (before, here)


async def test_two_dozen_revisions_three_times(project: Project, start: Start) -> None:
    """Revisions go up, down and up again one by one, as often as one likes, and the catalog follows."""
    for number in range(24):
        project.revision(f"r{number:02}", f"create table t{number} (id int)", undo=[f"drop table t{number}"])
    async with start() as made:
        for number, revision in enumerate(made.revisions):
            for step, there in ((made.apply, True), (made.revert, False), (made.apply, True)):
                await step(revision)
                assert (f"table public.t{number}" in await catalog.read(made.connection)) == there
