"""Every env.py is driven as it is: the ways in which people write it, each taken to head, or refused by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.dialects import postgresql

from acceptance.checks import planted
from support.environments import WAYS, at_head, environment, nothing_to_do
from support.postgres import database_of, psql, script
from support.project import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunHeadstart
    from support.postgres import Postgres

AROUND_ALL = ("a transaction around all", "an asynchronous transaction around all", "no transaction of its own")


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_write_it(way: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py out of the wild brings the database to head, a revision at a time, and a second run does nothing."""
    project = environment(tmp_path / "app", WAYS[way])
    run = at_head(run_headstart, any_database, project.folder, ["b2"])
    assert run.last["applied"] == ["a1", "b2"]
    assert psql(any_database, "select name from account") == [("a",)]
    nothing_to_do(run_headstart, any_database, project.folder)


@pytest.mark.parametrize("way", ["flask-migrate", "DATABASE_URL", "two engines side by side"])
def test_each_revision_is_committed_by_itself(
    way: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """Where env.py holds no transaction, a failing third revision leaves the first two applied and recorded."""
    project = environment(tmp_path / "app", WAYS[way])
    project.revision("c3", "insert into account values (2, 'b')", "select 1 / 0")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 60, run
    assert (run.last["applied"], run.last["revision_after"]) == (["a1", "b2"], "b2")
    assert psql(any_database, "select name from account") == [("a",)]
    project.revision("c3", "insert into account values (2, 'b')", down="b2")
    at_head(run_headstart, any_database, project.folder, ["c3"])


@pytest.mark.parametrize("way", AROUND_ALL)
def test_one_transaction_around_all(way: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Where env.py holds a transaction around all revisions, all of them are applied or none; the log says so."""
    project = environment(tmp_path / "app", WAYS[way])
    project.revision("c3", "insert into account values (2, 'b')", "select 1 / 0")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 60, run
    assert (run.last["applied"], run.last["failed"], run.last["revision_after"]) == ([], "c3", "base")
    assert run.events("one_transaction")
    assert run.events("revision_applied") == []
    assert psql(any_database, "select to_regclass('account') is null") == [(True,)]
    project.revision("c3", "insert into account values (2, 'b')", down="b2")
    assert at_head(run_headstart, any_database, project.folder, ["c3"]).last["applied"] == ["a1", "b2", "c3"]


@pytest.mark.parametrize(("way", "after"), [*((way, "base") for way in AROUND_ALL), ("DATABASE_URL", "b2")])
@pytest.mark.parametrize(
    ("statements", "state", "statement"),
    [
        (("create table kept ()", "create table account (id int)"), "42P07", "create table account (id int)"),
        (
            ("create table once (id int unique deferrable initially deferred)", "insert into once values (1), (1)"),
            "23505",
            None,
        ),
    ],
    ids=["in the last statement", "in the commit"],
)
def test_what_fails_at_the_end_of_a_revision(
    way: str,
    after: str,
    statements: tuple[str, ...],
    state: str,
    statement: str | None,
    any_database: str,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """It is reported like any other failure, though the revision's own code has ended by then."""
    project = environment(tmp_path / "app", WAYS[way])
    path = project.revision("c3", *statements)
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert (run.code, run.last["sqlstate"], run.last["revision_after"]) == (60, state, after), run
    if statement is not None or after == "b2":  # with one transaction for all, COMMIT is no revision's
        assert run.last["failed"] == "c3"
        assert run.last["location"].startswith(str(path))
    if statement is not None:
        assert run.last["statement"] == statement
    assert psql(any_database, "select to_regclass('kept') is null, to_regclass('once') is null") == [(True, True)]


# -- drivers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_a_driver_of_its_own(scheme: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """The driver that env.py names is the one that does the work."""
    url = any_database.replace("postgresql:", f"{scheme}:", 1)
    project = environment(
        tmp_path / "app", f"with create_engine({url!r}).connect() as connection:\n    migrate(connection)\n"
    )
    run = at_head(run_headstart, any_database, project.folder, ["b2"])
    driver = scheme.partition("+")[2] or postgresql.dialect.driver  # psycopg2 up to SQLAlchemy 2.0, psycopg since
    assert {line["driver"] for line in run.events("env_connected")} == {driver}, run
    nothing_to_do(run_headstart, any_database, project.folder)


def test_a_driver_that_is_missing(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """It is an error as with Alembic itself, which says how to get the driver; nothing stands in."""
    url = any_database.replace("postgresql:", "postgresql+pg8000:", 1)
    project = environment(
        tmp_path / "app", f"with create_engine({url!r}).connect() as connection:\n    migrate(connection)\n"
    )
    run = run_headstart("up", url=any_database, cwd=project.folder)
    assert run.code == 10, run
    assert "pg8000" in run.last["error"]
    assert "pip install" in run.last["hint"]


WITHOUT = """\
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *given: None if name in {missing} else find(name, *given)
"""

SYNCHRONOUS = """\
with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    migrate(connection)
"""

ASYNCHRONOUS = """\
async def main():
    async with create_async_engine(os.environ["DATABASE_URL"]).connect() as connection:
        await connection.run_sync(migrate)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "missing", "remedy"),
    [
        (ASYNCHRONOUS, ["psycopg", "psycopg2"], "write DATABASE_URL=postgresql+asyncpg://..., or `pip install "),
        (SYNCHRONOUS, [postgresql.dialect.driver], "write DATABASE_URL=postgresql+{other}://..., or `pip install "),
        (SYNCHRONOUS, ["psycopg", "psycopg2"], "install the driver beside Headstart: pip install "),
    ],
    ids=["async", "another one is installed", "none is installed"],
)
def test_a_driver_that_nobody_named(
    code: str, missing: list[str], remedy: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """Where the URL names no driver and SQLAlchemy's default is missing, the hint names one that is there and fits."""
    project = environment(tmp_path / "app", code)
    env = planted(tmp_path, WITHOUT.format(missing=missing)) | {"HEADSTART_SCRATCH_URL": any_database}
    default = postgresql.dialect.driver
    other = next(each for each in ("psycopg", "psycopg2") if each != default)
    verbs = {"up": any_database, "check --only models": "postgresql://x/y", "schema dump": "postgresql://x/y"}
    for verb, url in verbs.items():
        run = run_headstart(*verb.split(), url=url, cwd=project.folder, env=env)
        assert (run.code, f"No module named '{default}'" in run.last["error"]) == (10, True), run
        assert remedy.format(other=other) in run.last["hint"], run
        assert ("the URL names no driver" in run.last["hint"]) == ("write" in remedy), run
        if "write" in remedy:
            named = re.findall(r"postgresql\+\w+", run.last["hint"])[0]
            run = run_headstart(*verb.split(), url=url.replace("postgresql", named, 1), cwd=project.folder, env=env)
            assert run.code == 0, run


MISSING_VARIABLES = {
    "os.environ": "os.environ['SENTRY_DSN']",
    "pydantic": "raise ValidationError('1 validation error for Settings\\nsentry_dsn\\n  Field required')",
}


@pytest.mark.parametrize("line", MISSING_VARIABLES.values(), ids=MISSING_VARIABLES)
def test_a_variable_that_is_missing(line: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """Where env.py misses a variable, the hint is to set it; a KeyError of another kind is env.py's to correct."""
    project = environment(tmp_path / "app", f"class ValidationError(ValueError): pass\n{line}\n")
    run = run_headstart("check", "--only", "models", url=any_database, cwd=project.folder)
    assert run.code == 10, run
    assert "sentry_dsn" in run.stderr.lower()
    assert run.last["hint"].startswith("set the variables that it names (any value will do in `check`)"), run
    other = environment(tmp_path / "other", "{}['SENTRY_DSN']\n")
    run = run_headstart("check", "--only", "models", url=any_database, cwd=other.folder)
    assert (run.code, run.last["hint"]) == (10, "correct env.py; nothing was changed"), run


def test_each_connection_of_its_own_is_proven(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """The proof is asked of every connection: of the one that only looks, and of the one that migrates."""
    url = any_database.replace("postgresql:", "postgresql+psycopg2:", 1)
    project = environment(
        tmp_path / "app",
        f"with create_engine({url!r}, poolclass=pool.NullPool).connect() as connection:\n    migrate(connection)\n",
    )
    run = at_head(run_headstart, any_database, project.folder, ["b2"])
    pids = [line["backend_pid"] for line in run.events("env_connected")]
    assert len(pids) == len(set(pids)) == 2, run


@pytest.fixture
def other_database(any_server: Postgres) -> Iterator[str]:
    """A second database, with a table in it, on the same server."""
    url = any_server.create_database()
    script(url, "create table precious (id int); insert into precious values (1)")
    yield url
    any_server.drop_database(url)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_another_database_is_refused(
    driver: str,
    any_server: Postgres,
    any_database: str,
    other_database: str,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """An env.py that leads elsewhere is refused by the name of where it leads, and nothing is changed anywhere."""
    url = other_database.replace("postgresql:", f"postgresql+{driver}:", 1)
    project = environment(
        tmp_path / "app", f"with create_engine({url!r}).connect() as connection:\n    migrate(connection)\n"
    )
    before = fingerprint(any_database), fingerprint(other_database)
    run = run_headstart("up", url=any_database, cwd=project.folder)
    assert run.code == 10, run
    assert database_of(other_database) in run.last["error"]
    assert "DATABASE_URL" in run.last["hint"]
    assert (fingerprint(any_database), fingerprint(other_database)) == before
    assert any_server.password not in run.stderr
    assert "Traceback" not in run.stderr


def test_another_server_is_refused(
    any_server: Postgres, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """A URL of env.py's own that cannot be reached is an error of env.py's, not a reason to wait."""
    url = any_database.replace(f":{any_server.port}/", ":1/").replace("postgresql:", "postgresql+asyncpg:")
    project = environment(
        tmp_path / "app", f"with create_engine({url!r}).connect() as connection:\n    migrate(connection)\n"
    )
    run = run_headstart("up", url=any_database, cwd=project.folder)
    assert run.code == 10, run
    assert "env.py" in run.last["error"]
    assert any_server.password not in run.stderr


def test_another_kind_of_database_is_refused(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """An env.py that falls back to SQLite is refused, and leaves Postgres alone."""
    project = environment(
        tmp_path / "app", "with create_engine('sqlite://').connect() as connection:\n    migrate(connection)\n"
    )
    before = fingerprint(any_database)
    run = run_headstart("up", url=any_database, cwd=project.folder)
    assert run.code == 10, run
    assert "sqlite" in run.last["error"]
    assert fingerprint(any_database) == before


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_another_role_in_the_same_database(
    driver: str, any_server: Postgres, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """An env.py that connects as the schema's owner, to the same database, is proven and used."""
    role = f"owner_of_{database_of(any_database)}"
    script(any_database, f"create role {role} login password 'its own'; grant create, usage on schema public to {role}")
    try:
        url = any_server.url(database_of(any_database), user=role, password="its own")
        url = url.replace("postgresql:", f"postgresql+{driver}:", 1)
        project = environment(
            tmp_path / "app", f"with create_engine({url!r}).connect() as connection:\n    migrate(connection)\n"
        )
        run = at_head(run_headstart, any_database, project.folder, ["b2"])
        assert {line["driver"] for line in run.events("env_connected")} == {driver}
        owner = "select tableowner from pg_tables where tablename in ('account', 'alembic_version')"
        assert set(psql(any_database, owner)) == {(role,)}
        nothing_to_do(run_headstart, any_database, project.folder)
    finally:
        script(any_database, f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")
