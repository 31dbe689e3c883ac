"""The schema at head as files, through the real process: written, found stale, loaded, split."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
from typing import TYPE_CHECKING

import asyncpg
import pytest

from acceptance.checks import ended
from headstart.postgres.catalog import differences, read
from headstart.postgres.embedded import installations
from support.objects import OBJECTS
from support.postgres import database_of, psql, script
from support.project import Project, fingerprint, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunHeadstart, StartHeadstart
    from headstart.postgres.embedded import Installation
    from support.postgres import Postgres
    from support.process import Run

    Headstart = Callable[..., Run]

INSTALLATIONS = installations()

# Rows, sequences that have moved, privileges, and what pg_dump can only write out of its usual order.
MORE = r"""
insert into raw.feed (body) values ('a'), (E'b;''x\ny');
insert into company (symbol) values ('x');
refresh materialized view raw.summary;
alter sequence loose restart with 100;
grant select on company to pg_monitor;
grant select (body) on raw.feed to pg_monitor with grant option;
revoke all on function twice(int) from public;
revoke all on raw.fast from current_user;
alter default privileges in schema raw grant select on tables to pg_monitor;
create schema mart;
create schema kpi;
create view kpi.b as select c.id, c.symbol from company c join price p on p.company = c.id;
create view mart.a as select b.id from kpi.b join company c on c.id = b.id;
create view kpi.c as select a.id from mart.a join kpi.b on a.id = b.id;
create materialized view mart.grouped as
    select c.id, c.symbol, count(*) from company c join price p on p.company = c.id group by c.id;
create view mart.by_key as select c.id, c.symbol, count(*) from company c, price p group by c.id;
create function mart.members() returns setof kpi.b language sql begin atomic select b.id, b.symbol from kpi.b; end;
create table mart."order" (a int default 1, b kpi.b, like raw.feed);
create function mart.lookalike() returns text language sql as $$ select '
--
-- Name: x; Type: TABLE; Schema: y; Owner: -
--

' $$;
"""


@pytest.fixture
def project(project: Project) -> Project:
    """Three revisions, the first with one of each kind of object."""
    project.revision("a1", OBJECTS)
    project.revision("b2", MORE)
    project.revision("c3", "create table c (id int)", undo=["drop table c"])
    return project


@pytest.fixture
def small(tmp_path: Path) -> Project:
    """A project whose third revision reads a file."""
    folder = tmp_path / "small"
    project = Project(folder)
    project.revision("a1", "create table a (id serial primary key, at timestamptz default now())")
    project.revision("b2", "insert into a default values")
    (folder / "b.sql").write_text("create table b (id int)", encoding="utf-8")
    body = f"from pathlib import Path\nop.execute(Path({str(folder / 'b.sql')!r}).read_text())"
    project.revision("c3", body=body)
    return project


@pytest.fixture
def headstart(run_headstart: RunHeadstart, any_server: Postgres, project: Project) -> Headstart:
    """Run it in the project, with the shared server for scratch databases."""
    return functools.partial(_run, run_headstart, any_server, project)


def _run(
    run_headstart: RunHeadstart, scratch: Postgres, project: Project, *args: str, url: str | None = None, **env: str
) -> Run:
    return run_headstart(
        *args,
        url=url,
        cwd=project.folder,
        env={"HEADSTART_BACKUP": "off", "HEADSTART_SCRATCH_URL": scratch.url(), **env},
        seconds=120,
    )


def schema_file(project: Project) -> Path:
    """Where the schema file is by default."""
    return project.folder / "migrations" / "sql_current" / "schema_head.sql"


def contents(url: str) -> dict[str, str]:
    """The catalog, with privileges and the order of columns, the rows, and where the sequences stand."""

    async def look() -> dict[str, str]:
        connection: asyncpg.Connection = await asyncpg.connect(url)
        try:
            return await read(connection, grants=True, order=True)
        finally:
            await connection.close()

    found = asyncio.run(look())
    for query in (
        "select id, body from raw.feed order by 1",
        "select id, symbol from company",
        "select schemaname, sequencename, last_value from pg_sequences where schemaname <> 'headstart' order by 1, 2",
        "select last_value, is_called from loose",
        "select count(*) from raw.summary",
    ):
        found[query] = str(psql(url, query))
    return found


# -- written -----------------------------------------------------------------------------------------------------------


def test_a_dump_twice_gives_the_same_bytes(project: Project, headstart: Headstart) -> None:
    """It needs no database but a scratch server, says where it wrote to, and writes the same again."""
    run = headstart("schema", "dump")
    ended(run, 0)
    file = schema_file(project)
    assert run.stdout == f"{file}\n"
    first = file.read_bytes()
    file.unlink()
    ended(headstart("schema", "dump"), 0)
    assert file.read_bytes() == first
    text = first.decode()
    assert "\n-- revision: c3\n" in text
    assert "CREATE TABLE public.alembic_version" in text
    for unwanted in ("INSERT INTO public.alembic_version", "restrict", "pg_dump version", "OWNER TO", "postgres;"):
        assert unwanted not in text
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_what_is_no_file_is_written_to(project: Project, headstart: Headstart, tmp_path: Path) -> None:
    """A dump to a pipe or a device goes there, and does not take its place."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended(headstart("schema", "dump", "--file", str(fifo)), 0)
        assert "\n-- revision: c3\n" in os.read(reader, 65536).decode()
    finally:
        os.close(reader)
    assert fifo.is_fifo()


def test_every_version_writes_the_same(
    project: Project, run_headstart: RunHeadstart, shared_servers: Callable[[Installation], Postgres]
) -> None:
    """The file does not depend on the scratch server's major version, where that one spells the schema alike."""
    texts = set()
    for installation in INSTALLATIONS:
        target = f"head_{installation.major}.sql"
        ended(_run(run_headstart, shared_servers(installation), project, "schema", "dump", "--file", target), 0)
        texts.add((project.folder / target).read_text())
    assert len(texts) == 1


def test_what_another_version_spells_otherwise_is_not_stale(
    small: Project, run_headstart: RunHeadstart, shared_servers: Callable[[Installation], Postgres]
) -> None:
    """Where versions write a view's text differently, a file of one is fresh for all, and is not written anew."""
    small.revision("d4", "create view v as select id from a")
    texts = set()
    for installation in INSTALLATIONS:
        run = functools.partial(_run, run_headstart, shared_servers(installation), small)
        ended(run("schema", "dump"), 0)
        texts.add(schema_file(small).read_text())
        ended(run("schema", "dump", "--check"), 0)
    assert len(texts) == 1


def test_a_dump_changes_nothing_that_is_fresh(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres
) -> None:
    """Rows that differ from run to run, such as times, do not make a new file; another number of rows does."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    first = schema_file(small).read_bytes()
    assert first.count(b"INSERT INTO public.a ") == 1
    ended(run("schema", "dump"), 0)
    assert schema_file(small).read_bytes() == first
    small.revision("d4", "insert into a default values")
    ended(run("schema", "dump"), 0)
    assert schema_file(small).read_bytes().count(b"INSERT INTO public.a ") == 2


# -- stale -------------------------------------------------------------------------------------------------------------


def a_new_revision(small: Project) -> str:
    """A fourth revision."""
    small.revision("d4", "create table d (id int)")
    return "it is of revision c3, and head is d4"


def an_edited_revision(small: Project) -> str:
    """The first revision does something else."""
    path = small.versions / "a1.py"
    path.write_text(path.read_text().replace("id serial", "id bigserial"))
    return "revisions up to c3 were edited"


def an_edited_sql_file(small: Project) -> str:
    """The file that the third revision reads has changed."""
    (small.folder / "b.sql").write_text("create table b (id bigint)")
    return "it differs from what the revisions make: table public.b"


def an_edited_schema_file(small: Project) -> str:
    """Somebody has had a hand in the schema file."""
    path = schema_file(small)
    path.write_text(path.read_text().replace("CREATE TABLE public.b", "CREATE TABLE public.bb"))
    return "is not as it was written"


def a_missing_file(small: Project) -> str:
    """It is gone."""
    schema_file(small).unlink()
    return "there is no schema file"


def another_file(small: Project) -> str:
    """Something else has its name."""
    schema_file(small).write_text("create table a (id int);\n")
    return "is no schema file of Headstart's"


@pytest.mark.parametrize(
    "change",
    [a_new_revision, an_edited_revision, an_edited_sql_file, an_edited_schema_file, a_missing_file, another_file],
)
def test_a_stale_file_is_found(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres, change: Callable[[Project], str]
) -> None:
    """`schema dump --check` exits with 80, says what is stale and what to type, and writes nothing."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    checked = run("schema", "dump", "--check")
    ended(checked, 0)
    assert checked.events("schema_file_fresh")
    reason = change(small)
    before = _texts(small.folder)
    last = ended(run("schema", "dump", "--check"), 80)
    assert reason in last["error"]
    assert "headstart schema dump" in last["hint"]
    assert _texts(small.folder) == before
    ended(run("schema", "dump"), 0)
    ended(run("schema", "dump", "--check"), 0)


def test_formatting_does_not_make_it_stale(small: Project, run_headstart: RunHeadstart, any_server: Postgres) -> None:
    """Comments, docstrings and formatting of a revision are no edits, here as for exit 73."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    path = small.versions / "a1.py"
    path.write_text("# a comment\n" + path.read_text().replace("the change a1", "another docstring"))
    ended(run("schema", "dump", "--check"), 0)
    url = any_server.create_database()
    ended(run("schema", "load", url=url), 0)
    any_server.drop_database(url)


def _texts(folder: Path) -> dict[str, bytes]:
    found = [each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    return {str(each): each.read_bytes() for each in found}


# -- loaded ------------------------------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_the_revisions_make(project: Project, headstart: Headstart, server: Postgres) -> None:
    """On every version: objects, privileges, rows, sequences. Then `up` has nothing to do, and edits are found."""
    ended(headstart("schema", "dump"), 0)
    replayed, loaded = server.create_database(), server.create_database()
    ended(headstart("up", url=replayed), 0)
    run = headstart("schema", "load", url=loaded)
    last = ended(run, 0)
    assert (last["revision_before"], last["revision_after"]) == ("base", "c3")
    assert run.events("schema_loaded")[0]["revisions"] == 3
    one, other = contents(replayed), contents(loaded)
    assert [each.sentence("the replay", "the load") for each in differences(one, other)] == []
    assert len(one) > 130
    assert recorded(loaded) == ["c3"]
    ledger = psql(loaded, "select action, revision, follows, sha256 <> '' from headstart.ledger order by id")
    assert ledger == [("stamped", "a1", [], True), ("stamped", "b2", ["a1"], True), ("stamped", "c3", ["b2"], True)]
    up = headstart("up", url=loaded)
    ended(up, 0)
    assert up.events("nothing_pending")
    ended(headstart("schema", "load", url=loaded), 0)
    path = project.versions / "b2.py"
    path.write_text(path.read_text().replace("restart with 100", "restart with 200"))
    assert "b2" in ended(headstart("up", url=loaded), 73)["error"]
    for url in (replayed, loaded):
        server.drop_database(url)


def test_a_database_with_tables_is_refused(project: Project, headstart: Headstart, any_database: str) -> None:
    """The tables are named, and nothing is touched; so is a database that is at another revision."""
    ended(headstart("schema", "dump"), 0)
    script(any_database, "create schema raw; create table raw.theirs (id int); create view seen as select 1")
    before = fingerprint(any_database)
    last = ended(headstart("schema", "load", url=any_database), 10)
    assert "table raw.theirs, view public.seen" in last["error"]
    assert fingerprint(any_database) == before
    script(any_database, "drop schema raw cascade; drop view seen")
    ended(headstart("upgrade", "a1", url=any_database), 0)
    assert "it is at a1" in ended(headstart("schema", "load", url=any_database), 10)["error"]


def test_empty_schemas_and_an_empty_version_table_are_no_hindrance(
    project: Project, headstart: Headstart, any_database: str
) -> None:
    """What an administrator, or an env.py that was run once, has left behind is taken over."""
    ended(headstart("schema", "dump"), 0)
    script(any_database, "create schema raw; create table alembic_version (version_num varchar(32) primary key)")
    ended(headstart("schema", "load", url=any_database), 0)
    assert recorded(any_database) == ["c3"]


@pytest.mark.parametrize(
    "change", [a_new_revision, an_edited_revision, an_edited_schema_file, a_missing_file, another_file]
)
def test_a_file_of_another_history_is_refused(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres, any_database: str, change: Callable[..., str]
) -> None:
    """What is not provably of the revisions at hand is not loaded: exit 10, and the database stays empty."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    reason = change(small)
    last = ended(run("schema", "load", url=any_database), 10)
    assert reason in last["error"]
    assert "headstart schema dump" in last["hint"]
    assert is_empty(any_database)


def test_a_file_that_fails_leaves_nothing(project: Project, headstart: Headstart, any_database: str) -> None:
    """The statement is named, and nothing of the file, the version table or the ledger is kept."""
    ended(headstart("schema", "dump"), 0)
    script(any_database, "create type positive as enum ('theirs')")
    last = ended(headstart("schema", "load", url=any_database), 60)
    assert 'type "positive" already exists' in last["error"]
    assert "CREATE DOMAIN public.positive" in last["error"]
    assert last["revision_after"] == "base"
    script(any_database, "drop type positive")
    assert is_empty(any_database)
    ended(headstart("schema", "load", url=any_database), 0)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)])
def test_a_load_that_is_killed_leaves_an_empty_database(
    project: Project,
    headstart: Headstart,
    start_headstart: StartHeadstart,
    any_database: str,
    signum: signal.Signals,
    code: int,
) -> None:
    """Whenever it dies the database holds nothing of it, and the next one succeeds."""
    ended(headstart("schema", "dump"), 0)

    async def in_the_middle() -> None:
        other: asyncpg.Connection = await asyncpg.connect(any_database)
        try:
            await other.execute("begin; create table c (id int)")  # the file's own has to wait for this
            with start_headstart(
                "schema", "load", url=any_database, cwd=project.folder, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "0"}
            ) as process:
                blocked = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and application_name like $1"
                await asyncio.to_thread(
                    eventually, lambda: psql(any_database, blocked, "headstart %"), "the load waits for the lock"
                )
                process.send(signum)
                assert (await asyncio.to_thread(process.finish)).code == code
        finally:
            await other.close()

    asyncio.run(in_the_middle())
    mine = "select 1 from pg_stat_activity where datname = current_database() and application_name like 'headstart %'"
    eventually(lambda: not psql(any_database, mine), "the session is gone")
    assert is_empty(any_database)
    ended(headstart("schema", "load", url=any_database), 0)


def is_empty(url: str) -> bool:
    """Whether a database holds nothing at all."""
    left = psql(
        url,
        "select relname from pg_class where oid >= 16384 union all select proname from pg_proc where oid >= 16384"
        " union all select typname from pg_type where oid >= 16384 union all"
        " select nspname from pg_namespace where oid >= 16384 and nspname not like 'pg\\_%'",
    )
    return left == []


# -- used by `up` ------------------------------------------------------------------------------------------------------


def test_up_uses_a_proven_file_on_an_empty_database(
    project: Project, headstart: Headstart, any_server: Postgres
) -> None:
    """With HEADSTART_SCHEMA_FILE no revision is run, and the schema is the same."""
    ended(headstart("schema", "dump"), 0)
    replayed, loaded = any_server.create_database(), any_server.create_database()
    ended(headstart("up", url=replayed), 0)
    run = headstart("up", url=loaded, HEADSTART_SCHEMA_FILE=str(schema_file(project)))
    assert ended(run, 0)["revision_after"] == "c3"
    assert run.events("schema_loaded")
    assert not run.events("revision_applied")
    assert differences(contents(replayed), contents(loaded)) == []
    project.revision("d4", "create table d (id int)")
    later = headstart("up", url=loaded, HEADSTART_SCHEMA_FILE=str(schema_file(project)))
    assert ended(later, 0)["applied"] == ["d4"]
    assert not later.events("schema_file_not_used")
    for url in (replayed, loaded):
        any_server.drop_database(url)


@pytest.mark.parametrize(
    "change", [a_new_revision, an_edited_revision, an_edited_schema_file, a_missing_file, another_file]
)
def test_up_replays_where_the_file_proves_nothing(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres, any_database: str, change: Callable[..., str]
) -> None:
    """A stale file is passed over, the log says why, and the revisions are run one by one."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    reason = change(small)
    done = run("up", url=any_database, HEADSTART_SCHEMA_FILE="migrations/sql_current/schema_head.sql")
    ended(done, 0)
    (line,) = done.events("schema_file_not_used")
    assert reason in line["reason"]
    assert len(done.events("revision_applied")) >= 3


def test_up_replays_on_a_database_that_is_not_empty(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres, any_database: str
) -> None:
    """A database with tables of others gets the revisions one by one, and the log says why."""
    run = functools.partial(_run, run_headstart, any_server, small)
    ended(run("schema", "dump"), 0)
    script(any_database, "create table theirs (id int)")
    done = run("up", url=any_database, HEADSTART_SCHEMA_FILE="migrations/sql_current/schema_head.sql")
    ended(done, 0)
    assert "table public.theirs" in done.events("schema_file_not_used")[0]["reason"]
    assert len(done.events("revision_applied")) == 3


# -- split -------------------------------------------------------------------------------------------------------------


def test_the_parts_together_are_the_whole(project: Project, headstart: Headstart, any_server: Postgres) -> None:
    """One file for each kind and schema; one after the other they load, and give what the revisions give."""
    ended(headstart("schema", "dump"), 0)
    run = headstart("schema", "split", "--directory", "parts")
    ended(run, 0)
    names = [path.rpartition("/")[2] for path in run.stdout.splitlines()]
    assert names == sorted(each.name for each in (project.folder / "parts").iterdir())
    assert names[0] == "01_schemas.sql"
    kinds = [name.removesuffix(".sql").partition("_")[2] for name in names]
    for kind in ("types_public", "functions_public", "tables_public", "tables_raw", "views_mart", "grants"):
        assert kind in kinds
    replayed, loaded = any_server.create_database(), any_server.create_database()
    ended(headstart("up", url=replayed), 0)
    script(loaded, "".join((project.folder / "parts" / name).read_text() for name in names))
    assert [each.sentence("up", "parts") for each in differences(contents(replayed), contents(loaded))] == []
    for url in (replayed, loaded):
        any_server.drop_database(url)


def test_a_split_removes_what_an_earlier_one_wrote(
    small: Project, run_headstart: RunHeadstart, any_server: Postgres
) -> None:
    """It is deterministic, and leaves files alone that it has not written."""
    run = functools.partial(_run, run_headstart, any_server, small)
    small.revision("d4", "create schema odd", 'create table odd."A b" (id int)', "create view odd.v as select 1 as one")
    ended(run("schema", "dump"), 0)
    ended(run("schema", "split"), 0)
    folder = schema_file(small).parent
    first = _texts(folder)
    ended(run("schema", "split"), 0)
    assert _texts(folder) == first
    (folder / "99_notes.sql").write_text("-- mine")
    old = sorted(each.name for each in folder.iterdir())
    assert "04_views_odd.sql" in old
    (small.versions / "d4.py").unlink()
    ended(run("schema", "dump"), 0)
    ended(run("schema", "split"), 0)
    left = {each.name for each in folder.iterdir()}
    assert left >= {"99_notes.sql", "schema_head.sql"}
    assert not any("odd" in name for name in left)


# -- asked wrongly -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("load", "--check"), "--check belongs to `schema dump`"),
        (("dump", "--directory", "x"), "--directory belongs to `schema split`"),
        (("show",), "invalid choice"),
        ((), "dump|load|split"),
    ],
)
def test_options_belong_to_their_action(
    headstart: Headstart, any_database: str, words: tuple[str, ...], said: str
) -> None:
    """An option of another action is a usage error."""
    run = headstart("schema", *words, url=any_database)
    assert said in ended(run, 2)["error"]


def test_a_load_needs_a_database_and_a_dump_does_not(headstart: Headstart) -> None:
    """Which database is to be loaded has to be said: DATABASE_URL."""
    assert "DATABASE_URL" in ended(headstart("schema", "load"), 10)["error"]


def test_a_database_that_is_not_touched_is_not_named(headstart: Headstart, any_database: str) -> None:
    """DATABASE_URL may be set while the schema is dumped; the log does not say that this database is worked on."""
    run = headstart("schema", "dump", url=any_database)
    ended(run, 0)
    assert run.events("run_started")[0]["database"] is None
    assert database_of(any_database) not in run.stderr


def test_a_revision_that_fails_writes_no_file(project: Project, headstart: Headstart) -> None:
    """A history that does not reach head has no schema: the file that is there stays."""
    ended(headstart("schema", "dump"), 0)
    before = schema_file(project).read_bytes()
    project.revision("d4", "create table c (id int)")
    assert "d4" in ended(headstart("schema", "dump"), 60)["error"]
    assert schema_file(project).read_bytes() == before
    shutil.rmtree(schema_file(project).parent)
    ended(headstart("schema", "dump"), 60)
    assert not schema_file(project).exists()
