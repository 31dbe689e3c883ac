"""`headstart check`: for each thing that it must refuse a project that has it, and one that has none of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest

from acceptance.checks import ended, leaks_nothing, make_role, planted, with_password
from support.postgres import psql, script
from support.process import RUNNER
from support.project import INI, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project

MODELS = """
import sqlalchemy as sa
target_metadata = sa.MetaData()
sa.Table("a", target_metadata, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.Text))
"""
BASELINE = """revision = "s1"
down_revision = None
archive = "migrations/archive/s1"
squashed = (("a1", "{digest}", "{digest}"),)
def upgrade() -> None:
    pass
def downgrade() -> None:
    pass
"""
SCRATCH = "select count(*) from pg_database where starts_with(datname, 'headstart_scratch_')"
A = "create table a (id bigint primary key, name text)"


class Check(Protocol):
    """Run `headstart check` with a scratch server."""

    def __call__(self, *args: str, code: int = 0, url: str | None = None, env: Mapping[str, str] | None = None) -> Run:
        """It ends with `code`."""


class Found(Protocol):
    """The findings of `headstart check --format json`: (check, told, path, line)."""

    def __call__(self, *args: str, url: str | None = None) -> list[dict[str, Any]]:
        """As JSON has them; there is one at least."""


@pytest.fixture
def check(run_headstart: Callable[..., Run], any_server: Postgres) -> Check:
    """On a given scratch server, which is there already."""
    password = urlsplit(any_server.url()).password or ""

    def run(*args: str, code: int = 0, url: str | None = None, env: Mapping[str, str] | None = None) -> Run:
        done = run_headstart("check", *args, url=url, env={"HEADSTART_SCRATCH_URL": any_server.url(), **(env or {})})
        if code:
            ended(done, code, secrets=[password])
        assert done.code == code, str(done)
        leaks_nothing(done, [password])
        assert psql(any_server.url(), SCRATCH) == [(0,)], f"a scratch database stayed behind: {done}"
        return done

    return run


@pytest.fixture
def found(check: Check) -> Found:
    """Only what was found."""

    def run(*args: str, url: str | None = None) -> list[dict[str, Any]]:
        done = check(*args, "--format", "json", code=80, url=url)
        report = json.loads(done.stdout)
        assert not report["ok"]
        assert done.last["findings"] == [each["key"] for each in report["findings"] if each["severity"] == "refuse"]
        findings: list[dict[str, Any]] = report["findings"]
        return findings

    return run


def only(findings: list[dict[str, Any]]) -> dict[str, Any]:
    """The one finding."""
    assert len(findings) == 1, findings
    return findings[0]


def models(project: Project, code: str = MODELS) -> None:
    """Let env.py have models."""
    text = project.env.read_text(encoding="utf-8")
    assert "target_metadata = None" in text
    project.env.write_text(text.replace("target_metadata = None", code), encoding="utf-8")


def git(folder: Path, *arguments: str) -> None:
    """Run git, as somebody."""
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(project: Project) -> Callable[[], None]:
    """Make the project a repository whose branch `main` has what there is now, on a branch of its own."""

    def commit() -> None:
        git(project.folder, "init", "--quiet", "--initial-branch=main")
        git(project.folder, "add", ".")
        git(project.folder, "commit", "--quiet", "--message=first")
        git(project.folder, "checkout", "--quiet", "-b", "work")

    return commit


class TestClean:
    """A project in order."""

    def test_nothing_is_found(self, project: Project, check: Check, repository: Callable[[], None]) -> None:
        """Exit 0: every check is ok, in every format, and nothing is logged."""
        models(project)
        project.revision("a1", A, undo=["drop table a"])
        repository()
        project.revision("b2", "create view v as select id from a", undo=["drop view v"])
        done = check("--since", "main")
        checks = ["heads", "edited", "external-sql", "round-trip", "models", "schema-file", "rules"]
        assert [line.split() for line in done.stdout.splitlines()[:-1] if "schema-file" not in line] == [
            [each, "ok"] for each in checks if each != "schema-file"
        ]
        assert done.stdout.splitlines()[-1].startswith("0 findings")
        assert done.stderr == ""
        report = json.loads(check("--since", "main", "--format", "json").stdout)
        assert (report["ok"], report["findings"], report["revisions"], report["checks"]) == (True, [], 2, checks)
        annotations = check("--since", "main", "--format", "github").stdout.splitlines()
        assert [line for line in annotations if line.startswith(("::error", "::warning"))] == []

    def test_a_history_of_branches(self, project: Project, check: Check) -> None:
        """Branches that are merged, data that is changed, and what cannot be in a transaction are all in order."""
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", "create table b (id int)", undo=["drop table b"], down="a1")
        project.revision("c3", "insert into a (id) values (1)", undo=["delete from a"], down="a1")
        project.revision("d4", down=("b2", "c3"))
        project.revision(
            "e5",
            body="with op.get_context().autocommit_block():\n    op.execute('create index concurrently i on a (name)')",
            undo=["drop index i"],
        )
        check()

    def test_a_history_that_only_alembic_can_read(self, project: Project, check: Check, found: Found) -> None:
        """Computed ids are in order too, and two heads among them are found."""
        path = project.revision("a1", A, undo=["drop table a"])
        path.write_text(path.read_text(encoding="utf-8").replace("str = 'a1'", "str = 'A1'.lower()"), encoding="utf-8")
        check()
        project.revision("b2", "create table b (id bigint)", undo=["drop table b"], down="a1")
        project.revision("c3", "create table c (id bigint)", undo=["drop table c"], down="a1")
        assert only(found("--only", "heads,round-trip"))["key"] == "heads:b2,c3"

    def test_an_empty_history(self, project: Project, check: Check) -> None:
        """A project without revisions has nothing wrong with it."""
        assert "0 findings in 0 revisions" in check().stdout

    def test_on_a_server_of_our_own(self, project: Project, run_headstart: Callable[..., Run]) -> None:
        """Without HEADSTART_SCRATCH_URL and DATABASE_URL a server is started for it."""
        project.revision("a1", A, undo=["drop table a"])
        done = run_headstart("check")
        assert done.code == 0, str(done)
        assert done.stderr == ""

    def test_files_alone(
        self, project: Project, run_headstart: Callable[..., Run], repository: Callable[[], None], tmp_path: Path
    ) -> None:
        """What only reads files, as a pre-commit hook does, needs neither a server nor Alembic."""
        project.revision("a1", A)
        repository()
        code = "import sys\nsys.modules['alembic'] = sys.modules['sqlalchemy'] = None\n"
        done = run_headstart(
            "check", "--only", "heads,edited,external-sql", "--since", "main", env=planted(tmp_path, code)
        )
        assert done.code == 0, str(done)
        assert "0 findings in 1 revision" in done.stdout

    def test_without_any_postgres(self, project: Project, run_headstart: Callable[..., Run], tmp_path: Path) -> None:
        """Where there is no Postgres the error says what to install, or what to set."""
        code = "import headstart.postgres.embedded\nheadstart.postgres.embedded.installations = lambda *_: []\n"
        done = run_headstart("check", env=planted(tmp_path, code))
        hint = ended(done, 10)["hint"]
        assert "headstart[embedded]" in hint
        assert "HEADSTART_SCRATCH_URL" in hint

    def test_the_database_of_the_project_is_not_touched(
        self, project: Project, check: Check, any_database: str
    ) -> None:
        """DATABASE_URL may be there: nothing in that database changes."""
        url = "os.environ['DATABASE_URL'].replace('postgresql:', 'postgresql+asyncpg:').replace('%', '%%')"
        project.in_env(f"import os; config.set_main_option('sqlalchemy.url', {url})")
        project.revision("a1", A, undo=["drop table a"])
        before = fingerprint(any_database)
        check(url=any_database)
        assert fingerprint(any_database) == before

    def test_a_database_of_env_py_is_never_reached(
        self, project: Project, check: Check, any_server: Postgres, any_database: str
    ) -> None:
        """An env.py with an address of its own, whatever its engine, opens no session there."""
        models(
            project,
            f"""{MODELS}
from sqlalchemy import create_engine
OWN = {any_database!r}
config.set_main_option("sqlalchemy.url", OWN.replace("postgresql:", "postgresql+asyncpg:").replace("%", "%%"))
with create_engine(OWN.replace("postgresql:", "postgresql+psycopg2:")).connect() as connection:
    assert connection.exec_driver_sql("select current_database()").scalar().startswith("headstart_scratch_")
""",
        )
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", "create table b (id bigint)", undo=["drop table b"])
        name = urlsplit(any_database).path.removeprefix("/")
        psql(any_server.url(), f"alter database {name} allow_connections false")
        report = json.loads(check("--format", "json", code=80).stdout)
        assert [each["key"] for each in report["findings"]] == ["models:remove_table:table b"]

    def test_one_transaction_for_all(self, project: Project, check: Check, found: Found) -> None:
        """An env.py that holds one transaction around all revisions is checked revision by revision, too."""
        models(project)
        text = project.env.read_text(encoding="utf-8")
        assert "with connectable.connect() as connection:" in text
        project.env.write_text(text.replace("connectable.connect()", "connectable.begin()"), encoding="utf-8")
        project.revision("a1", A, undo=["drop table a"])
        check()
        project.revision("b2", "create table b (id bigint)")
        project.revision("c3", "alter table a add c text", undo=["alter table a drop c"])
        assert [each["key"] for each in found()] == [
            "round-trip:b2:downgrade-empty",
            "models:remove_table:table b",
            "models:remove_column:column a.c",
        ]


class TestReferenceProject:
    """The history that comes with Headstart."""

    @pytest.mark.slow
    def test_nothing_is_found(self, run_headstart: Callable[..., Run], any_server: Postgres) -> None:
        """Nothing is found in the reference project."""
        env = {"HEADSTART_SCRATCH_URL": any_server.url(), "PYTHONPATH": str(RUNNER)}
        done = run_headstart("check", "--format", "json", env=env, cwd=RUNNER.parent, seconds=120)
        assert done.code == 0, str(done)
        report = json.loads(done.stdout)
        assert (report["findings"], report["accepted"], report["not_run"]) == ([], [], {})
        assert report["revisions"] >= 20


class TestHeads:
    """One history, one head."""

    def test_two_heads(self, project: Project, found: Found) -> None:
        """Both files and their common parent are named, and the command that merges them."""
        project.revision("a1", A, undo=["drop table a"])
        b2 = project.revision("b2", "create table b (id int)", undo=["drop table b"], down="a1")
        c3 = project.revision("c3", "create table c (id int)", undo=["drop table c"], down="a1")
        one = only(found())
        assert one["check"] == "heads"
        assert one["key"] == "heads:b2,c3"
        assert f"b2 ({b2}) and c3 ({c3})" in one["told"]
        assert "they diverge after a1" in one["told"]
        assert "headstart merge heads -m" in one["remedy"]

    def test_a_missing_parent(self, project: Project, found: Found) -> None:
        """A history with a hole is told with the file, and nothing else can be checked."""
        path = project.revision("b2", A, down="a1")
        one = only(found())
        assert one["check"] == "heads"
        assert "b2" in one["told"]
        assert "a1" in one["told"]
        assert one["path"] == str(path.relative_to(project.folder))

    @pytest.mark.parametrize(
        ("line", "words"), [("def upgrade(:", "a1.py, line 3"), ("import nothing_of_the_kind", "a1.py:3")]
    )
    def test_a_file_that_cannot_be_loaded(self, project: Project, check: Check, line: str, words: str) -> None:
        """Such a file is named with its line, and the other checks are told as not run."""
        project.write("a1.py", f"revision = 'a1'\ndown_revision = None\n{line}\n")
        out = check(code=80).stdout
        assert words in out
        assert "round-trip    not run: the history is broken" in out
        assert "rules         not run: the history is broken" in out


class TestRoundTrip:
    """Every revision up, down and up again."""

    def test_what_a_downgrade_leaves(self, project: Project, found: Found) -> None:
        """Every object that is not as it was is named, with the revision, and the line of its downgrade."""
        project.revision("a1", A, undo=["drop table a"])
        path = project.revision(
            "b2", "create type mood as enum ('ok')", "create table b (m mood)", undo=["drop table b", "drop table a"]
        )
        one = only([each for each in found("--only", "round-trip") if each["key"] == "round-trip:b2:downgrade-differs"])
        assert "type public.mood" in one["told"].replace("enum ", "type ")
        assert "table public.a: only in the schema before it" in one["told"]
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[one["line"] - 1].startswith("def downgrade")
        assert one["path"] == str(path.relative_to(project.folder))

    def test_it_goes_on(self, project: Project, found: Found) -> None:
        """Whatever a revision leaves behind, all those after it are checked as if it had not."""
        project.revision("a1", "create type t1 as enum ('x')", "create table a (x t1)", undo=["drop table a"])
        project.revision("b2", "create table b (x t1)", undo=["drop table b"])
        project.revision("c3", "create type t3 as enum ('x')", "create table c (x t3)", undo=["drop table c"])
        project.revision("d4", body="op.execute('create table d (x t3)')", undo=[])
        project.revision("e5", "create table e (x t1, y t3)", undo=["drop table d", "drop table e"])
        project.revision("f6", "create table f (x t1, y t3)", undo=["drop table f"])
        keys = [each["key"] for each in found("--only", "round-trip")]
        assert keys == [
            "round-trip:a1:downgrade-differs",
            "round-trip:c3:downgrade-differs",
            "round-trip:d4:downgrade-empty",
            "round-trip:e5:downgrade-differs",
        ]

    def test_privileges(self, project: Project, found: Found, any_server: Postgres) -> None:
        """What a revision grants and does not revoke is found."""
        make_role(any_server, "check_reader")
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", "grant select on a to check_reader", undo=["select 1"])
        one = only(found("--only", "round-trip"))
        assert one["key"] == "round-trip:b2:downgrade-empty"

    @pytest.mark.parametrize(
        ("undo", "kind", "words"),
        [
            ("raise NotImplementedError", "irreversible", ["refuses"]),
            ("raise NotImplementedError('no way back')", "irreversible", ["refuses"]),
            ("pass", "downgrade-empty", ["leaves everything as it is"]),
            ("op.execute('drop table b')", "downgrade-fails", ["42P01", "drop table b"]),
            ("raise RuntimeError('no way back')", "downgrade-fails", ["RuntimeError: no way back"]),
        ],
    )
    def test_what_cannot_be_reverted(
        self, project: Project, found: Found, undo: str, kind: str, words: list[str]
    ) -> None:
        """A downgrade that refuses, does nothing or fails is told as what it is, and the rest is checked."""
        path = project.revision("a1", A)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("def downgrade() -> None:\n    pass", f"def downgrade() -> None:\n    {undo}"))
        project.revision("b2", "create table c (id int)")
        one, other = found("--only", "round-trip")
        assert one["key"] == f"round-trip:a1:{kind}"
        assert all(word in one["told"] for word in words), one
        assert other["key"] == "round-trip:b2:downgrade-empty"

    def test_a_second_time(self, project: Project, found: Found) -> None:
        """A revision that fails, or does something else, when it is applied again after its downgrade is found."""
        project.revision("a1", "create table mark (id int primary key)", undo=["drop table mark"])
        project.revision("b2", "insert into mark values (1)", undo=["select 1"])
        project.revision(
            "c3",
            "do $$ begin if exists (select from mark where id = 2) then create table c (id int); end if;"
            " insert into mark values (2) on conflict do nothing; end $$",
            undo=["drop table if exists c"],
        )
        one, other = found("--only", "round-trip")
        assert one["key"] == "round-trip:b2:again-fails"
        assert "23505" in one["told"]
        assert other["key"] == "round-trip:c3:again-differs"
        assert "table public.c: only in the schema the second time" in other["told"]

    def test_a_revision_that_fails(self, project: Project, check: Check, found: Found) -> None:
        """One that fails on the empty database is told with revision, statement and SQLSTATE; the rest is not run."""
        project.revision("a1", A, undo=["drop table a"])
        path = project.revision("b2", "create index i on nowhere (id)")
        one = only(found())
        assert one["key"] == "round-trip:b2:fails"
        assert '"nowhere" does not exist [42P01]: create index i on nowhere (id)' in one["told"]
        assert "create index" in path.read_text(encoding="utf-8").splitlines()[one["line"] - 1]
        report = json.loads(check("--format", "json", code=80).stdout)
        assert report["not_run"].keys() == {"round-trip", "models", "schema-file", "rules"}
        alone = only(found("--only", "models"))
        assert alone["key"] == "models:b2:fails"

    def test_an_external_file_that_is_missing(self, project: Project, found: Found) -> None:
        """A file that a revision wants and that is not there is named, with the line."""
        path = project.revision("a1", body="op.execute(open('sql/a1.sql').read())")
        one = only(found("--only", "round-trip"))
        assert "FileNotFoundError" in one["told"]
        assert "sql/a1.sql" in one["told"]
        assert "open(" in path.read_text(encoding="utf-8").splitlines()[one["line"] - 1]


class TestModels:
    """The models against the revisions."""

    @pytest.mark.parametrize(
        ("built", "told"),
        [
            ("create table a (id bigint primary key)", "column a.name: in the models, not in the revisions"),
            (f"{A}; create table b (id int)", "table b: in the revisions, not in the models"),
            ("select 1", "table a: in the models, not in the revisions"),
            ("create table a (id smallint primary key, name text)", "column a.id: type is `SMALLINT`"),
            ("create table a (id bigint primary key, name text not null)", "column a.name: nullable is false"),
            (f"{A}; create index i on a (name)", "index i on a (name): in the revisions, not in the models"),
            (f"{A}; alter table a add constraint u unique (name)", "unique constraint u on a (name): in the revisions"),
        ],
    )
    def test_what_differs(self, project: Project, found: Found, built: str, told: str) -> None:
        """What only one of the two has is named, and what they define otherwise with both."""
        models(project)
        project.revision("a1", built)
        one = only(found("--only", "models"))
        assert told in one["told"]
        extra = "in the revisions, not in the models" in one["told"]
        assert one["remedy"].startswith(
            "add it to the models; or, if it should go, " if extra else "`headstart revision"
        )
        assert "revision --autogenerate" in one["remedy"]

    def test_without_models(self, project: Project, check: Check) -> None:
        """Where env.py has no target_metadata it says so, and that is no finding."""
        project.revision("a1", A, undo=["drop table a"])
        assert "models        nothing to compare: env.py gives no target_metadata" in check().stdout

    def test_the_filters_of_env(self, project: Project, check: Check) -> None:
        """What env.py tells Alembic to leave out is left out, and a hook that takes empty revisions out is obeyed."""
        models(project, MODELS + "sa.Table('b', target_metadata, sa.Column('id', sa.Integer))\n")
        text = project.env.read_text(encoding="utf-8")
        options = (
            "include_name=lambda name, kind, parents: kind != 'table' or name != 'b',"
            " process_revision_directives=lambda context, revision, directives: directives.clear()"
            " if config.cmd_opts.autogenerate and directives[0].upgrade_ops.is_empty() else None,"
            " include_object=lambda thing, name, kind, reflected, other: name != 'b',"
        )
        project.env.write_text(text.replace("connection=connection,", f"connection=connection, {options}"))
        project.revision("a1", A, undo=["drop table a"])
        assert "models        ok" in check("--only", "models").stdout


class TestDrift:
    """A given database against the revision that it records."""

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("alter table a add column extra text", "column public.a.extra: only in the database"),
            ("drop view v", "view public.v: only in the revisions up to b2"),
            ("create or replace view v as select id + 1 as id from a", "view public.v: "),
            ("create or replace function f() returns int language sql as 'select 2'", "function public.f()"),
            ("alter type mood add value 'bad'", "public.mood"),
            ("alter table a drop constraint a_pkey", "a_pkey"),
            ("alter table a add check (id > 0)", "a_id_check"),
            ("create trigger t before update on a execute function suppress_redundant_updates_trigger()", "public.a.t"),
        ],
    )
    def test_what_differs(
        self, project: Project, check: Check, found: Found, headstart: Callable[..., Run], any_database: str,
        change: str, told: str,
    ) -> None:  # fmt: skip
        """What was changed by hand is named, what Alembic does not see too; right after `up` there is nothing."""
        project.revision("a1", A, "create type mood as enum ('ok')")
        project.revision(
            "b2", "create view v as select id from a", "create function f() returns int language sql as 'select 1'"
        )
        assert headstart("up", url=any_database).code == 0
        project.revision("c3", "create table later (id int)")
        assert "drift         ok" in check("--only", "drift", url=any_database).stdout
        script(any_database, change)
        before = fingerprint(any_database)
        findings = found("--only", "heads", "--database", url=any_database)
        assert any(told in each["told"] for each in findings), findings
        assert {each["check"] for each in findings} == {"drift"}
        assert fingerprint(any_database) == before

    def test_other_databases(self, project: Project, found: Found, any_database: str) -> None:
        """A database that records nothing, or what nobody knows, is told as that."""
        project.revision("a1", A)
        script(any_database, A)
        assert only(found("--only", "drift", url=any_database))["key"] == "drift:unversioned"
        script(
            any_database, "create table alembic_version (version_num text); insert into alembic_version values ('x')"
        )
        assert "at x, which is not in this history" in only(found("--only", "drift", url=any_database))["told"]

    def test_a_database_is_needed(self, project: Project, check: Check) -> None:
        """Without DATABASE_URL `--database` is wrong configuration."""
        assert "DATABASE_URL" in check("--database", code=10).last["error"]


class TestEdited:
    """Revisions of the git base."""

    def test_edited_removed_and_added(self, project: Project, found: Found, repository: Callable[[], None]) -> None:
        """What does something else or is gone is named; what is new may change; layout and comments do not count."""
        paths = [project.revision(f"r{n}", f"create table t{n} (id int)", undo=[f"drop table t{n}"]) for n in range(4)]
        repository()
        git(project.folder, "checkout", "--quiet", "main")
        project.revision("z9", "create table later_on_main (id int)", undo=["drop table later_on_main"])
        git(project.folder, "add", ".")
        git(project.folder, "commit", "--quiet", "--message=second")
        git(project.folder, "checkout", "--quiet", "work")
        text = paths[1].read_text(encoding="utf-8")
        paths[1].write_text(text.replace("create table t1 (id int)", "create table t1 (id bigint)"), encoding="utf-8")
        paths[0].write_text("# a comment\n" + paths[0].read_text(encoding="utf-8").replace('"""the', '"""The'))
        paths[2].rename(paths[2].with_name("renamed.py"))
        paths[3].unlink()
        project.revision("r5", "create table t5 (id int)", undo=["drop table t5"], down="r2")
        edited, removed = found("--only", "edited", "--since", "main")
        assert edited["told"] == "revision r1 does something else than in main"
        assert edited["path"] == "migrations/versions/r1.py"
        assert "bigint" in paths[1].read_text(encoding="utf-8").splitlines()[edited["line"] - 1]
        assert removed["key"] == "edited:r3:removed"
        assert "r3.py" in removed["told"]

    def test_renamed_and_edited(self, project: Project, found: Found, repository: Callable[[], None]) -> None:
        """A revision that was edited is found under whatever name its file has now."""
        path = project.revision("a1", "create table a (id int)", undo=["drop table a"])
        repository()
        text = path.read_text(encoding="utf-8").replace("(id int)", "(id bigint)")
        path.unlink()
        project.write("moved.py", text)
        assert only(found("--only", "edited", "--since", "main"))["path"] == "migrations/versions/moved.py"

    @pytest.mark.parametrize(
        ("ref", "words"),
        [
            ("nowhere", "git knows no commit 'nowhere'"),
            ("--output=x", "is no commit"),
            ("HEAD:alembic.ini", "no commit"),
        ],
    )
    def test_no_such_base(
        self, project: Project, check: Check, repository: Callable[[], None], ref: str, words: str
    ) -> None:
        """A base that git does not know is wrong configuration."""
        project.revision("a1", A)
        repository()
        last = check(f"--since={ref}", code=10).last
        assert words in last["error"]

    def test_no_repository(self, project: Project, check: Check) -> None:
        """So is a folder without a repository."""
        project.revision("a1", A)
        assert "not a git repository" in check("--since", "main", code=10).last["error"]

    def test_no_git(self, project: Project, check: Check, tmp_path: Path) -> None:
        """So is a machine without git."""
        project.revision("a1", A)
        last = check("--since", "main", code=10, env={"PATH": str(tmp_path)}).last
        assert "git cannot be run" in last["error"]
        assert "install git" in last["hint"]

    def test_without_a_base(self, project: Project, check: Check) -> None:
        """Asked for by name without a base, it says what to name."""
        assert "--since" in check("--only", "edited", code=2).last["hint"]

    def test_squashed(self, project: Project, check: Check, found: Found, repository: Callable[[], None]) -> None:
        """What a baseline of `squash` has replaced is not missed, unless it was edited before."""
        path = project.revision("a1", "create table a (id int)", undo=["drop table a"])
        repository()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        path.unlink()
        project.write("s1.py", BASELINE.format(digest=digest))
        assert "edited        ok" in check("--only", "edited", "--since", "main").stdout
        project.write("s1.py", BASELINE.format(digest="0" * 16))
        assert only(found("--only", "edited", "--since", "main"))["key"] == "edited:a1:removed"

    def test_from_a_hook(self, project: Project, check: Check, repository: Callable[[], None]) -> None:
        """What git sets for its hooks does not lead astray."""
        project.revision("a1", A, undo=["drop table a"])
        repository()
        hook = {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_PREFIX": "migrations/"}
        assert "edited        ok" in check("--only", "edited", "--since", "main", env=hook).stdout


class TestSchemaFile:
    """The schema at head, as a file."""

    def test_fresh_and_stale(self, project: Project, check: Check, found: Found, headstart: Callable[..., Run]) -> None:
        """A file that `schema dump` has written is fresh, rows included; after the next revision it is stale."""
        project.revision("a1", A, "insert into a values (1, 'one')", undo=["drop table a"])
        project.revision("b2", "create table b (id bigint generated always as identity)", undo=["drop table b"])
        project.revision("c3", "insert into b default values", undo=["delete from b"])
        written = headstart("schema", "dump")
        assert written.code == 0, str(written)
        assert "schema-file   ok" in check().stdout
        project.revision("d4", "create table d (id bigint)", undo=["drop table d"])
        one = only(found())
        assert one["key"] == "schema-file:stale"
        assert one["path"] == "migrations/sql_current/schema_head.sql"
        assert "headstart schema dump" in one["remedy"]

    def test_a_file_that_was_asked_for(self, project: Project, check: Check) -> None:
        """Without a file there is nothing to compare; one that a setting names has to be there."""
        project.revision("a1", A, undo=["drop table a"])
        assert "schema-file   nothing to compare" in check("--only", "schema-file").stdout
        done = check("--only", "schema-file", code=80, env={"HEADSTART_SCHEMA_FILE": "head.sql"})
        assert "there is no schema file" in done.stdout


class TestExternalSql:
    """SQL that is read from elsewhere."""

    @pytest.mark.parametrize(
        ("body", "what"),
        [
            ("op.execute(open('sql/a1.sql').read())", "sql/a1.sql"),
            ("import pathlib\nop.execute((pathlib.Path(__file__).parent / 'a1.sql').read_text())", "a1.sql"),
            ("from helpers import run_file\nrun_file(op, 'sql/a1.SQL')", "sql/a1.SQL"),
            ("name = revision\nop.execute(open(f'{name}.sql').read())", ".sql"),
            ("import pathlib\nop.execute(pathlib.Path(__file__).with_suffix('.txt').read_text())", "read_text()"),
        ],
    )
    def test_a_new_revision(self, project: Project, found: Found, body: str, what: str) -> None:
        """Whichever way a revision reads a file, it is told with what it reads, and where."""
        path = project.revision("a1", body=body)
        one = only(found("--only", "external-sql"))
        assert one["key"] == f"external-sql:a1:{what}"
        assert what.rstrip("()") in path.read_text(encoding="utf-8").splitlines()[one["line"] - 1]

    @pytest.mark.parametrize(
        "body",
        [
            "op.execute('comment on database x is $$see docs/sql/readme.sql for more$$')",
            '"""Was sql/a1.sql before."""\nop.execute("select 1")',
            "with open('/dev/null', 'w') as file:\n    file.write('x')",
        ],
    )
    def test_no_false_report(self, project: Project, check: Check, body: str) -> None:
        """What only speaks of a file, or writes one, reads nothing."""
        project.revision("a1", body=body)
        assert "external-sql  ok" in check("--only", "external-sql").stdout

    def test_old_ones_go_on(
        self, project: Project, check: Check, found: Found, repository: Callable[[], None], tmp_path: Path
    ) -> None:
        """With a git base only new revisions count: old ones that read a file go on working."""
        (tmp_path / "old.sql").write_text(A, encoding="utf-8")
        project.revision("a1", body="op.execute(open('old.sql').read())", undo=["drop table a"])
        repository()
        check("--since", "main")
        project.revision("b2", body="op.execute(open('old.sql').read().replace('table a', 'table b'))")
        keys = [each["key"] for each in found("--since", "main", "--only", "external-sql")]
        assert keys == ["external-sql:b2:old.sql"]


class TestRules:
    """Risky SQL."""

    RISKY = "create index i on a (name)"

    def test_risky_sql(self, project: Project, found: Found) -> None:
        """It is told with rule, file and line, and what to write instead."""
        project.revision("a1", A, undo=["drop table a"])
        path = project.revision("b2", self.RISKY, undo=["drop index i"])
        one = only([each for each in found() if each["line"] is not None])
        assert one["check"] == "rules"
        assert "concurrently" in one["remedy"].lower()
        assert "create index" in path.read_text(encoding="utf-8").splitlines()[one["line"] - 1]

    def test_old_ones_are_left_alone(
        self, project: Project, check: Check, found: Found, repository: Callable[[], None]
    ) -> None:
        """With a git base only new revisions are judged."""
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", self.RISKY, undo=["drop index i"])
        repository()
        check("--since", "main")
        project.revision("c3", "create index j on a (name)", undo=["drop index j"])
        assert only(found("--since", "main"))["revision"] == "c3"

    def test_allowed_in_the_revision(self, project: Project, check: Check, found: Found) -> None:
        """A comment with a reason allows it; one that nothing needs is refused itself."""
        project.revision("a1", A, undo=["drop table a"])
        path = project.revision("b2", self.RISKY, undo=["drop index i"])
        rule = only(found())["told"].partition(":")[0]
        with path.open("a", encoding="utf-8") as file:
            file.write(f"# headstart: allow {rule}: the table is small\n")
        check()
        with (project.versions / "a1.py").open("a", encoding="utf-8") as file:
            file.write(f"# headstart: allow {rule}: for no reason\n")
        assert only(found())["key"].startswith("rules:allow-unused:a1:")

    def test_switched_off(self, project: Project, check: Check, found: Found) -> None:
        """A rule that pyproject.toml switches off, with a reason, is not looked at; what is wrong there is exit 10."""
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", self.RISKY, undo=["drop index i"])
        rule = only(found())["told"].partition(":")[0]
        toml = project.folder / "pyproject.toml"
        toml.write_text(f'[tool.headstart.check]\nrules-off = {{ {rule} = "no table is large" }}\n', encoding="utf-8")
        check()
        toml.write_text(f'[tool.headstart.check]\nrules-off = {{ {rule} = "" }}\nrule = 1\n', encoding="utf-8")
        problems = check(code=10).last["error"]
        assert "without a reason" in problems
        assert "knows no rule" in problems

    def test_the_catalogue(self, check: Check) -> None:
        """`--rules` prints the catalogue, without a project."""
        out = check("--rules").stdout
        assert out.count("Bad") >= 20


class TestBaseline:
    """Findings that an old project lives with."""

    def test_begin_today(self, project: Project, check: Check, found: Found) -> None:
        """What is written to the baseline is accepted; what is new is not; what is gone is told, and not refused."""
        project.revision("a1", A)
        path = project.revision("b2", "create index i on a (name)", undo=["drop index i"])
        assert len(found()) == 2
        check("--write-baseline")
        held = json.loads((project.folder / "headstart-baseline.json").read_text(encoding="utf-8"))
        assert [each["key"].split(":")[0] for each in held["accepted"]] == ["round-trip", "rules"]
        done = check()
        assert "round-trip    ok (1 accepted)" in done.stdout
        assert "0 findings in 2 revisions, 2 accepted" in done.stdout
        project.revision("c3", "create table c (id int)")
        assert only(found())["key"] == "round-trip:c3:downgrade-empty"
        (project.versions / "c3.py").unlink()
        path.write_text(path.read_text(encoding="utf-8").replace("create index i", "create index if not exists j"))
        path.write_text(path.read_text(encoding="utf-8").replace("drop index i", "drop index j"))
        report = json.loads(check("--format", "json", code=80).stdout)
        assert [key.split(":")[0] for key in report["stale"]] == ["rules"]
        assert [each["key"].split(":")[0] for each in report["accepted"]] == ["round-trip"]

    def test_checks_that_are_not_run_keep_their_entries(self, project: Project, check: Check) -> None:
        """`--write-baseline` for some checks leaves the entries of the others, and tells none of them as stale."""
        project.revision("a1", A)
        check("--write-baseline")
        check("--only", "rules", "--write-baseline")
        assert "matches" not in check("--only", "rules").stdout
        check()

    def test_released_revisions_keep_their_entries(
        self, project: Project, check: Check, repository: Callable[[], None]
    ) -> None:
        """What is accepted of released revisions is not looked at with `--since`: it stays, and is not stale."""
        project.revision("a1", A, undo=["drop table a"])
        project.revision("b2", "create index i on a (name)", undo=["drop index i"])
        check("--write-baseline")
        repository()
        project.revision("c3", "create table c (id int)", undo=["drop table c"])
        assert "matches" not in check("--since", "main").stdout
        check("--since", "main", "--only", "rules", "--write-baseline")
        check()

    def test_in_another_file(self, project: Project, check: Check) -> None:
        """A baseline may be anywhere; one that is named has to be there, and to be one."""
        project.revision("a1", A)
        assert "no baseline" in check("--baseline", "other.json", code=10).last["error"]
        check("--baseline", "other.json", "--write-baseline")
        check("--baseline", "other.json")
        check(code=80)
        for text in ("[]", "{", '{"accepted": [1]}'):
            (project.folder / "other.json").write_text(text, encoding="utf-8")
            assert "is no baseline" in check("--baseline", "other.json", code=10).last["error"]


class TestShown:
    """What is printed."""

    def test_text(self, project: Project, check: Check) -> None:
        """Grouped by check, each with file and line, what and what to do; the last line sums up."""
        project.revision("a1", A, undo=["raise"])
        lines = check("--only", "heads,round-trip", code=80).stdout.splitlines()
        at = lines.index("round-trip    1 finding")
        assert lines[:at] == ["heads         ok"]
        assert lines[at + 1].startswith("  migrations/versions/a1.py:")
        assert lines[at + 2].startswith("    -> ")
        assert lines[-1].startswith("1 finding in 1 revision (")

    def test_warnings_are_no_findings(self, project: Project, check: Check) -> None:
        """What is shown, and not refused, is counted by itself; a refusal says what to type."""
        project.revision("a1", A, "create table w (id bigint primary key, at timestamp)", undo=["drop table w, a"])
        lines = check("--only", "rules").stdout.splitlines()
        assert lines[0] == "rules         1 warning"
        assert lines[-1].startswith("0 findings in 1 revision, 1 warning (")
        project.revision("b2", "create index on a (name)", undo=["drop index a_name_idx"])
        done = check("--only", "rules", code=80)
        lines = done.stdout.splitlines()
        refused = sum(not line.strip().startswith("->") and ".py:" in line and "warning:" not in line for line in lines)
        assert lines[0] == f"rules         {refused} finding{'s' if refused > 1 else ''}, 1 warning"
        assert "`headstart check` again" in done.last["hint"]

    def test_github(self, project: Project, check: Check, repository: Callable[[], None]) -> None:
        """Annotations are written as GitHub reads them, with paths from the top of the repository."""
        project.ini.write_text(INI.replace("%(here)s/migrations", "%(here)s/50%%, a:b"), encoding="utf-8")
        project.env.parent.rename(project.folder / "50%, a:b")
        project.versions = project.folder / "50%, a:b" / "versions"
        project.revision("a1", "select 'a\nb' as x from nowhere_at_100%", undo=["select 1"])
        repository()
        lines = check("--only", "round-trip", "--format", "github", code=80).stdout.splitlines()
        path = project.versions / "a1.py"
        line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "op.execute" in text)
        assert lines[0].startswith(
            f"::error file=50%25%2C a%3Ab/versions/a1.py,line={line},"
            "title=headstart check%3A round-trip::revision a1 fails on an empty database: "
        )
        assert "nowhere_at_100%25" in lines[0]
        assert "%0Alet every revision run" in lines[0]
        assert lines[1].startswith("::notice title=headstart check%3A round-trip::not run: ")
        assert len(lines) == 3

    def test_wrong_words(self, project: Project, check: Check) -> None:
        """A check that does not exist is wrong usage, and those that do are listed."""
        last = check("--only", "heads,tails", code=2).last
        assert "tails" in last["error"]
        assert "round-trip" in last["hint"]

    def test_skip(self, project: Project, check: Check) -> None:
        """A check that is skipped is not run."""
        project.revision("a1", A)
        assert "round-trip" not in check("--skip", "round-trip").stdout

    def test_an_env_that_fails(self, project: Project, check: Check) -> None:
        """An env.py that cannot be run is wrong configuration."""
        project.in_env("import os; os.environ['NOT_SET']")
        project.revision("a1", A)
        assert "KeyError" in check(code=10).last["error"]

    def test_a_scratch_server_that_refuses(self, project: Project, check: Check, any_server: Postgres) -> None:
        """A scratch server with a wrong password is refused without showing it."""
        url = with_password(any_server.url(), "quite wrong")
        last = check(code=21, env={"HEADSTART_SCRATCH_URL": url}).last
        assert "quite wrong" not in json.dumps(last)


def test_an_env_py_with_a_lock_of_its_own(project: Project, check: Check) -> None:
    """env.py is never run twice at once: a lock that it takes for itself would keep the second run waiting."""
    models(project)
    project.revision("a1", "create table a (id bigserial primary key, name text)", undo=["drop table a"])
    text = project.env.read_text(encoding="utf-8")
    own = "    connection.exec_driver_sql('select pg_advisory_lock(42)')\n    connection.commit()\n"
    before = "    context.configure(connection=connection"
    assert before in text
    project.env.write_text(text.replace(before, own + before, 1), encoding="utf-8")
    check()
