"""Exit code 40: the backup is not whole, so nothing is migrated, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import LIKE_ANYBODY, Session, ended, make_role, planted, with_password
from support.postgres import psql, script
from support.project import fingerprint
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

PASSWORD = "correct horse battery"


@pytest.fixture
def project(project: Project) -> Project:
    """A project with something to do."""
    project.revision("a1", "create table a (id int)")
    return project


@pytest.fixture
def precious(any_database: str) -> str:
    """A database that holds something, and so is backed up before it is migrated."""
    script(any_database, "create table precious as select generate_series(1, 100) as id")
    return any_database


def test_40_folder_may_not_be_written(
    project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path
) -> None:
    """A backup folder without the right to write says so, and says to whom it should be given."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    before = fingerprint(precious)
    env = planted(tmp_path, LIKE_ANYBODY)
    last = ended(headstart("up", "--backup-dir", str(folder), url=precious, env=env), 40)
    assert str(folder) in last["error"]
    assert str(os.geteuid()) in last["hint"]
    assert fingerprint(precious) == before


def test_40_read_only_file_system(
    project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path
) -> None:
    """A backup folder on a read-only file system is refused before anything is touched."""
    before = fingerprint(precious)
    with tmpfs(tmp_path / "disk", "ro,size=1m") as disk:
        last = ended(headstart("up", "--backup-dir", str(disk), url=precious), 40)
    assert str(disk) in last["error"]
    assert "writable" in last["hint"]
    assert fingerprint(precious) == before


def test_40_no_room(project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path) -> None:
    """A disk that is too small is refused before the dump begins, with what is needed and what is free."""
    before = fingerprint(precious)
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        last = ended(headstart("up", "--backup-dir", str(disk), url=precious), 40)
        assert last["free_bytes"] <= 8 * 1024 * 1024 < last["needed_bytes"]
        assert list(disk.rglob(".partial*")) == []
    assert fingerprint(precious) == before


def test_40_disk_fills_up(project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path) -> None:
    """A disk that fills up during the dump ends it; what was written is removed, and an older backup stays."""
    # A dump spells bytes as hexadecimal digits, which compress to somewhat more than the bytes were: more than the
    # estimate, which is half of the database. That the same megabyte comes again is too far away to be noticed.
    script(
        precious,
        "create table noise (data bytea); alter table noise alter data set storage external;"
        "with megabyte as materialized ("
        " select decode(string_agg(md5(random()::text), ''), 'hex') as data from generate_series(1, 65536))"
        "insert into noise select data from megabyte, generate_series(1, 40)",
    )
    before = fingerprint(precious)
    with tmpfs(tmp_path / "disk", "size=44m") as disk:
        last = ended(headstart("up", "--backup-dir", str(disk), url=precious), 40)
        assert "full" in last["error"]
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    assert fingerprint(precious) == before


def test_40_table_may_not_be_read(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, precious: str
) -> None:
    """A table that the role may not read would be missing from the dump: it is named, with the GRANT to give."""
    make_role(any_server, "half", PASSWORD)
    script(precious, "grant create on schema public to half")
    before = fingerprint(precious)
    run = headstart("up", url=with_password(precious, PASSWORD, user="half"))
    last = ended(run, 40, secrets=[PASSWORD])
    assert "precious" in last["error"]
    assert "grant pg_read_all_data to half," in last["hint"]
    assert fingerprint(precious) == before


def test_40_row_level_security(
    project: Project, headstart: Callable[..., Run], any_server: Postgres, precious: str
) -> None:
    """Rows that a policy hides from the role would be missing from the dump: that is a failure, not a smaller dump."""
    make_role(any_server, "secluded", PASSWORD)
    script(
        precious,
        "grant create on schema public to secluded; grant select on precious to secluded;"
        "alter table precious enable row level security; create policy odd on precious using (id % 2 = 1)",
    )
    run = headstart("up", url=with_password(precious, PASSWORD, user="secluded"))
    assert "precious" in ended(run, 40, secrets=[PASSWORD])["error"]


def test_40_nothing_is_left(project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path) -> None:
    """A dump that fails leaves no partial folder, and the backups from before are still whole."""
    ended(headstart("backup", url=precious), 0)
    whole = sorted((tmp_path / "backups").rglob("manifest.json"))
    name = psql(precious, "select current_database()")[0][0]
    script(precious, "create table secret (id int)")
    fakes = tmp_path / "fake"
    fakes.mkdir()
    server_major = psql(precious, "select current_setting('server_version_num')::int / 10000")[0][0]
    for program in ("pg_dump", "pg_restore"):
        (fakes / program).write_text(
            "#!/bin/sh\n"
            f'[ "$1" = --version ] && echo "{program} (PostgreSQL) {server_major}.0" && exit 0\n'
            'for arg; do case "$arg" in --file=*) echo half > "${arg#--file=}/toc.dat";; esac; done\n'
            f'echo "{program}: error: out of luck" >&2\nexit 1\n',
            encoding="utf-8",
        )
        (fakes / program).chmod(0o755)
    last = ended(headstart("up", url=precious, env={"PATH": f"{fakes}:/usr/bin:/bin"}), 40)
    assert "out of luck" in last["error"]
    assert sorted((tmp_path / "backups").rglob("manifest.json")) == whole
    assert [path.name for path in (tmp_path / "backups" / name).iterdir() if path.name.startswith(".")] == []


def test_63_the_lock_is_lost_during_the_backup(
    project: Project, begin_headstart: Callable[..., Headstart], precious: str
) -> None:
    """When the session that holds the lock is ended during the dump, the run ends with 63 and nothing is migrated."""
    before = fingerprint(precious)
    with Session(precious) as somebody:
        somebody.execute("begin; lock table precious in access exclusive mode")  # the dump waits for it
        process = begin_headstart("up", url=precious)
        process.wait_for("backup_started")
        ours = "application_name ~ '^headstart [0-9a-f]{8} '"
        query = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {ours}"
        eventually(lambda: psql(precious, query) == [(1,)], "the lock's session is found")
        last = ended(process.finish(), 63)
    assert "lost" in last["error"]
    assert fingerprint(precious) == before


@pytest.mark.parametrize("form", ["json", "console"])
def test_who_blocks_the_dump(
    form: str, project: Project, begin_headstart: Callable[..., Headstart], precious: str
) -> None:
    """A dump that waits for a table says for whom, and what ends them; it goes on when they have left."""
    with Session(precious, "nightly report") as somebody:
        somebody.execute("begin; lock table precious in access exclusive mode")
        process = begin_headstart("up", url=precious, env={"HEADSTART_LOG": form})
        eventually(lambda: "nightly report" in process.stderr, "the blocker is named", seconds=20)
        [(pid,)] = psql(precious, "select pid from pg_stat_activity where application_name = 'nightly report'")
        somebody.execute("rollback")
        run = process.finish()
    assert run.code == 0, run
    assert f"select pg_terminate_backend({pid})" in run.stderr


def test_40_folder_of_backups_is_damaged(
    project: Project, headstart: Callable[..., Run], precious: str, tmp_path: Path
) -> None:
    """`backups verify` ends with 40 when a byte of a backup has changed, and names it."""
    path = ended(headstart("backup", url=precious), 0)["backup"]
    data = max((tmp_path / path / "dump").iterdir(), key=lambda one: one.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    last = ended(headstart("backups", "verify", url=precious), 40)
    assert path in last["error"]


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A small disk, where it can be mounted."""
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
