"""`doctor` judges as `up` does, and changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import LIKE_ANYBODY, ended, make_role, planted, with_password
from support.postgres import database_of, script
from support.project import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run
    from support.project import Project


pytestmark = pytest.mark.backed_up


@pytest.fixture
def project(project: Project) -> Project:
    """Three revisions."""
    for ident in ("aaaa1111", "bbbb2222", "cccc3333"):
        project.revision(ident, f"create table t_{ident} (id int)")
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


def test_doctor(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """`doctor` looks at every precondition and changes nothing; with all of them met it ends with 0."""
    before = fingerprint(at_a)
    run = headstart("doctor", url=at_a)
    assert run.code == 0, str(run)
    assert len(run.stdout.splitlines()) >= 8
    assert all(line.startswith("ok") for line in run.stdout.splitlines()), run.stdout
    assert fingerprint(at_a) == before


def test_doctor_finds_it(project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path) -> None:
    """What does not hold is one line with its remedy, the rest is looked at all the same, and the exit code is up's."""
    (tmp_path / "file").touch()
    run = headstart("doctor", "--json", "--backup-dir", str(tmp_path / "file"), url=at_a)
    assert run.code == 40, str(run)
    findings = json.loads(run.stdout)
    [failed] = [each for each in findings if not each["ok"]]
    assert str(tmp_path / "file") in failed["found"]
    assert failed["remedy"]
    human = headstart("doctor", "--backup-dir", str(tmp_path / "file"), url=at_a)
    assert len([line for line in human.stdout.splitlines() if line.startswith("FAIL") and "->" in line]) == 1


def test_doctor_without_server(project: Project, headstart: Callable[..., Run]) -> None:
    """Without a server `doctor` says so, and goes on with what needs none."""
    run = headstart(
        "doctor",
        *("--wait-timeout", "300ms", "--backup-dir", "/proc/nope"),
        url="postgresql://app:t0psecret@127.0.0.1:1/app",
    )
    assert run.code == 20, str(run)
    assert "3 revisions" in run.stdout
    assert "FAIL  backups" in run.stdout
    assert "Traceback" not in run.stderr
    assert "t0psecret" not in run.stdout + run.stderr


@pytest.mark.parametrize("log", ["json", "console"])
def test_its_last_line(log: str, project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """What does not hold is the run's error, with cause and remedy, for a machine and for a person."""
    run = headstart("doctor", url=at_a, env={"HEADSTART_LOG": log, "HEADSTART_BACKUP_DIR": "/proc/nope"})
    assert run.code == 40, str(run)
    [failed] = [line for line in run.stdout.splitlines() if line.startswith("FAIL")]
    if log == "json":
        last = ended(run, 40)
        assert f"{last['error']} -> {last['hint']}" in failed
    else:
        assert "failed (exit 40, backup_failed)  HEADSTART_BACKUP_DIR=/proc/nope" in run.stderr


def test_status_exit_code(project: Project, headstart: Callable[..., Run], at_a: str) -> None:
    """So is what is pending, where `status` was asked to say so by its exit code."""
    last = ended(headstart("status", "--exit-code", url=at_a), 3)
    assert last["error"] == "2 revisions pending: bbbb2222, cccc3333"
    run = headstart("status", "--exit-code", url=at_a, env={"HEADSTART_LOG": "console"})
    assert (run.code, "failed (exit 3, pending)  2 revisions pending" in run.stderr) == (3, True), str(run)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("create table secret (id int)", "may not read table public.secret"),
        ("create schema hidden; create table hidden.t (id int); grant select on hidden.t to {0}", "table hidden.t"),
        ("create sequence counter", "may not read sequence public.counter"),
        ("create table part (id int) partition by range (id)", "may not read table public.part"),
        (
            "create table rows (id int); grant select on rows to {0}; alter table rows enable row level security",
            "row-level security hides rows of table public.rows",
        ),
        ("create materialized view m as select 1", None),
        ("create unlogged table u (id int); grant select on u to {0}", None),
    ],
)
def test_tables_that_the_role_may_not_read(
    made: str,
    says: str | None,
    project: Project,
    headstart: Callable[..., Run],
    any_server: Postgres,
    at_a: str,
) -> None:
    """What keeps `up` from its backup keeps `doctor` from saying ok, and nothing else does."""
    role = f"reader_{database_of(at_a)}"[:60]
    make_role(any_server, role)
    script(
        at_a,
        f"grant all on t_aaaa1111, alembic_version to {role}; grant all on schema public to {role};"
        f"grant create on database {database_of(at_a)} to {role}; {made.format(role)}",
    )
    url = with_password(at_a, "a role's pass", user=role)
    doctor = headstart("doctor", url=url)
    up = headstart("up", url=url)
    script(at_a, f"drop owned by {role} cascade; drop role {role}")
    if says is None:
        assert (doctor.code, up.code) == (0, 0), f"{doctor}{up}"
        return
    error = ended(doctor, 40)["error"]
    assert says in error
    assert ended(up, 40)["error"] == error


@pytest.mark.parametrize("place", ["/proc/nope", "locked", "locked/below", "file", "file/below"])
def test_a_folder_that_cannot_be_used(
    place: str, project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path
) -> None:
    """A backup folder that cannot be made or written is judged as `up` judges it."""
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0)
    env = planted(tmp_path, LIKE_ANYBODY) | {"HEADSTART_BACKUP_DIR": str(tmp_path / place)}
    error = ended(headstart("doctor", url=at_a, env=env), 40)["error"]
    assert ended(headstart("up", url=at_a, env=env), 40)["error"] == error


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700], ids=oct)
def test_a_folder_that_others_may_look_into(
    mode: int, project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path
) -> None:
    """It is named, with what to type, and no failure; whom a group was opened to is nobody's business."""
    home = tmp_path / "backups" / database_of(at_a)
    home.mkdir(parents=True)
    home.chmod(mode)
    run = headstart("doctor", "--backup-dir", str(home.parent), url=at_a)
    assert run.code == 0, str(run)
    assert (f"chmod o-rwx {home}" in run.stdout) is (mode == 0o755)


def test_another_user_s_backups(project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path) -> None:
    """A database's folder that belongs to another user does not hide the backups of the others."""
    assert headstart("backup", url=at_a).code == 0
    (tmp_path / "backups" / "theirs").mkdir(mode=0)
    run = headstart("backups", "list", url=at_a, env=planted(tmp_path, LIKE_ANYBODY))
    assert database_of(at_a) in run.stdout, str(run)


def test_room(project: Project, headstart: Callable[..., Run], at_a: str, tmp_path: Path) -> None:
    """A folder that is missing is tried out, and is missing afterwards."""
    folder = tmp_path / "a" / "b"
    run = headstart("doctor", "--backup-dir", str(folder), url=at_a)
    assert run.code == 0, str(run)
    assert "(it will be made)" in run.stdout
    assert not (tmp_path / "a").exists()
