"""`headstart restore`: what it takes, what it refuses, and what stands beside the database afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import LIKE_ANYBODY, Session, ended, make_role, planted, with_password
from headstart.postgres.lock import GATE
from support.postgres import database_of, identifier, psql, script
from support.project import fingerprint, recorded
from support.restoring import SIGNAL, STUCK, VERSION_TABLE, beside, drop_all, told
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Headstart, Run
    from support.project import Project


pytestmark = pytest.mark.backed_up


class Place:
    """A database, its backups, and headstart there."""

    def __init__(self, server: Postgres, url: str, folder: Path, run: Callable[..., Run]) -> None:
        self.server, self.url, self.name = server, url, database_of(url)
        self.folder, self._run = folder / "backups" / database_of(url), run

    def run(self, *words: str, **named: Any) -> Run:
        """Run headstart on the database."""
        return self._run(*words, **{"url": self.url, **named})

    def back_up(self) -> Path:
        """Take a backup, and return its folder."""
        ended(self.run("backup"), 0)
        return max(path for path in self.folder.iterdir() if not path.name.startswith("."))

    def beside(self) -> list[str]:
        """The databases that restores have made."""
        return beside(self.server, self.name)

    def environment(self) -> dict[str, str]:
        """In which the commands that a restore gives can be typed."""
        return {"PATH": f"{self.server.bindir}:/usr/bin:/bin", "PGPASSWORD": self.server.password}

    def proofs(self, backup: Path) -> list[str]:
        """What the manifest says was proven."""
        return [each["kind"] for each in json.loads((backup / "manifest.json").read_text())["proofs"]]


@pytest.fixture
def place(any_server: Postgres, any_database: str, tmp_path: Path, headstart: Callable[..., Run]) -> Iterator[Place]:
    """A database at a1 with a hundred rows."""
    script(any_database, VERSION_TABLE.format("alembic_version", "a1"))
    script(any_database, "create table t as select generate_series(1, 100) as id")
    yield Place(any_server, any_database, tmp_path, headstart)
    drop_all(any_server, database_of(any_database))


@pytest.fixture
def stuck(place: Place) -> Place:
    """The same with a backup whose restore goes on only when a session named SIGNAL is there."""
    script(place.url, STUCK)
    place.back_up()
    return place


def edit(backup: Path, **fields: Any) -> None:
    """Change what a manifest says."""
    manifest = json.loads((backup / "manifest.json").read_text())
    (backup / "manifest.json").write_text(json.dumps({**manifest, **fields}))


# -- which backup -----------------------------------------------------------------------------------------------------


def test_name_path_and_latest(place: Place, tmp_path: Path) -> None:
    """A folder's name, a path in any form, and `latest` all lead to the backup, which is then proven by having been."""
    first = place.back_up()
    script(place.url, "insert into t values (101)")
    second = place.back_up()
    elsewhere = tmp_path / "copy of it"
    shutil.copytree(first, elsewhere)
    for wanted, backup, count in (
        (first.name, first, 100),
        (str(first), first, 100),
        (os.path.relpath(first, tmp_path), first, 100),
        ("copy of it", elsewhere, 100),
        ("latest", second, 101),
    ):
        run = place.run("restore", wanted)
        last = ended(run, 0)
        assert last["backup"] == told(run)["backup"]
        assert tmp_path / last["backup"] == backup
        assert psql(place.server.url(last["restored"]), "select count(*) from t") == [(count,)]
        assert place.proofs(backup)[-1] == "restored"
    assert len(place.beside()) == 5
    assert all("_restored_" in name for name in place.beside())


def test_10_unknown_backup(place: Place) -> None:
    """A backup that is not there is answered with those that are."""
    assert "none" in ended(place.run("restore", "latest"), 10)["hint"]
    backup = place.back_up()
    for wanted in ("nope", "./nope", "/nope/nope"):
        last = ended(place.run("restore", wanted), 10)
        assert wanted in last["error"]
        assert backup.name in last["hint"]


def test_2_end_sessions_alone(place: Place) -> None:
    """`--end-sessions` without `--swap` is a mistake, and so is no backup at all."""
    ended(place.run("restore", "latest", "--end-sessions"), 2)
    ended(place.run("restore"), 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
def test_41_another_user_s(place: Place, any_server: Postgres) -> None:
    """What another user has put where anybody may is reported, and restored by its path and its owner alone."""
    backup = place.back_up()
    place.folder.parent.chmod(0o1777)
    os.chown(place.folder, 65534, 65534)
    [line] = place.run("backups", "list").events("backup_broken")
    assert line["path"].endswith(place.folder.name)
    assert "--trust-owner 65534" in line["hint"]
    assert "--trust-owner 65534" in ended(place.run("backups", "verify"), 40)["hint"]
    assert "--trust-owner 65534" in ended(place.run("restore", "latest"), 10)["hint"]
    last = ended(place.run("restore", str(backup)), 41)
    assert last["hint"].startswith("if that user has taken it for you")
    ended(place.run("restore", "latest", "--trust-owner", "65534"), 2)
    assert place.beside() == []
    ended(place.run("restore", str(backup), "--trust-owner", "65534"), 0)
    assert len(place.beside()) == 1


# -- damage -----------------------------------------------------------------------------------------------------------


def flip(backup: Path) -> str:
    """Change one bit in the middle of the largest file."""
    largest = max((backup / "dump").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    return largest.name


def truncate(backup: Path) -> str:
    """Cut the last byte off a file."""
    data = next((backup / "dump").glob("*.dat*"))
    data.write_bytes(data.read_bytes()[:-1])
    return data.name


def remove(backup: Path) -> str:
    """Remove a file."""
    data = next((backup / "dump").glob("*.dat*"))
    data.unlink()
    return data.name


def add(backup: Path) -> str:
    """Add a file."""
    (backup / "dump" / "9999.dat").write_bytes(b"")
    return "9999.dat"


def cut(backup: Path) -> str:
    """Cut the manifest short."""
    (backup / "manifest.json").write_text('{"format": 1')
    return "manifest.json"


@pytest.mark.parametrize("harm", [flip, truncate, remove, add, cut], ids=lambda one: one.__name__)
def test_41_damaged(place: Place, harm: Callable[[Path], str]) -> None:
    """A backup that is not what was written is refused with the damage, whatever it is, and nothing is made of it."""
    backup = place.back_up()
    what = harm(backup)
    before = fingerprint(place.url)
    for wanted in (backup.name, str(backup)):
        last = ended(place.run("restore", wanted, "--swap"), 41)
        assert what in last["error"]
        assert "restored" not in last
    assert place.beside() == []
    assert fingerprint(place.url) == before


def test_latest_is_the_newest_whole_one(place: Place, tmp_path: Path) -> None:
    """A backup in which damage was found is no longer the latest; the one before it is."""
    good, bad = place.back_up(), place.back_up()
    flip(bad)
    ended(place.run("restore", "latest"), 41)
    assert tmp_path / ended(place.run("restore", "latest"), 0)["backup"] == good


def test_41_not_what_the_manifest_says(place: Place) -> None:
    """A restored database that records another revision than its manifest, or lacks tables, is dropped again."""
    backup = place.back_up()
    edit(backup, revision_before=["b2"])
    last = ended(place.run("restore", "latest", "--swap"), 41)
    assert "b2" in last["error"]
    assert "a1" in last["error"]
    edit(backup, revision_before=["a1"], tables=3)
    assert "tables" in ended(place.run("restore", "latest", "--swap"), 41)["error"]
    assert place.beside() == []
    assert recorded(place.url) == ["a1"]


def test_tables_that_look_like_a_version_table(place: Place) -> None:
    """A table of the app's with such a column is not read as revisions; a policy does not hide the version table."""
    script(place.url, "create table releases (version_num text); insert into releases values ('customer-7')")
    script(place.url, "alter table alembic_version enable row level security")
    place.back_up()
    run = place.run("restore", "latest", "--swap")
    last = ended(run, 0)
    assert (last["revision_before"], last["revision_after"]) == ("a1", "a1")
    assert "customer-7" not in run.stderr


def test_version_table_of_another_name(place: Place, project: Project, any_server: Postgres, tmp_path: Path) -> None:
    """A version table that env.py renames is found again in what was restored, with or without the project."""
    schema = identifier("my schema")
    script(place.url, f"drop table alembic_version; create schema {schema}")
    project.revision("c3", "create table c (id int)")
    text = project.env.read_text(encoding="utf-8")
    changed = text.replace(
        "context.configure(", "context.configure(version_table='Done', version_table_schema='my schema', "
    )
    project.env.write_text(changed, encoding="utf-8")
    ended(place.run("up"), 0)
    backup = place.back_up()
    ended(place.run("upgrade", "head"), 0)
    script(place.url, f"update {schema}.\"Done\" set version_num = 'd4'")
    last = ended(place.run("restore", backup.name, "--swap"), 0)
    assert (last["revision_before"], last["revision_after"]) == ("d4", "c3")
    shutil.rmtree(project.folder / "migrations")
    project.ini.unlink()
    assert told(place.run("restore", backup.name))["revision"] == "c3"


def test_several_version_tables(place: Place) -> None:
    """A backup of tenants that are at different revisions is whole if each revision is in one of their tables."""
    script(
        place.url,
        "create schema tenant; create table tenant.alembic_version (version_num varchar(32));"
        "insert into tenant.alembic_version values ('x9')",
    )
    backup = place.back_up()
    edit(backup, revision_before=["a1", "x9"])
    ended(place.run("restore", "latest"), 0)
    edit(backup, revision_before=["a1", "y9"])
    assert "y9" in ended(place.run("restore", "latest"), 41)["error"]


def test_read_only_backups(place: Place, tmp_path: Path) -> None:
    """Backups that may only be read are restored; that the proof cannot be noted is no failure."""
    backup = place.back_up()
    backup.chmod(0o500)
    run = place.run("restore", "latest", env=planted(tmp_path, LIKE_ANYBODY))
    backup.chmod(0o700)
    ended(run, 0)
    assert run.events("proof_not_recorded")
    assert "restored" not in place.proofs(backup)


# -- privileges and clients -------------------------------------------------------------------------------------------


def test_21_may_not_create(place: Place, any_server: Postgres) -> None:
    """A role without CREATEDB, or one that does not own the database, is told the statement to run, and it helps."""
    place.back_up()
    make_role(any_server, "plain", "a role's pass")
    url = with_password(place.url, "a role's pass", user="plain")
    for statement in ("alter role", "grant"):
        last = ended(place.run("restore", "latest", url=url), 21, secrets=["a role's pass"])
        assert last["hint"].startswith(statement)
        assert place.beside() == []
        script(any_server.url(), last["hint"])
    script(any_server.url(), "revoke postgres from plain")


def test_22_no_pg_restore(place: Place) -> None:
    """Where no pg_restore can read the dump, the package to install is named."""
    edit(place.back_up(), client_version="99.1")
    last = ended(place.run("restore", "latest"), 22)
    assert "postgresql-client-99" in last["hint"]


def test_41_role_is_gone(place: Place) -> None:
    """What pg_restore fails of is said in words, and the partial database is dropped."""
    script(place.url, "create role nobody_knows; alter table t owner to nobody_knows")
    place.back_up()
    script(place.url, "alter table t owner to postgres; drop role nobody_knows")
    last = ended(place.run("restore", "latest", "--swap"), 41)
    assert "'nobody_knows'" in last["error"]
    assert place.beside() == []


# -- the exchange -----------------------------------------------------------------------------------------------------


def test_41_others_are_connected(place: Place) -> None:
    """While others are connected nothing is begun, and each of them is named, with what to do."""
    place.back_up()
    before = fingerprint(place.url)
    with Session(place.url, "the app"):
        last = ended(place.run("restore", "latest", "--swap"), 41)
        [session] = last["sessions"]
        assert session["application_name"] == "the app"
        assert str(session["pid"]) in last["error"]
        assert "nothing was restored" in last["hint"]
        assert "--end-sessions" in last["hint"]
        assert place.beside() == []
        ended(place.run("restore", "latest"), 0)  # beside disturbs nobody
    assert [name for name in place.beside() if "_restored_" not in name] == []
    assert fingerprint(place.url) == before


def test_end_sessions(place: Place, any_server: Postgres) -> None:
    """`--end-sessions` ends them, and what is connected afterwards is in the restored database."""
    place.back_up()
    script(place.url, "delete from t")
    query = "select pid from pg_stat_activity where application_name = 'the app'"
    with Session(place.url, "the app"):
        run = place.run("restore", "latest", "--swap", "--end-sessions")
        ended(run, 0)
        assert psql(any_server.url(), query) == []
    assert [line["pid"] for line in run.events("session_ended")]
    assert psql(place.url, "select count(*) from t") == [(100,)]
    [line] = run.events("databases_exchanged")
    said = told(run)
    assert (line["kept"], line["go_back"], line["remove"]) == (said["before"], said["go back"], said["remove"])
    assert psql(any_server.url(line["kept"]), "select count(*) from t") == [(0,)]
    assert place.beside() == [line["kept"]]


def test_21_may_not_end_sessions(place: Place, any_server: Postgres) -> None:
    """A session that the role may not end is named; the names stay, and the command to exchange is given."""
    make_role(any_server, "owning", "a role's pass", "createdb")
    script(any_server.url(), f"alter database {place.name} owner to owning")
    script(place.url, "alter table t owner to owning; alter table alembic_version owner to owning")
    place.back_up()
    url = with_password(place.url, "a role's pass", user="owning")
    with Session(place.url, "the superuser"):
        last = ended(place.run("restore", "latest", "--swap", "--end-sessions", url=url), 21, secrets=["a role's pass"])
    assert "the superuser" in last["error"]
    assert place.beside() == [last["restored"]]
    command = last["exchange_command"].replace("owning@", "postgres@")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, env=place.environment())
    assert [name for name in place.beside() if "_before_restore_" in name] == place.beside()


def test_41_somebody_comes_late(stuck: Place, begin_headstart: Callable[..., Headstart]) -> None:
    """Who connects while the restore is at work keeps the exchange from happening; the restored database stays."""
    with begin_headstart("restore", "latest", "--swap", url=stuck.url) as process:
        process.wait_for("restore_started")
        with Session(stuck.url, SIGNAL):
            last = ended(process.finish(), 41)
    assert SIGNAL in last["error"]
    assert stuck.beside() == [last["restored"]]
    assert "psql" in last["exchange_command"]
    assert f"stays as {last['restored']}" in last["hint"]
    subprocess.run(["sh", "-c", last["hint"].split("`")[1]], check=True, capture_output=True, env=stuck.environment())
    assert stuck.beside() == [], "what the hint says removes it"
    assert psql(stuck.url, "select count(*) from t") == [(100,)]


def test_41_prepared_transactions(start_server: Callable[..., Postgres], tmp_path: Path, run_headstart: Any) -> None:
    """A prepared transaction keeps a database from being renamed: it is said, and the restored one stays beside."""
    server = start_server(settings={"max_prepared_transactions": "2"})
    url = server.create_database("app")
    script(url, "create table t (id int)")
    place = Place(server, url, tmp_path, run_headstart)
    env = {"PATH": f"{server.bindir}:/usr/bin:/bin"}
    ended(place.run("backup", env=env), 0)
    script(url, "begin; insert into t values (1); prepare transaction 'half done'")
    last = ended(place.run("restore", "latest", "--swap", env=env), 41)
    assert "prepared transaction" in last["error"]
    assert place.beside() == [last["restored"]]
    assert psql(url, "select count(*) from t") == [(0,)]


# -- others at work ---------------------------------------------------------------------------------------------------


def test_30_a_migration_is_at_work(place: Place) -> None:
    """The exchange waits for the migration lock of the live database, and names who holds it; beside needs no lock."""
    place.back_up()
    with Session(place.url, "a runner") as session:
        session.execute(f"select pg_advisory_lock({GATE})")
        last = ended(place.run("restore", "latest", "--swap", "--lock-timeout", "300ms"), 30)
        assert "a runner" in last["error"]
        ended(place.run("restore", "latest", "--lock-timeout", "300ms"), 0)


def test_up_at_the_same_time(
    stuck: Place, project: Project, begin_headstart: Callable[..., Headstart], any_server: Postgres
) -> None:
    """An `up` that waits for the lock never migrates what is being exchanged: it connects again, to the new."""
    project.revision("a1")
    project.revision("b2", "create table b2 (id int)")
    with begin_headstart("restore", "latest", "--swap", "--end-sessions", url=stuck.url) as restoring:
        restoring.wait_for("restore_started")
        with begin_headstart("up", url=stuck.url) as up:
            up.wait_for("lock_waiting")
            with Session(any_server.url(), SIGNAL):
                said = told(restoring.finish())
            run = up.finish()
    ended(run, 0)
    assert run.events("server_lost") != []
    assert recorded(any_server.url(said["before"])) == ["a1"]
    assert recorded(stuck.url) == ["b2"]


def test_30_another_restore(stuck: Place, begin_headstart: Callable[..., Headstart], any_server: Postgres) -> None:
    """Two restores beside one database do not get into each other's way: the second is told to wait."""
    with begin_headstart("restore", "latest", url=stuck.url) as first:
        first.wait_for("restore_started")
        assert "another restore" in ended(stuck.run("restore", "latest"), 30)["error"]
        with Session(any_server.url(), SIGNAL):
            ended(first.finish(), 0)
    assert len(stuck.beside()) == 1


def test_41_the_lock_is_lost(stuck: Place, begin_headstart: Callable[..., Headstart], any_server: Postgres) -> None:
    """A restore that loses the migration lock ends, drops what it made, and exchanges nothing."""
    with begin_headstart("restore", "latest", "--swap", url=stuck.url) as process:
        process.wait_for("restore_started")
        eventually(lambda: [name for name in stuck.beside() if "_restoring_" in name], "the partial database")
        psql(any_server.url(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", stuck.name)
        ended(process.finish(), 41)
    assert stuck.beside() == []


def test_41_out_of_time(stuck: Place) -> None:
    """HEADSTART_DEADLINE ends a restore like any other failure, and leaves nothing."""
    last = ended(stuck.run("restore", "latest", "--deadline", "3s"), 41)
    assert "HEADSTART_DEADLINE" in last["error"]
    assert stuck.beside() == []


def test_what_is_swept(place: Place, any_server: Postgres) -> None:
    """What a killed restore left is dropped by the next; what has another name, or is in use, stays."""
    place.back_up()
    ours, used = (f"{place.name}_restoring_2026010{day}T120000Z" for day in (1, 2))
    other = f"{place.name}_restoring_notes"
    for name in (ours, used, other):
        any_server.create_database(name)
    with Session(any_server.url(used), "looking at it"):
        run = place.run("restore", "latest")
        ended(run, 0)
    assert [line["database"] for line in run.events("partial_database_dropped")] == [ours]
    assert [line["database"] for line in run.events("partial_database_kept")] == [used]
    left = psql(any_server.url(), "select datname::text from pg_database where datname like $1", f"{place.name}%")
    assert {used, other} <= {row[0] for row in left}
    assert (ours,) not in left
    for name in (used, other):
        any_server.drop_database(name)
