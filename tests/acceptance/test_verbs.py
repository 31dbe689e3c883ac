"""The verbs besides `up`: wait, status, backups, and Alembic's own with its words and options."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import Session, ended, path_of
from headstart.cli.arguments import VERBS
from headstart.postgres.lock import GATE
from headstart.settings.table import SETTINGS
from support.postgres import psql, script
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import StartServer
    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project


pytestmark = pytest.mark.backed_up


@pytest.fixture
def project(project: Project) -> Project:
    """Three revisions that can be undone."""
    for ident in ("aaaa1111", "bbbb2222", "cccc3333"):
        project.revision(ident, f"create table t_{ident} (id int)", undo=[f"drop table t_{ident}"], doc=f"Make {ident}")
    return project


@pytest.fixture
def at_a(any_database: str) -> str:
    """A database at aaaa1111."""
    script(
        any_database,
        "create table t_aaaa1111 (id int);"
        "create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);"
        "insert into alembic_version values ('aaaa1111')",
    )
    return any_database


# -- wait -------------------------------------------------------------------------------------------------------------


def test_wait_for_server(begin_headstart: Callable[..., Headstart], start_server: StartServer) -> None:
    """`wait` ends with 0 as soon as the server answers, and not before; it needs no Alembic project."""
    server = start_server()
    server.shut_down()
    process = begin_headstart("wait", url=server.url())
    process.wait_for("server_not_ready")
    server.start_up()
    ended(process.finish(), 0, secrets=[server.password])


def test_wait_for_head(project: Project, begin_headstart: Callable[..., Headstart], at_a: str) -> None:
    """`wait --for head` ends with 0 once another runner has brought the database to head."""
    process = begin_headstart("wait", "--for", "head", url=at_a)
    waiting = process.wait_for("revision_waiting")
    assert waiting["pending"] == ["bbbb2222", "cccc3333"]
    assert process.running
    script(at_a, "update alembic_version set version_num = 'cccc3333'")
    last = ended(process.finish(), 0)
    assert last["revision_after"] == "cccc3333"


# -- status -----------------------------------------------------------------------------------------------------------


def test_status(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`status` tells a person where the database is, what is pending, who holds the lock, and of the backups."""
    ended(headstart("backup", url=at_a), 0)
    before = fingerprint(at_a)
    with Session(at_a, "the other runner") as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        run = headstart("status", url=at_a)
    assert run.code == 0, str(run)
    for text in ("aaaa1111", "bbbb2222", "cccc3333", "2 pending", "the other runner", "backups/"):
        assert text in run.stdout, str(run)
    assert fingerprint(at_a) == before


def test_status_json(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`status --json` prints one JSON object, whatever is logged meanwhile."""
    backup = ended(headstart("backup", url=at_a), 0)["backup"]
    script(at_a, "create index odd on t_aaaa1111 (id)")
    with Session(at_a, "the other runner") as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        found = json.loads(headstart("status", "--json", url=at_a).stdout)
    assert (found["revision"], found["target"], found["at_target"]) == ("aaaa1111", "head", False)
    assert found["pending"] == ["bbbb2222", "cccc3333"]
    assert [holder["application_name"] for holder in found["lock_holders"]] == ["the other runner"]
    assert [each["path"] for each in found["backups"]] == [backup]
    assert found["server"]["version"]
    assert (found["invalid_indexes"], found["beyond"]) == ([], False)
    assert "aaaa1111 (beyond base)" in headstart("status", "--target", "base", url=at_a).stdout


def test_status_of_a_database_that_does_not_fit(
    project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What is recorded, and why `up` would refuse it, are shown as data as well; the exit code says which it is."""
    project.revision("a1", "create table a (id int)")
    ended(headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"}), 0)
    path = project.versions / "a1.py"
    path.write_text(path.read_text(encoding="utf-8").replace("id int", "id bigint"), encoding="utf-8")
    run = headstart("status", "--json", url=any_database)
    last = ended(run, 73)
    found = json.loads(run.stdout)
    assert (found["revision"], found["pending"], found["at_target"]) == ("a1", None, False)
    assert found["problem"] == last["error"]
    script(any_database, "update alembic_version set version_num = 'f00'")
    run = headstart("status", url=any_database)
    ended(run, 72)
    assert "revision  f00, pending: not known" in run.stdout


def test_status_names_a_folder_that_cannot_be_read(
    project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path
) -> None:
    """A status without a readable backup folder is still a status, and says why it lists no backup."""
    (tmp_path / "file").touch()
    run = headstart("status", "--backup-dir", str(tmp_path / "file"), url=at_a)
    assert run.code == 0, str(run)
    assert "aaaa1111" in run.stdout
    assert str(tmp_path / "file") in run.stdout


# -- backups ----------------------------------------------------------------------------------------------------------


def test_backup_and_backups(project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path) -> None:
    """`backup` takes one; `backups` lists, verifies and prunes, for a person and as JSON."""
    first = ended(headstart("backup", url=at_a), 0)["backup"]
    second = ended(headstart("backup", url=at_a), 0)["backup"]
    listed = json.loads(headstart("backups", "list", "--json", url=at_a).stdout)
    assert [each["path"] for each in listed] == [second, first]
    assert listed[0]["revision_before"] == listed[0]["revision_intended"] == "aaaa1111"
    human = headstart("backups", url=at_a)
    assert human.code == 0
    assert first in human.stdout
    name = first.rpartition("/")[2]
    verified = json.loads(headstart("backups", "verify", name, "--json", url=at_a).stdout)
    assert [(each["path"], each["whole"]) for each in verified] == [(first, True)]
    pruned = headstart("backups", "prune", "--backup-keep", "1", "--json", url=at_a)
    assert pruned.code == 0, str(pruned)
    [decision] = json.loads(pruned.stdout).values()
    assert list(decision["delete"]) == [name]
    assert not (tmp_path / first).exists()
    assert (tmp_path / second).exists()
    ended(headstart("backups", "verify", "no-such-backup", url=at_a), 10)


def test_backups_without_database(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """The backups can be listed when there is no database any more."""
    taken = ended(headstart("backup", url=at_a), 0)["backup"]
    run = headstart("backups", "list", "--json")
    assert [each["path"] for each in json.loads(run.stdout)] == [taken]


# -- Alembic's verbs --------------------------------------------------------------------------------------------------


def test_upgrade_downgrade(project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path) -> None:
    """`upgrade` and `downgrade` take +1, -1, ids, prefixes and base, with the lock and the backup of `up`."""

    def move(*words: str) -> list[str]:
        run = headstart(*words, url=at_a)
        last = ended(run, 0)
        assert run.events("lock_obtained")
        manifest = json.loads((tmp_path / last["backup"] / "manifest.json").read_text(encoding="utf-8"))
        there = recorded(at_a)
        assert manifest["revision_intended"] == there
        return there

    assert move("upgrade", "+1") == ["bbbb2222"]
    assert move("upgrade", "head") == ["cccc3333"]
    assert move("downgrade", "-1") == ["bbbb2222"]
    assert move("upgrade", "cccc") == ["cccc3333"]
    assert move("downgrade", "aaaa1111") == ["aaaa1111"]
    assert psql(at_a, "select to_regclass('t_aaaa1111') is null, to_regclass('t_bbbb2222') is null") == [(False, True)]
    assert move("downgrade", "base") == []


def test_downgrade_to_nowhere(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """A revision that does not exist, or is too far down, is refused and nothing is touched."""
    before = fingerprint(at_a)
    for target in ("ffff0000", "-5"):
        ended(headstart("downgrade", target, url=at_a), 10)
    assert fingerprint(at_a) == before


def test_stamp(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`stamp` records a revision without running anything; `--purge` forgets what is not in the history."""
    ended(headstart("stamp", "head", url=at_a), 0)
    assert recorded(at_a) == ["cccc3333"]
    assert psql(at_a, "select to_regclass('t_cccc3333') is null") == [(True,)]
    script(at_a, "update alembic_version set version_num = 'f00dfeed'")
    ended(headstart("stamp", "--purge", "aaaa1111", url=at_a), 0)
    assert recorded(at_a) == ["aaaa1111"]


def test_current(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`current` prints the recorded revision, with -v its file too, and changes nothing."""
    before = fingerprint(at_a)
    run = headstart("current", url=at_a)
    assert (run.code, run.stdout) == (0, "aaaa1111\n"), str(run)
    assert str(project.versions / "aaaa1111.py") in headstart("current", "-v", url=at_a).stdout
    assert fingerprint(at_a) == before


def test_current_of_a_revision_that_nobody_knows(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`current` says 72, as every other verb does, where the history does not hold what is recorded."""
    script(at_a, "update alembic_version set version_num = 'f00dfeed'")
    assert "f00dfeed" in ended(headstart("current", url=at_a), 72)["error"]


def test_offline_verbs(project: Project, headstart: Callable[..., Run]) -> None:
    """`history`, `heads`, `show`, `revision` and `merge` need no database."""
    history = headstart("history")
    assert (history.code, history.stderr) == (0, ""), str(history)
    assert [line.split()[0] for line in history.stdout.splitlines()] == ["bbbb2222", "aaaa1111", "<base>"]
    assert "Make bbbb2222" in headstart("history", "-r", "aaaa1111:bbbb2222", "-v").stdout
    assert headstart("heads").stdout == "cccc3333 (head)\n"
    assert "Make bbbb2222" in headstart("show", "bbbb2222").stdout
    made = headstart("revision", "-m", "a fourth", "--rev-id", "dddd4444")
    assert made.code == 0, str(made)
    assert 'revision: str = "dddd4444"' in (project.versions / "dddd4444_a_fourth.py").read_text().replace("'", '"')
    branch = headstart("revision", "-m", "branch", "--rev-id", "eeee5555", "--head", "aaaa1111", "--splice")
    assert branch.code == 0, str(branch)
    merged = headstart("merge", "heads", "-m", "merge", "--rev-id", "ffff6666")
    assert merged.code == 0, str(merged)
    assert headstart("heads").stdout == "ffff6666 (head)\n"
    ended(headstart("show", "nowhere"), 10)


def test_history_indicates_current(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`history -i` asks the database, and marks where it is."""
    run = headstart("history", "-i", url=at_a)
    assert "(current)" in run.stdout, str(run)


def test_revision_autogenerate(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`revision --autogenerate` compares the models with the database, and writes what differs."""
    script(at_a, "update alembic_version set version_num = 'cccc3333'; create table t_bbbb2222 (id int)")
    text = project.env.read_text(encoding="utf-8")
    models = (
        "import sqlalchemy as sa\n"
        "target_metadata = sa.MetaData()\n"
        "sa.Table('brand_new', target_metadata, sa.Column('id', sa.Integer, primary_key=True))\n"
    )
    project.env.write_text(text.replace("target_metadata = None\n", models), encoding="utf-8")
    run = headstart("revision", "--autogenerate", "-m", "models", "--rev-id", "dddd4444", url=at_a)
    assert run.code == 0, str(run)
    written = (project.versions / "dddd4444_models.py").read_text(encoding="utf-8")
    assert "create_table('brand_new'" in written
    assert "drop_table('t_bbbb2222')" in written


def test_revision_ids_sort_by_time(project: Project, headstart: Callable[..., Run]) -> None:
    """Unless one is given, `revision` and `merge` make an id of the time in UTC, to the millisecond."""
    before = set(project.versions.glob("*.py"))
    assert headstart("revision", "-m", "first").code == 0
    assert headstart("revision", "-m", "second", "--head", "bbbb2222", "--splice").code == 0
    assert headstart("merge", "heads", "-m", "both").code == 0
    written = sorted(path.name for path in set(project.versions.glob("*.py")) - before)
    assert [re.sub(r"^\d{8}_\d{9}_", "", name) for name in written] == ["first.py", "second.py", "both.py"]
    moment = datetime.strptime(written[0][:18] + "000", "%Y%m%d_%H%M%S%f").replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) - moment < timedelta(minutes=2)


def test_sql_is_data(project: Project, headstart: Callable[..., Run], any_server: Postgres, any_database: str) -> None:
    """What `sql` prints is a script for psql, and leads to the very schema and revision that `up` leads to."""
    run = headstart("sql")
    assert run.code == 0, str(run)
    other = any_server.create_database()
    env = {"PATH": path_of(any_server)}
    fed = ["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", other]
    subprocess.run(fed, input=run.stdout, text=True, check=True, env=env, stdout=subprocess.DEVNULL)
    ended(headstart("up", url=any_database), 0)
    dump = ["pg_dump", "--schema-only", "--no-comments", "--exclude-schema=headstart"]  # the ledger tells of runs
    schemas = [
        subprocess.run([*dump, url], check=True, env=env, capture_output=True, text=True).stdout
        for url in (other, any_database)
    ]
    lines = [[line for line in each.splitlines() if not line.startswith("\\")] for each in schemas]
    assert lines[0] == lines[1]
    assert recorded(other) == recorded(any_database) == ["cccc3333"]
    any_server.drop_database(other)


def test_sql_ranges(project: Project, headstart: Callable[..., Run]) -> None:
    """`sql FROM:TO` and Alembic's `upgrade --sql` print only that range; `downgrade --sql` its way back."""
    run = headstart("sql", "aaaa1111:bbbb2222")
    assert "t_bbbb2222" in run.stdout
    assert "t_aaaa1111" not in run.stdout
    assert "t_cccc3333" not in run.stdout
    assert headstart("upgrade", "aaaa1111:bbbb2222", "--sql").stdout == run.stdout
    assert "DROP TABLE T_BBBB2222" in headstart("downgrade", "bbbb2222:aaaa1111", "--sql").stdout.upper()


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, headstart: Callable[..., Run]) -> None:
    """`--help` of every verb goes to stdout, and names each option's environment variable; `explain` has no options."""
    run = headstart(verb, "--help")
    assert (run.code, run.stderr) == (0, ""), str(run)
    assert f"usage: headstart {verb}" in run.stdout
    assert headstart("help", verb).stdout == run.stdout
    if verb == "explain":
        return
    text = " ".join(run.stdout.split())
    for setting in SETTINGS:
        if setting.flag is not None:
            assert setting.flag in text
            assert setting.name in text
    assert "DATABASE_URL" in text


def test_help_of_all(headstart: Callable[..., Run]) -> None:
    """`headstart --help` lists every verb, on a terminal of 80 columns too; `--version` says which this is."""
    run = headstart("--help")
    assert (run.code, run.stderr) == (0, "")
    for verb in VERBS:
        assert f"\n  {verb} " in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert headstart("help").stdout == run.stdout
    assert headstart("--version").stdout.startswith("headstart ")
