"""What a revision that fails has committed by itself: exit 61 lists what the database shows, and 60 says nothing."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, running
from support.faults import worker_of
from support.postgres import psql, script
from support.project import fingerprint
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import StartServer
    from support.process import Headstart, Run
    from support.project import Project

SYNC = """\
import os
from alembic import context
from sqlalchemy import create_engine

url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+{driver}:")
with create_engine(url).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
HELPER = """\
def tidy(bind):
    held = bind.connection
    held.cursor().execute("create table t (a int)")
    held.commit()
"""
ISOLATING = """\
def isolate(op):
    assert op.get_bind().connection
    op.execute("SET  TRANSACTION ISOLATION LEVEL SERIALIZABLE")
"""
BEFORE = """
create function "make table t "() returns void language sql as 'create table t (a int)';
create procedure p() language plpgsql as 'begin create table t (a int); commit; perform 1/0; end';
create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key)
"""
DRIVERS = ("asyncpg", "psycopg", "psycopg2")
LIBPQ = ("psycopg", "psycopg2")

# what the revision does, before it fails -> with which drivers, and which tables it has made for good by then
BODIES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "select into": (
        """
        with op.get_context().autocommit_block():
            op.execute("select 1 as a into t")
        """,
        DRIVERS,
        "t",
    ),
    "a function that writes": (
        """
        with op.get_context().autocommit_block():
            op.execute('select "make table t "()')
        """,
        DRIVERS,
        "t",
    ),
    "reading": (
        """
        op.execute("select 1")
        with op.get_context().autocommit_block():
            op.execute("select count(*) from pg_class")
        """,
        DRIVERS,
        "",
    ),
    "before the block": (
        """
        op.execute("create table t (a int)")
        with op.get_context().autocommit_block():
            op.execute("select 1")
        op.execute("create table u (a int)")
        """,
        DRIVERS,
        "t",
    ),
    "a script in the block": (
        """
        with op.get_context().autocommit_block():
            op.execute("create table t (a int); select 1/0")
        """,
        LIBPQ,
        "",
    ),
    "a commit that no text shows": (
        """
        op.execute("create table t (a int)")
        held = getattr(op.get_bind(), "conn" + "ection")
        getattr(getattr(held, "dba" + "pi_conn" + "ection"), "com" + "mit")()
        op.execute("create table u (a int)")
        """,
        DRIVERS,
        "t",
    ),
    "steps of a block": (
        """
        with op.get_context().autocommit_block():
            op.execute("do $$ begin create table t (a int); commit; perform 1/0; end $$")
        """,
        DRIVERS,
        "t",
    ),
    "a block of one step": (
        """
        with op.get_context().autocommit_block():
            op.execute("do $$ begin create table t (a int); perform 1/0; end $$")
        """,
        DRIVERS,
        "",
    ),
    "COMMIT": (
        """
        op.execute("create table t (a int)")
        op.execute("commit")
        op.execute("select 1")
        """,
        DRIVERS,
        "t",
    ),
    "COMMIT, and a statement outside": (
        """
        op.execute("commit")
        op.execute("create table t (a int)")
        """,
        ("asyncpg", "psycopg2"),  # which do not see that their transaction has ended
        "t",
    ),
    "COMMIT, and a transaction of the driver's": (
        """
        op.execute("commit")
        op.execute("create table t (a int)")
        """,
        ("psycopg",),
        "",
    ),
    "commit in a script": (
        """
        op.execute("create table t (a int); commit; begin")
        op.execute("create table u (a int)")
        """,
        LIBPQ,
        "t",
    ),
    "rollback in a script": (
        """
        op.execute("create table t (a int); rollback; begin")
        op.execute("create table u (a int)")
        op.execute("commit")
        """,
        LIBPQ,
        "u",
    ),
    "the driver's commit": (
        """
        op.execute("create table t (a int)")
        op.get_bind().connection.dbapi_connection.commit()
        op.execute("create table u (a int)")
        """,
        DRIVERS,
        "t",
    ),
    "savepoints and more in a script": (
        """
        op.execute("savepoint a; create table t (a int); release savepoint a")
        op.execute("commit")
        """,
        LIBPQ,
        "t",
    ),
    "a script that begins with COMMIT": ('op.execute("commit; create table t (a int)")', LIBPQ, "t"),
    "a script that begins with ROLLBACK": ('op.execute("rollback; create table t (a int)")', LIBPQ, "t"),
    "a script that rolls back, begins and commits": (
        'op.execute("rollback; begin; create table t (a int); commit")',
        LIBPQ,
        "t",
    ),
    "a script that goes back to a savepoint": (
        """
        op.execute("savepoint a")
        op.execute("create table t (a int)")
        op.execute("rollback to a; create table u (a int)")
        op.execute("commit")
        """,
        LIBPQ,
        "u",
    ),
    "a procedure that commits, in a block": (
        """
        with op.get_context().autocommit_block():
            op.execute("do $$ begin call p(); end $$")
        """,
        DRIVERS,
        "t",
    ),
    "quoted savepoints": (
        """
        op.execute('savepoint "my 1"')
        op.execute("create table t (a int)")
        op.execute('savepoint "my 2"')
        op.execute('rollback to "my 1"')
        op.execute("create table u (a int)")
        op.execute("commit")
        """,
        DRIVERS,
        "u",
    ),
    "the driver's rollback": (
        """
        op.execute("create table t (a int)")
        op.get_bind().connection.dbapi_connection.rollback()
        op.execute("create table u (a int)")
        """,
        DRIVERS,
        "",
    ),
    "the driver's commit of nothing": (
        """
        op.get_bind().connection.cursor().execute("select 1")
        with op.get_context().autocommit_block():
            op.execute("select 1")
        """,
        DRIVERS,
        "",
    ),
    "a savepoint": (
        """
        op.execute("create table t (a int)")
        nested = op.get_bind().begin_nested()
        op.execute("create table u (a int)")
        nested.rollback()
        with op.get_context().autocommit_block():
            pass
        """,
        DRIVERS,
        "t",
    ),
    "reading behind a comment": (
        """
        with op.get_context().autocommit_block():
            op.execute("-- how many\\nselect count(*) from pg_class")
        """,
        DRIVERS,
        "",
    ),
    "a temporary table": (
        """
        with op.get_context().autocommit_block():
            op.execute("create temporary table seen (a int)")
        """,
        DRIVERS,
        "",
    ),
    "much reading before": (
        """
        for _ in range(30):
            op.execute("select 1")
        op.execute("create table t (a int)")
        op.execute("/* enough */ commit")
        """,
        DRIVERS,
        "t",
    ),
    "select into beside a table": (
        """
        op.execute("create table t (a int)")
        op.execute("select 1 as a into u")
        op.execute("commit")
        """,
        DRIVERS,
        "tu",
    ),
    "explain analyze": (
        """
        op.execute("explain analyze create table t as select 1 as a")
        op.execute("commit")
        """,
        DRIVERS,
        "t",
    ),
    "savepoints of one name": (
        """
        op.execute("savepoint s")
        op.execute("create table t (a int)")
        op.execute("savepoint S")
        op.execute("rollback to s")
        op.execute("release s")
        op.execute("rollback to s")
        op.execute("create table u (a int)")
        op.execute("commit")
        """,
        DRIVERS,
        "u",
    ),
    "another engine reads": (
        """
        op.execute("create table t (a int)")
        with sa.create_engine(op.get_bind().engine.url).begin() as other:
            other.execute(sa.text("select 1"))
        """,
        LIBPQ,
        "",
    ),
    "another engine writes": (
        """
        op.execute("create table t (a int)")
        with sa.create_engine(op.get_bind().engine.url).begin() as other:
            other.execute(sa.text("create table u (a int)"))
        """,
        LIBPQ,
        "u",
    ),
}


@pytest.mark.parametrize(
    ("name", "driver"), [(name, driver) for name, (_, drivers, _) in BODIES.items() for driver in drivers]
)
def test_what_was_committed(
    name: str, driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """Each table that a failed revision has left behind is in a statement of the list, and no other statement is."""
    body, _, left = BODIES[name]
    _with_driver(project, driver)
    project.revision("a1", body=f"{dedent(body)}\nop.execute('select 1/0')")
    script(any_database, BEFORE)
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database), 61 if left else 60)
    assert (last["failed"], last["revision_after"]) == ("a1", "base")
    assert _tables(any_database) == left
    assert _named(last.get("leftovers", [])) == left
    if not left:
        assert fingerprint(any_database) == before


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("more", ["", "op.get_bind().connection.dbapi_connection"], ids=["", "the driver's connection"])
def test_set_transaction(
    more: str, driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """SET TRANSACTION has to be the first in its transaction: nothing that we ask comes before it."""
    _with_driver(project, driver)
    project.revision("a1", "select 1")
    project.revision("b2", body=f"op.execute('set transaction isolation level serializable')\n{more}")
    (project.ini.parent / "helper.py").write_text(ISOLATING, encoding="utf-8")
    project.revision("c3", body="from helper import isolate\nisolate(op)")
    assert ended(headstart("up", url=any_database), 0)["applied"] == ["a1", "b2", "c3"]


def test_a_snapshot_is_not_taken_early(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """In REPEATABLE READ a question of ours would fix what the revision sees: it sees all that precedes its LOCK."""
    text = SYNC.format(driver="psycopg").replace("create_engine(url)", "create_engine(url, isolation_level=LEVEL)")
    project.env.write_text(text.replace("url = ", 'LEVEL = "REPEATABLE READ"\nurl = '), encoding="utf-8")
    project.revision("a1", "create table w (a int)")
    project.revision(
        "b2",
        body="""import os, psycopg
op.get_bind().connection.dbapi_connection
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
    other.execute("insert into w values (1)")
op.execute("lock table w")
op.execute("create table t as select * from w")""",
    )
    ended(headstart("up", url=any_database), 0)
    assert psql(any_database, "select count(*) from t") == [(1,)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_second_try_of_what_may_be_committed(
    driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """A revision that works on the driver's own connection is not run again when it loses a lock."""
    _with_driver(project, driver)
    script(any_database, "create table w (a int)")
    project.revision("a1", body="op.get_bind().connection.dbapi_connection\nop.execute('alter table w add b int')")
    with Session(any_database, "nightly report") as somebody:
        somebody.execute("begin; select * from w")
        run = headstart("up", url=any_database, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"})
    ended(run, 62)
    assert not run.events("revision_retried")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("imported", "call"),
    [
        ("from lib import tools", "tools.tidy"),
        ("from lib import (\n    tools,\n)", "tools.tidy"),
        ("import outer", "outer.go"),
    ],
    ids=["of a package", "in brackets", "of another module"],
)
def test_no_second_try_of_what_was_committed_unseen(
    imported: str, call: str, driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """Wherever it hides: a transaction that is over although nobody has ended it is found by its absence."""
    _with_driver(project, driver)
    lib = project.ini.parent / "lib"
    lib.mkdir()
    (lib / "__init__.py").write_text("", encoding="utf-8")
    (lib / "tools.py").write_text("def tidy(bind):\n    bind.connection.dbapi_connection.commit()\n", encoding="utf-8")
    (project.ini.parent / "outer.py").write_text(
        "from lib import tools\n\n\ndef go(bind):\n    tools.tidy(bind)\n", encoding="utf-8"
    )
    script(any_database, "create table w (a int); create table money (a int)")
    project.revision(
        "a1",
        body=f"{imported}\nop.execute('insert into money values (100)')\n{call}(op.get_bind())\n"
        "op.execute('alter table w add b int')",
    )
    with Session(any_database, "nightly report") as somebody:
        somebody.execute("begin; select * from w")
        run = headstart("up", url=any_database, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"})
    last = ended(run, 61)
    assert any("insert into money" in each for each in last["leftovers"])
    assert psql(any_database, "select count(*) from money") == [(1,)]


def test_no_second_try_of_a_program(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """What a revision starts has sessions of its own, of which nobody knows what they have committed."""
    script(any_database, "create table w (a int)")
    project.revision("a1", body="import subprocess\nsubprocess.run(['true'])\nop.execute('alter table w add b int')")
    with Session(any_database, "nightly report") as somebody:
        somebody.execute("begin; select * from w")
        run = headstart("up", url=any_database, env={"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms"})
    ended(run, 62)
    assert not run.events("revision_retried")


def test_what_takes_no_transaction_id(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """ALTER SYSTEM stays, though the server gives it no transaction."""
    project.revision(
        "a1",
        body="with op.get_context().autocommit_block():\n"
        "    op.execute(\"alter system set work_mem = '6MB'\")\n"
        "    op.execute('select 1/0')",
    )
    try:
        assert ended(headstart("up", url=any_database), 61)["leftovers"] == [
            "committed: alter system set work_mem = '...'"
        ]
    finally:
        script(any_database, "alter system reset work_mem")


def test_a_partition_that_is_half_detached(
    project: Project, headstart: Callable[..., Run], begin_headstart: Callable[..., Headstart], any_database: str
) -> None:
    """DETACH CONCURRENTLY that was interrupted is listed with the statement that ends it, by each run until then."""
    script(
        any_database, "create table p (a int) partition by list (a); create table p1 partition of p for values in (1)"
    )
    project.revision(
        "a1",
        body="with op.get_context().autocommit_block():\n"
        "    op.execute('alter table p detach partition p1 concurrently')",
    )
    left = "half detached public.p1: alter table public.p detach partition public.p1 finalize;"
    with Session(any_database) as somebody:
        somebody.execute("begin; select * from p")
        process = begin_headstart("up", url=any_database)
        eventually(lambda: psql(any_database, "select from pg_inherits where inhdetachpending"), "half a detachment")
        process.send(signal.SIGTERM)
        assert left in ended(process.finish(), 143)["leftovers"]
    last = ended(headstart("up", url=any_database), 61)
    assert left in last["leftovers"]
    script(any_database, last["leftovers"][-1].partition(": ")[2])
    assert psql(any_database, "select from pg_inherits") == []


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("where", ["here", "in a module"])
@pytest.mark.parametrize("end", ["op.execute('select 1/0')", "raise ValueError", "import os; os._exit(3)"])
def test_committed_by_the_driver(
    where: str, end: str, driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What the driver's own cursor has executed is not known, but that it was committed; even if the process ends."""
    _with_driver(project, driver)
    (project.ini.parent / "helper.py").write_text(HELPER, encoding="utf-8")
    code = "from helper import tidy" if where == "in a module" else HELPER
    project.revision("a1", body=f"{code}\ntidy(op.get_bind())\n{end}")
    last = ended(headstart("up", url=any_database), 61)
    [leftover] = last["leftovers"]
    assert "the driver's own connection" in leftover
    assert _tables(any_database) == "t"


@pytest.mark.fresh
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("ends", ["it is told to stop", "its worker is killed"])
def test_committed_before_the_end(
    ends: str,
    driver: str,
    project: Project,
    begin_headstart: Callable[..., Headstart],
    tmp_path: Path,
    any_database: str,
) -> None:
    """The same is said of a revision that was interrupted: what it had committed by then, and nothing of the rest."""
    _with_driver(project, driver)
    project.revision(
        "a1",
        body="""with op.get_context().autocommit_block():
    op.execute("create table t (a int)")
op.execute("create table u (a int)")
op.execute("select pg_sleep(60)")""",
    )
    process = begin_headstart("up", url=any_database, env={"HOME": str(tmp_path)})
    eventually(lambda: running(any_database, "^select pg_sleep"), "the revision is at work")
    if ends == "its worker is killed":
        os.kill(worker_of(tmp_path), signal.SIGKILL)
    else:
        process.send(signal.SIGTERM)
    last = ended(process.finish(seconds=15), 61 if ends == "its worker is killed" else 143)
    assert _tables(any_database) == "t"
    assert _named(last["leftovers"]) == "t"


def test_beside_what_others_commit(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """What may have been committed, or by another session, is not said to be certain; what was, is."""
    script(any_database, "create table w (a int); insert into w values (2)")
    project.revision(
        "a1",
        body="""with op.get_context().autocommit_block():
    op.execute("update w set a = 1 where (select pg_sleep(0.5) is null)")
    op.execute("create table t (a int)")
op.execute("select 1/0")""",
    )
    with _busy(any_database):
        last = ended(headstart("up", url=any_database), 61)
    unsure, sure = last["leftovers"]
    assert unsure.startswith("perhaps committed: ")
    assert "update w" in unsure
    assert sure == "committed: create table t (a int)"


@contextmanager
def _busy(url: str) -> Iterator[None]:
    """Another session commits all the time."""
    done = threading.Event()

    def write() -> None:
        with Session(url, "the app") as app:
            while not done.wait(0.01):
                app.execute("insert into w values (2)")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        yield
        done.set()
        writing.result()


def _with_driver(project: Project, driver: str) -> None:
    if driver != "asyncpg":
        project.env.write_text(SYNC.format(driver=driver), encoding="utf-8")


def _tables(url: str) -> str:
    return "".join(name for name in "tu" if psql(url, f"select to_regclass('{name}') is not null") == [(True,)])


def _named(leftovers: list[str]) -> str:
    """The tables that these statements make."""
    leftovers = [each.partition(": ")[2] for each in leftovers if "the driver's own connection" not in each]
    made = [[name for name in "tu" if f"table {name} " in each or f"into {name}" in each] for each in leftovers]
    made = [["t"] if each == "do '...'" else names for each, names in zip(leftovers, made, strict=True)]  # a constant
    assert all(made), f"each of {leftovers} makes a table"
    return "".join(sorted({name for names in made for name in names}))


FIRST = {
    "begin in a script": 'op.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; create table t (a int); COMMIT;")',
    "BEGIN after COMMIT": """
        op.execute("create table u (a int)")
        op.execute("COMMIT")
        op.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        op.execute("create table t (a int)")
    """,
    "first after a script": """
        op.execute("create table u (a int); commit; begin")
        op.execute("set transaction isolation level serializable")
        op.execute("create table t (a int)")
    """,
    "autocommit": """
        raw = op.get_bind().connection.dbapi_connection
        raw.autocommit = True
        cursor = raw.cursor()
        cursor.execute("vacuum pg_class")
        cursor.close()
        raw.autocommit = False
        op.execute("create table t (a int)")
    """,
}


@pytest.mark.parametrize("driver", LIBPQ)
@pytest.mark.parametrize("name", FIRST)
def test_what_has_to_come_first(
    name: str, driver: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What is asked of the session beside a revision is never before what has to be first in its transaction."""
    _with_driver(project, driver)
    project.env.write_text(
        project.env.read_text(encoding="utf-8").replace(
            "connection=connection", "connection=connection, transaction_per_migration=True"
        ),
        encoding="utf-8",
    )
    project.revision("a1", "select 1")
    project.revision("b2", body=dedent(FIRST[name]))
    ended(headstart("up", url=any_database), 0)
    assert "t" in _tables(any_database)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_transaction_that_stays_prepared(
    driver: str, project: Project, headstart: Callable[..., Run], start_server: StartServer
) -> None:
    """A transaction that the failed revision has prepared is named: it keeps its locks until somebody ends it."""
    url = start_server(settings={"max_prepared_transactions": "2"}).url()
    _with_driver(project, driver)
    two_phases = """
        op.execute("create table t (a int)")
        op.execute("prepare transaction 'g1'")
        op.execute("select 1/0")
    """
    project.revision("a1", body=dedent(two_phases))
    last = ended(headstart("up", url=url), 61)
    assert last["leftovers"] == ["prepared transaction 'g1': rollback prepared 'g1'"]
    psql(url, "rollback prepared 'g1'")
