"""`headstart tenants`: many schemas or databases in one run, through the real process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import ended, leaks_nothing, make_role, path_of, with_password
from headstart.settings.table import SETTINGS
from support.documents import blocks
from support.postgres import database_of, identifier, psql, script
from support.project import Project, fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Run

pytestmark = pytest.mark.backed_up

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tenants.md"
AWKWARD = ["Acme", 'we "quote"', "two  blanks", "ünï", "it's", "back\\slash", "100%", "semi;colon", "a,b", "x=y"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two revisions that name no schema."""
    project = Project(tmp_path, template="generic")
    project.revision("a1", "create table item (id int primary key)")
    project.revision("b2", "alter table item add name text")
    return project


@pytest.fixture
def databases(any_server: Postgres) -> Iterator[Callable[..., list[str]]]:
    """Make databases of these names, or of new ones; they are dropped after the test."""
    made: list[str] = []

    def make(*names: str | None) -> list[str]:
        urls = [any_server.create_database(name) for name in names]
        made.extend(urls)
        return urls

    yield make
    for url in made:
        any_server.drop_database(url)


def schemas(url: str, names: Iterable[str]) -> list[str]:
    """Make schemas, and return their names."""
    names = list(names)
    script(url, ";".join(f"create schema {identifier(name)}" for name in names))
    return names


def listing(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Settings that have their tenants from a file."""
    (folder / "tenants.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return {"HEADSTART_TENANTS_FILE": "tenants.txt"}


def at(url: str, schema: str) -> list[str]:
    """What a schema's version table holds."""
    return recorded(url, f"{identifier(schema)}.alembic_version")


def table(run: Run) -> dict[str, str]:
    """The outcome of each tenant, as the table on stdout has it."""
    head, *rows = run.stdout.splitlines()
    start = head.index("OUTCOME")
    return {row[:start].rstrip(): row[start:].split()[0] for row in rows}


def seen(run: Run) -> dict[str, Any]:
    """The counts of a run."""
    return run.last


class TestSchemas:
    """Each tenant is a schema of one database."""

    def test_one_of_twenty_is_broken(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """A tenant that fails is named, with its code; the others are at head; afterwards it alone is left to do."""
        names = schemas(any_database, (f"tenant_{n}" for n in range(20)))
        script(any_database, "create table tenant_7.item (other text)")
        env = listing(tmp_path, names)
        run = headstart("tenants", "up", url=any_database, env=env)
        last = ended(run, 60)
        assert "1 of 20 tenants failed: tenant_7 (60)" in last["error"]
        assert (last["at_target"], last["failed"], last["not_begun"]) == (19, 1, 0)
        assert table(run) == {name: "migration_failed" if name == "tenant_7" else "done" for name in names}
        assert {name: at(any_database, name) for name in names} == {
            name: [] if name == "tenant_7" else ["b2"] for name in names
        }
        assert recorded(any_database) == []
        assert psql(any_database, "select count(*) from pg_tables where schemaname = 'public'") == [(0,)]
        (failed,) = [line for line in run.events("tenant_finished") if line["exit_code"]]
        assert (failed["tenant"], failed["failed"], failed["sqlstate"]) == ("tenant_7", "a1", "42P07")
        script(any_database, "drop table tenant_7.item")
        run = headstart("tenants", "up", url=any_database, env={**env, "HEADSTART_BACKUP": "off"})
        ended(run, 0)
        assert (seen(run)["changed"], seen(run)["at_target"]) == (1, 20)
        assert {line["tenant"] for line in run.events("revision_applied")} == {"tenant_7"}
        rows = psql(any_database, "select history, revision from headstart.ledger order by history, id")
        assert rows == sorted((f"{name}.alembic_version", each) for name in names for each in ("a1", "b2"))

    def test_names_of_all_kinds(
        self, project: Project, headstart: Callable[..., Run], database: str, tmp_path: Path
    ) -> None:
        """Capitals, blanks, quotes and what SQL, a shell or an option could stumble over."""
        names = schemas(database, AWKWARD)
        run = headstart("tenants", "up", "--json", url=database, env=listing(tmp_path, names))
        ended(run, 0)
        assert [each["tenant"] for each in json.loads(run.stdout)["tenants"]] == names
        assert {name: at(database, name) for name in names} == {name: ["b2"] for name in names}

    def test_one_backup_before_the_first(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """The whole database is backed up once, and each tenant's rows in the ledger name that backup."""
        names = schemas(any_database, ["a", "b", "c"])
        script(any_database, "create table public.customer (id int)")
        run = headstart("tenants", "up", url=any_database, env=listing(tmp_path, names))
        backup = ended(run, 0)["backup"]
        assert [str(path) for path in (tmp_path / "backups").glob("*/*")] == [str(tmp_path / backup)]
        assert psql(any_database, "select distinct backup from headstart.ledger") == [(backup,)]
        assert run.stderr.index('"backup_taken"') < run.stderr.index('"revision_applied"')
        project.revision("c3", "create table more (id int)")
        again = headstart("tenants", "up", url=any_database, env=listing(tmp_path, names))
        assert ended(again, 0)["backup"] != backup

    def test_nothing_pending(
        self, project: Project, headstart: Callable[..., Run], start_server: StartServer, tmp_path: Path
    ) -> None:
        """One session asks for all of them at once: a handful of selects, no lock, no write, no other process."""
        server = start_server(settings={"log_statement": "all", "log_line_prefix": "<%a> "})
        env = listing(tmp_path, schemas(server.url(), (f"tenant_{n}" for n in range(30))))
        ended(headstart("tenants", "up", url=server.url(), env=env), 0)
        before = len(server.log_text())
        run = headstart("tenants", "up", url=server.url(), env=env)
        ended(run, 0)
        assert (seen(run)["at_target"], seen(run)["changed"]) == (30, 0)
        lines = [line for line in server.log_text()[before:].splitlines() if "headstart" in line]
        statements = [
            match[1] for line in lines if (match := re.search(r"LOG:  (?:statement|execute [^:]+): (.*)", line))
        ]
        assert 1 <= len(statements) <= 8, statements
        assert all(each.lower().startswith("select") or not each for each in statements), statements
        assert "advisory" not in server.log_text()[before:]

    def test_what_follows_in_the_search_path(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """A shared schema's types are found if the setting names it; its version table is never taken for theirs."""
        script(any_database, "create domain public.positive as int check (value > 0)")
        script(
            any_database, "create table alembic_version (version_num text); insert into alembic_version values ('c3')"
        )
        project.revision("c3", "create table counted (n positive)")
        env = {**listing(tmp_path, schemas(any_database, ["a"])), "HEADSTART_BACKUP": "off"}
        assert "positive" in ended(headstart("tenants", "up", url=any_database, env=env), 60)["error"]
        assert at(any_database, "a") == ["b2"]
        ended(headstart("tenants", "up", "--tenants-search-path=public", url=any_database, env=env), 0)
        assert at(any_database, "a") == ["c3"]
        assert psql(any_database, "select schemaname from pg_tables where tablename = 'counted'") == [("a",)]

    def test_a_computed_version_table(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """An env.py that switches by `-x tenant=`, as Alembic's cookbook has it, is asked by Alembic and works too."""
        text = project.env.read_text(encoding="utf-8")
        changed = text.replace(
            "connection=connection, target_metadata=target_metadata",
            "connection=connection, target_metadata=target_metadata,"
            " version_table_schema=context.get_x_argument(as_dictionary=True)['tenant']",
        )
        assert changed != text
        project.env.write_text(changed, encoding="utf-8")
        names = schemas(any_database, ["a", "B b"])
        env = listing(tmp_path, names)
        run = headstart("tenants", "status", "--exit-code", url=any_database, env=env)
        assert (run.code, table(run)) == (3, {"a": "pending", "B b": "pending"})
        ended(headstart("tenants", "up", url=any_database, env=env), 0)
        assert [at(any_database, name) for name in names] == [["b2"], ["b2"]]
        again = headstart("tenants", "up", url=any_database, env=env)
        assert ended(again, 0)
        assert not again.events("lock_obtained")
        assert table(headstart("tenants", "status", url=any_database, env=env)) == {"a": "done", "B b": "done"}

    @pytest.mark.parametrize("computed", [False, True])
    def test_one_version_table_for_all_is_refused(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path, *, computed: bool
    ) -> None:
        """With `version_table_schema="public"` only the first tenant would ever be migrated."""
        schema = "''.join(['pub', 'lic'])" if computed else "'public'"
        text = project.env.read_text(encoding="utf-8")
        here = "connection=connection, target_metadata=target_metadata"
        project.env.write_text(text.replace(here, f"{here}, version_table_schema={schema}"), encoding="utf-8")
        env = listing(tmp_path, schemas(any_database, ["a"]))
        before = fingerprint(any_database)
        last = ended(headstart("tenants", "up", url=any_database, env=env), 10)
        assert "version_table_schema" in last["error"] + last["hint"]
        assert fingerprint(any_database) == before

    @pytest.mark.parametrize("options", ["", "?options=-csearch_path%3Dpublic"])
    def test_another_driver(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path, options: str
    ) -> None:
        """An env.py that connects with psycopg2 works in the tenant's schema too; one that leads elsewhere may not."""
        text = project.env.read_text(encoding="utf-8")
        url = f"os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg2:') + '{options}'"
        new = re.sub(r"engine_from_config\(\s.*?\n    \)\n", f"create_engine({url})\n", text, flags=re.DOTALL)
        assert new != text
        project.env.write_text(f"import os\nfrom sqlalchemy import create_engine\n{new}", encoding="utf-8")
        names = schemas(any_database, ["a", "b c"])
        run = headstart("tenants", "up", url=any_database, env=listing(tmp_path, names))
        last = ended(run, 10 if options else 0)
        assert [at(any_database, name) for name in names] == ([[], []] if options else [["b2"], ["b2"]])
        assert recorded(any_database) == []
        assert not options or "not in the tenant's schema" in last["error"]

    def test_an_asyncpg_url_of_its_own(self, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
        """An env.py that takes its URL from DATABASE_URL and connects with asyncpg works in the tenant's schema too."""
        project = Project(tmp_path, template="async")
        project.revision("a1", "create table item (id int)")
        text = project.env.read_text(encoding="utf-8")
        url = "os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+asyncpg:')"
        new = re.sub(
            r"async_engine_from_config\(\s.*?\n    \)\n", f"create_async_engine({url})\n", text, flags=re.DOTALL
        )
        assert new != text
        new = f"import os\nfrom sqlalchemy.ext.asyncio import create_async_engine\n{new}"
        project.env.write_text(new, encoding="utf-8")
        names = schemas(any_database, ["a", "b c"])
        ended(headstart("tenants", "up", url=any_database, env=listing(tmp_path, names)), 0)
        assert [at(any_database, name) for name in names] == [["a1"], ["a1"]]
        assert recorded(any_database) == []

    def test_what_a_module_remembers(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """An app's module that keeps the first `-x tenant=` that it hears of leads no other tenant astray."""
        (tmp_path / "app.py").write_text("tenant = None\n", encoding="utf-8")
        project.in_env(
            f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport app\n"
            "app.tenant = app.tenant or context.get_x_argument(as_dictionary=True)['tenant']"
        )
        project.revision(
            "c3",
            body="import app\nop.execute(f'create table \"{app.tenant}\".kept (id int)')\n"
            "op.execute('create table mine (id int)')",
        )
        names = schemas(any_database, ["a", "b", "c"])
        ended(headstart("tenants", "up", url=any_database, env=listing(tmp_path, names)), 0)
        query = "select schemaname, tablename from pg_tables where tablename in ('kept', 'mine') order by 1, 2"
        assert psql(any_database, query) == [(name, each) for name in names for each in ("kept", "mine")]

    def test_one_transaction(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """An env.py that holds a transaction around all revisions keeps it: of the tenant that fails nothing stays."""
        text = project.env.read_text(encoding="utf-8")
        project.env.write_text(text.replace("connectable.connect()", "connectable.begin()"), encoding="utf-8")
        assert project.env.read_text(encoding="utf-8") != text
        names = schemas(any_database, ["a", "b", "c"])
        script(any_database, "create table b.item_name (id int)")
        project.revision("c3", "create table item_name (id int)")
        run = headstart("tenants", "up", url=any_database, env={**listing(tmp_path, names), "HEADSTART_BACKUP": "off"})
        ended(run, 60)
        assert [at(any_database, name) for name in ("a", "c")] == [["c3"], ["c3"]]
        assert psql(any_database, "select tablename from pg_tables where schemaname = 'b'") == [("item_name",)]
        assert {line["tenant"] for line in run.events("one_transaction")} == set(names)

    def test_a_shared_version_table_on_the_path(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """A version table of a schema that follows in the search path is not taken for that of a new tenant."""
        script(
            any_database, "create table alembic_version (version_num text); insert into alembic_version values ('b2')"
        )
        env = {**listing(tmp_path, schemas(any_database, ["a"])), "HEADSTART_BACKUP": "off"}
        ended(headstart("tenants", "up", "--tenants-search-path=public", url=any_database, env=env), 0)
        assert at(any_database, "a") == ["b2"]
        assert psql(any_database, "select schemaname from pg_tables where tablename = 'item'") == [("a",)]

    def test_a_role_without_privileges(
        self, project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str, tmp_path: Path
    ) -> None:
        """A schema that the role may not use, or not create in, fails alone, with the GRANT that is missing."""
        make_role(any_server, "plain", "ZqX")
        schemas(any_database, ["a", "b", "c"])
        script(any_database, "grant usage, create on schema a to plain; grant usage on schema b to plain")
        url = with_password(any_database, "ZqX", user="plain")
        env = {**listing(tmp_path, "abc"), "HEADSTART_BACKUP": "off"}
        run = headstart("tenants", "up", "--json", url=url, env=env)
        ended(run, 21)
        found = {each["tenant"]: each for each in json.loads(run.stdout)["tenants"]}
        assert [found[name]["exit_code"] for name in "abc"] == [0, 21, 10]
        assert "grant create on schema" in found["b"]["hint"]
        assert "grant usage, create on schema" in found["c"]["hint"]

    def test_a_tenant_that_is_ahead(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """One tenant at a revision that nobody knows fails alone, and with the code that says so."""
        names = schemas(any_database, ["a", "b"])
        env = {**listing(tmp_path, names), "HEADSTART_BACKUP": "off"}
        ended(headstart("tenants", "up", url=any_database, env=env), 0)
        script(any_database, "update b.alembic_version set version_num = 'ffff'")
        project.revision("c3", "create table more (id int)")
        last = ended(headstart("tenants", "up", url=any_database, env=env), 72)
        assert "b (72)" in last["error"]
        assert (at(any_database, "a"), at(any_database, "b")) == (["c3"], ["ffff"])

    def test_an_edited_revision(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """A revision that was edited since is found for each tenant that has it, pending or not."""
        names = schemas(any_database, ["a", "b"])
        env = {**listing(tmp_path, names), "HEADSTART_BACKUP": "off"}
        ended(headstart("tenants", "up", url=any_database, env=env), 0)
        path = project.versions / "a1.py"
        path.write_text(path.read_text(encoding="utf-8").replace("primary key", "unique"), encoding="utf-8")
        assert "2 of 2 tenants failed" in ended(headstart("tenants", "up", url=any_database, env=env), 73)["error"]


class TestOrder:
    """Who is begun, and who is not."""

    @pytest.mark.parametrize("canary", ["b", "2"])
    def test_a_canary_that_fails(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path, canary: str
    ) -> None:
        """If a canary fails, no other tenant is begun."""
        names = schemas(any_database, ["a", "b", "c", "d"])
        script(any_database, "create table b.item (other text)")
        run = headstart("tenants", "up", f"--tenants-canary={canary}", url=any_database, env=listing(tmp_path, names))
        last = ended(run, 60)
        assert (last["failed"], last["not_begun"]) == (1, 3 if canary == "b" else 2)
        assert [at(any_database, name) for name in "cd"] == [[], []]
        assert at(any_database, "a") == ([] if canary == "b" else ["b2"])

    def test_a_canary_that_does_not(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """The canary is done before any other is begun."""
        names = schemas(any_database, ["a", "b", "c"])
        run = headstart("tenants", "up", "--tenants-canary=c", url=any_database, env=listing(tmp_path, names))
        ended(run, 0)
        order = [line["tenant"] for line in run.log if line.get("tenant")]
        assert set(order[: order.count("c")]) == {"c"}
        assert list(table(run)) == ["c", "a", "b"]

    def test_stop(self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
        """With HEADSTART_TENANTS_ON_FAILURE=stop none is begun once one has failed."""
        names = schemas(any_database, ["a", "b", "c"])
        script(any_database, "create table b.item (other text)")
        env = {**listing(tmp_path, names), "HEADSTART_TENANTS_ON_FAILURE": "stop", "HEADSTART_TENANTS_PARALLEL": "1"}
        run = headstart("tenants", "up", url=any_database, env=env)
        ended(run, 60)
        assert table(run) == {"a": "done", "b": "migration_failed", "c": "not_begun"}

    def test_shares(self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
        """Each pod of an indexed Job has its share; together they do every tenant once; the canary is in each."""
        names = schemas(any_database, (f"tenant_{n}" for n in range(9)))
        env = {**listing(tmp_path, names), "HEADSTART_TENANTS_CANARY": "tenant_4", "HEADSTART_BACKUP": "off"}
        shares = []
        for index in range(3):
            given = {"HEADSTART_TENANTS_SHARE": "3", "JOB_COMPLETION_INDEX": str(index)}
            run = headstart("tenants", "up", url=any_database, env={**env, **given})
            ended(run, 0)
            shares.append(list(table(run)))
        assert [share[0] for share in shares] == ["tenant_4"] * 3
        assert sorted(name for share in shares for name in share[1:]) == sorted(set(names) - {"tenant_4"})
        assert psql(any_database, "select count(*), count(distinct (history, revision)) from headstart.ledger") == [
            (18, 18)
        ]

    def test_an_empty_share(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """A pod without a tenant has nothing to do, and that is no failure."""
        env = listing(tmp_path, schemas(any_database, ["a"]))
        runs = [headstart("tenants", "up", f"--tenants-share={n}/2", url=any_database, env=env) for n in range(2)]
        assert [run.code for run in runs] == [0, 0]
        assert sorted(seen(run)["tenants"] for run in runs) == [0, 1]


class TestDatabases:
    """Each tenant is a database."""

    def test_by_name(
        self,
        project: Project,
        headstart: Callable[..., Run],
        any_database: str,
        databases: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """Databases of DATABASE_URL's server, each with its own backup; env.py finds its own URL in the environment."""
        project.in_env(
            "import os\nurl = os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+psycopg2:')\n"
            "config.set_main_option('sqlalchemy.url', url.replace('%', '%%'))"
        )
        names = ['Big "Corp"', "small's", "ü%"]
        urls = databases(*names)
        script(urls[0], "create table old (id int)")
        env = {**listing(tmp_path, names), "HEADSTART_TENANTS_KIND": "database"}
        run = headstart("tenants", "up", url=any_database, env=env)
        ended(run, 0)
        assert [recorded(url) for url in urls] == [["b2"]] * 3
        assert recorded(any_database) == []
        assert len(list((tmp_path / "backups").glob("*/*"))) == 1
        again = headstart("tenants", "up", url=any_database, env=env)
        assert (ended(again, 0), seen(again)["at_target"], again.events("lock_obtained")) == (again.last, 3, [])

    def test_by_url(
        self,
        project: Project,
        headstart: Callable[..., Run],
        any_server: Postgres,
        databases: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """URLs of their own need no DATABASE_URL; one that is refused fails alone; no password is shown."""
        passwords = ["p@ss:/w%ord one", "ZqX'second\\"]
        urls = databases(None, None, None)
        for number, password in enumerate(passwords):
            make_role(any_server, f"tenant {number}", password)
            script(urls[number], f'grant create on schema public to "tenant {number}"')
        lines = [f"t{n} {with_password(urls[n], passwords[n], user=f'tenant {n}')}" for n in range(2)]
        lines.append(with_password(urls[2], "ZqWrong", user="tenant 0").replace("127.0.0.1", "localhost"))
        env = {**listing(tmp_path, lines), "HEADSTART_TENANTS_KIND": "database", "HEADSTART_WAIT_TIMEOUT": "2s"}
        project.in_env("import os\nprint('env.py has', os.environ['DATABASE_URL'], os.environ.get('PGPASSWORD'))")
        run = headstart("tenants", "up", env=env)
        last = ended(run, 21, secrets=[*passwords, "ZqWrong"])
        assert (last["at_target"], last["failed"]) == (2, 1)
        assert table(run)[database_of(urls[2])] == "refused"
        assert [recorded(url) for url in urls] == [["b2"], ["b2"], []]
        assert len(run.events("script_output")) >= 2
        for verb in ("status", "list"):
            leaks_nothing(headstart("tenants", verb, "--json", env=env), [*passwords, "ZqWrong"])

    def test_a_database_that_does_not_answer(
        self,
        project: Project,
        headstart: Callable[..., Run],
        databases: Callable[..., list[str]],
        tmp_path: Path,
    ) -> None:
        """A tenant whose server is away is not ready (20), and the others are done meanwhile."""
        (url,) = databases(None)
        env = {
            **listing(tmp_path, ["away postgresql://app@127.0.0.1:1/app", f"here {url}"]),
            "HEADSTART_TENANTS_KIND": "database",
            "HEADSTART_WAIT_TIMEOUT": "1s",
        }
        run = headstart("tenants", "up", env=env)
        assert "away (20)" in ended(run, 20)["error"]
        assert table(run) == {"away": "not_ready", "here": "done"}


class TestList:
    """Where the names come from, and what is wrong with them."""

    def test_a_query(self, project: Project, headstart: Callable[..., Run], any_database: str) -> None:
        """A query on DATABASE_URL gives the names; a list without anybody is no failure."""
        schemas(any_database, ["a", "b"])
        script(any_database, "create table customer (name text, at int)")
        env = {"HEADSTART_TENANTS_QUERY": "select name from customer order by at desc", "HEADSTART_BACKUP": "off"}
        run = headstart("tenants", "up", url=any_database, env=env)
        assert (ended(run, 0), seen(run)["tenants"]) == (run.last, 0)
        script(any_database, "insert into customer values ('a', 1), ('b', 2)")
        ended(headstart("tenants", "up", url=any_database, env=env), 0)
        assert headstart("tenants", "list", url=any_database, env=env).stdout == "b\na\n"
        assert at(any_database, "b") == ["b2"]

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("select nothing", 'column "nothing" does not exist'),
            ("select 1, 2", "gives 2 columns"),
            ("create table t (id int)", "read-only"),
            ("select null", "row 1: the name is empty"),
        ],
    )
    def test_a_query_that_does_not_do(
        self, project: Project, headstart: Callable[..., Run], any_database: str, query: str, said: str
    ) -> None:
        """A query that fails, writes, or gives something else than names is a problem of the settings."""
        run = headstart("tenants", "up", url=any_database, env={"HEADSTART_TENANTS_QUERY": query})
        assert said in ended(run, 10)["error"]

    def test_every_problem_at_once(
        self, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
    ) -> None:
        """Whoever is not there, there twice, nobody's, or a URL among schemas: all are told, and nobody is begun."""
        schemas(any_database, ["a", "b"])
        lines = ["a", "nowhere", "b", "a", "pg_catalog", "headstart", "c postgresql://u:ZqX@h/d", "postgres//u:ZqX@h/d"]
        before = fingerprint(any_database)
        last = ended(headstart("tenants", "up", url=any_database, env=listing(tmp_path, lines)), 10, secrets=["ZqX"])
        for said in (
            "line 2 ('nowhere'): there is no schema of that name",
            "line 4 ('a'): HEADSTART_TENANTS_FILE line 1 has the same name",
            "line 5 ('pg_catalog'): that schema is no tenant's",
            "line 6 ('headstart'): that schema is no tenant's",
            "line 7: a URL is a database: set HEADSTART_TENANTS_KIND=database",
            "line 8: there is no schema of that name",
        ):
            assert said in last["error"]
        assert fingerprint(any_database) == before

    @pytest.mark.parametrize(
        ("env", "said"),
        [
            ({}, "neither is set"),
            ({"HEADSTART_TENANTS_FILE": "x", "HEADSTART_TENANTS_QUERY": "select 1"}, "both are set"),
            ({"HEADSTART_TENANTS_FILE": "none.txt"}, "cannot read 'none.txt'"),
            ({"HEADSTART_TENANTS_FILE": "empty.txt"}, "names no tenant"),
            ({"HEADSTART_TENANTS_QUERY": "select 'a'", "HEADSTART_TENANTS_SHARE": "3"}, "JOB_COMPLETION_INDEX"),
            ({"HEADSTART_TENANTS_QUERY": "select 'a'", "HEADSTART_TENANTS_CANARY": "b"}, "'b' is neither a number nor"),
        ],
    )
    def test_no_list(
        self,
        project: Project,
        headstart: Callable[..., Run],
        any_database: str,
        tmp_path: Path,
        env: dict[str, str],
        said: str,
    ) -> None:
        """No list, or no share or canary of it that there could be, is a problem of the settings."""
        schemas(any_database, ["a"])
        (tmp_path / "empty.txt").write_text("# nobody yet\n", encoding="utf-8")
        assert said in ended(headstart("tenants", "up", url=any_database, env=env), 10)["error"]

    def test_no_database(self, project: Project, headstart: Callable[..., Run], tmp_path: Path) -> None:
        """Names alone need DATABASE_URL."""
        last = ended(headstart("tenants", "up", env=listing(tmp_path, ["a"])), 10)
        assert last["error"].startswith("DATABASE_URL: it is not set")


def test_status(project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
    """`tenants status` says where each stands and what is pending, changing nothing; `--exit-code` makes that a 3."""
    names = schemas(any_database, ["a", "b"])
    ended(headstart("tenants", "up", url=any_database, env=listing(tmp_path, ["a"])), 0)
    env = listing(tmp_path, names)
    before = fingerprint(any_database)
    run = headstart("tenants", "status", "--json", url=any_database, env=env)
    ended(run, 0)
    found = json.loads(run.stdout)
    assert [(each["tenant"], each["revision_after"], each["pending"]) for each in found["tenants"]] == [
        ("a", "b2", []),
        ("b", "base", ["a1", "b2"]),
    ]
    assert (found["counts"]["at_target"], found["counts"]["pending"]) == (1, 1)
    assert headstart("tenants", "status", "--exit-code", url=any_database, env=env).code == 3
    assert fingerprint(any_database) == before


def test_a_history_that_is_broken(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """Several heads are everybody's: the run ends with 70, and nobody is begun."""
    project.revision("c3", down="a1")
    run = headstart("tenants", "up", url=any_database, env=listing(tmp_path, schemas(any_database, ["a"])))
    ended(run, 70)
    assert run.stdout == ""


def test_the_document(
    project: Project, any_server: Postgres, any_database: str, databases: Callable[..., list[str]], tmp_path: Path
) -> None:
    """What docs/tenants.md says can be typed, typed: schemas by a query, databases by a file."""
    commands = [block for block in blocks(DOCUMENT) if "kubectl" not in block]
    assert len(commands) == 2
    schemas(any_database, ["a", "b"])
    script(any_database, "create table customer (schema_name text); insert into customer values ('a'), ('b')")
    urls = databases(None, None)
    listing(tmp_path, [database_of(urls[0]), f"other {urls[1]}"])
    environ = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), path_of(any_server)]),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "DATABASE_URL": any_database,
    }
    for command in commands:
        done = subprocess.run(
            ["sh", "-eu", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert [at(any_database, name) for name in "ab"] == [["b2"], ["b2"]]
    assert [recorded(url) for url in urls] == [["b2"], ["b2"]]


def test_each_setting_is_in_the_document() -> None:
    """docs/tenants.md names each setting of `tenants`."""
    text = DOCUMENT.read_text(encoding="utf-8")
    ours = [setting.name for setting in SETTINGS if setting.name.startswith("HEADSTART_TENANTS_")]
    assert len(ours) == 8
    assert [name for name in ours if name not in text] == []
