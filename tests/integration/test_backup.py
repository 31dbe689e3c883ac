"""Backups of real databases: whole or not there, and never at the cost of an older one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import pytest
import structlog
from structlog.testing import LogCapture

from headstart import backup
from headstart.backup import dump as dumps
from headstart.backup import folder as folders
from headstart.backup import manifest as manifests
from headstart.backup.clients import Client, best_compression, find_client
from headstart.backup.retention import prune
from headstart.backup.verify import verify
from headstart.errors import BackupFailedError, UnsuitableServerError
from headstart.postgres.readiness import Ready
from headstart.postgres.server import connect, identify
from headstart.settings.resolve import parse_dsn
from support.postgres import database_of, psql, script
from support.waiting import soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres import Postgres

PASSWORD = "p@ss:/w% \"'"
ROLES = itertools.count(1)
TABLES = (
    "create table a (id int primary key, t text); create table b (id int); insert into a select i, md5(i::text) from"
)


class Taker:
    """Takes backups of one database into one folder, and remembers what was logged."""

    def __init__(self, server: Postgres, url: str, directory: Path) -> None:
        self.url, self.directory, self.path = url, directory, f"{server.bindir}:/usr/bin:/bin"
        self.capture = LogCapture()
        self.log = structlog.wrap_logger(None, processors=[self.capture])

    async def __call__(  # noqa: D102  (as `backup.take`)
        self,
        before: tuple[str, ...] = (),
        intended: tuple[str, ...] = ("one",),
        *,
        jobs: int = 2,
        keep: int = 7,
        interval: float = 5.0,
        directory: Path | None = None,
    ) -> backup.Backup:
        dsn = parse_dsn(self.url, {}, read_file=_no_file, default_user="nobody")
        connection = await connect(dsn, timeout=10, application_name="test")
        try:
            return await backup.take(
                backup.Request(
                    ready=Ready(connection, await identify(connection), dsn, dsn),
                    directory=directory or self.directory,
                    before=before,
                    intended=intended,
                    jobs=jobs,
                    keep=keep,
                    run_id="run-1",
                    environ={"PATH": self.path},
                    log=self.log,
                    redact=lambda text: text.replace(PASSWORD, "***"),
                    interval=interval,
                )
            )
        finally:
            await connection.close()

    async def client(self) -> Client:
        """The client for the server."""
        return await find_client(int(psql(self.url, "show server_version_num")[0][0]), path=self.path)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under a name."""
        return [dict(entry) for entry in self.capture.entries if entry["event"] == name]

    def listed(self) -> list[str]:
        """The names of the whole backups in the folder, newest first."""
        return [one.path.name for one in backup.list_backups(self.directory, database_of(self.url)).backups]

    def hidden(self) -> list[Path]:
        """What lies in the folder under a dotted name."""
        return sorted(self.directory.rglob(".*"))


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


@pytest.fixture
def take(server: Postgres, database: str, tmp_path: Path) -> Taker:
    """Backups of a small database on each server."""
    script(database, f"{TABLES} generate_series(1, 1000) i")
    return Taker(server, database, tmp_path / "backups")


@pytest.fixture
def take_any(any_server: Postgres, any_database: str, tmp_path: Path) -> Taker:
    """Backups of a small database on one server."""
    script(any_database, f"{TABLES} generate_series(1, 1000) i")
    return Taker(any_server, any_database, tmp_path / "backups")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """File systems of a given size in MiB, or read-only ones."""
    with contextlib.ExitStack() as stack:

        def mount(mib: int, *options: str) -> Path:
            point = tmp_path / f"disk{mib}{''.join(options)}"
            point.mkdir()
            wanted = ",".join([f"size={mib}m", *options])
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", wanted, "tmpfs", point], capture_output=True, check=False
            )
            if done.returncode != 0:
                pytest.skip("this user may not mount a small file system")
            stack.callback(lambda: subprocess.run(["umount", "-l", point], check=True))
            return point

        yield mount


def dumping(url: str) -> int:
    """How many sessions of a dump of ours the server has."""
    sql = "select count(*) from pg_stat_activity where application_name like 'headstart-dump:%' and datname = $1"
    return int(psql(url, sql, database_of(url))[0][0])


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def command_lines() -> list[bytes]:
    """The arguments of every process of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return lines


def role(url: str, options: str = "") -> tuple[str, str]:
    """A new role that may log in, and the URL with it."""
    name = f"reader_{os.getpid()}_{next(ROLES)}"
    script(url, f"create role {name} login password '{PASSWORD.replace(chr(39), chr(39) * 2)}' {options}")
    start, _, rest = url.partition("://")
    quoted = "p%40ss%3A%2Fw%25%20%22%27"
    return name, f"{start}://{name}:{quoted}@{rest.rpartition('@')[2]}"


async def test_a_backup_restores_to_the_same_rows(take: Taker, server: Postgres) -> None:
    """What is backed up can be restored into another database, with every row."""
    taken = await take()
    other = server.create_database()
    try:
        client = await take.client()
        env = {**parse_dsn(other, {}, read_file=_no_file, default_user="x").libpq_env(), "PATH": take.path}
        command = [str(client.pg_restore), "--exit-on-error", "-j2", "-d", database_of(other), str(taken.path / "dump")]
        await asyncio.to_thread(lambda: subprocess.run(command, env=env, check=True))
        sql = "select count(*), md5(string_agg(id || t, ',' order by id)) from a"
        assert psql(other, sql) == psql(take.url, sql)
    finally:
        server.drop_database(other)


async def test_a_backup_is_described_and_proven(take: Taker, server: Postgres) -> None:
    """The manifest names versions, revisions, sizes and proofs, and a verification agrees with it."""
    taken = await take(("a1",), ("b2",))
    manifest = taken.manifest
    assert (manifest.revision_before, manifest.revision_intended) == (("a1",), ("b2",))
    assert manifest.client_version.startswith(f"{server.major}.")
    assert [proof.kind for proof in manifest.proofs] == ["checksummed", "listed"]
    assert manifest.tables == 2
    assert manifest.bytes == sum(path.stat().st_size for path in (taken.path / "dump").iterdir())
    assert take.hidden() == []
    verified = await verify(taken, await take.client(), log=take.log)
    assert verified.good
    assert backup.list_backups(take.directory).backups == (verified,)


async def test_the_best_compression_of_the_client_is_used(take: Taker) -> None:
    """zstd, lz4 or gzip: whatever this pg_dump has."""
    taken = await take()
    best = await best_compression(await take.client())
    suffix = {"zstd": ".zst", "lz4": ".lz4", "gzip": ".gz"}[best.partition(":")[0]]
    assert taken.manifest.compression == best
    assert {path.suffix for path in (taken.path / "dump").iterdir()} == {".dat", suffix}


@pytest.mark.parametrize(
    "name",
    ["a b", "q\"uo'te", "a/../b", "../up", "..", "-x", ".hid", "a=b", "postgres://x", "Ünï", "%41", "a\\b", "$(x);`y`"],
)
async def test_any_database_name_is_dumped_into_a_safe_folder(any_server: Postgres, name: str, tmp_path: Path) -> None:
    """A database with an awkward name is the one that is dumped, and its folder stays where it belongs."""
    url = any_server.create_database(name)
    try:
        script(url, "create table here (id int)")
        take = Taker(any_server, url, tmp_path / "backups")
        taken = await take()
        assert taken.manifest.database == name
        assert taken.manifest.tables == 1
        assert taken.path.parent.parent == tmp_path / "backups"
        assert names(tmp_path) == ["backups"]
        assert len(take.listed()) == 1
    finally:
        any_server.drop_database(url)


async def test_an_empty_database_has_a_backup_too(any_server: Postgres, any_database: str, tmp_path: Path) -> None:
    """A database without tables can be backed up."""
    assert (await Taker(any_server, any_database, tmp_path)()).manifest.tables == 0


async def test_a_crash_loop_holds_two(take_any: Taker) -> None:
    """Five attempts at one step leave the first backup and the newest."""
    taken = [(await take_any()).path.name for _ in range(5)]
    assert take_any.listed() == [taken[-1], taken[0]]


async def test_older_ones_are_pruned_once_the_new_one_is_whole(take_any: Taker) -> None:
    """No more than asked for are kept, and what is deleted is said."""
    taken = [(await take_any((f"r{step}",), (f"r{step + 1}",), keep=2)).path.name for step in range(3)]
    assert take_any.listed() == [taken[2], taken[1]]
    assert [Path(event["path"]).name for event in take_any.events("backup_deleted")] == [taken[0]]


async def test_a_failed_one_costs_no_older_one(take_any: Taker) -> None:
    """A dump that the role may not take is named, leaves nothing behind, and the older backup stays."""
    await take_any(keep=1)
    older = take_any.listed()
    _, take_any.url = role(take_any.url)
    with pytest.raises(BackupFailedError, match=r"may not read (table|schema|sequence) \w+") as caught:
        await take_any(("one",), ("two",), keep=1)
    assert "grant" in caught.value.hint
    assert (take_any.listed(), take_any.hidden()) == (older, [])


async def test_rows_hidden_by_a_policy_are_not_left_out(take_any: Taker) -> None:
    """Where row-level security would hide rows, there is a refusal and no backup."""
    name, url = role(take_any.url)
    script(
        take_any.url, f"alter table a enable row level security; grant select on all tables in schema public to {name}"
    )
    take_any.url = url
    with pytest.raises(BackupFailedError, match="row-level security hides rows of table") as caught:
        await take_any()
    assert "BYPASSRLS" in caught.value.hint


async def test_no_room_is_seen_before(take_any: Taker, small_disk: Callable[..., Path]) -> None:
    """A disk that cannot take the dump is refused before it starts, with both numbers and the setting."""
    disk = small_disk(4)
    with pytest.raises(
        BackupFailedError, match=r"about \d+ MiB are needed, 4 MiB are free in HEADSTART_BACKUP_DIR="
    ) as caught:
        await take_any(directory=disk)
    assert caught.value.context["free_bytes"] == 4 * 1024 * 1024
    assert list(disk.rglob(".*")) == []


async def test_a_disk_that_fills_up_is_named(take_any: Taker, small_disk: Callable[..., Path]) -> None:
    """A disk that is full before the dump is whole is the named cause, and is left as it was."""
    take_any.directory = small_disk(24)
    first = await take_any()
    random = "decode(string_agg(md5(random()::text), ''), 'hex')"
    rows = "generate_series(1, 30) n, generate_series(1, 65536) i group by n"
    script(take_any.url, f"create table blob as select n, {random} from {rows}")
    with pytest.raises(BackupFailedError, match="is full: the dump did not fit") as caught:
        await take_any(("one",), ("two",))
    assert "HEADSTART_BACKUP_DIR" in caught.value.hint
    assert take_any.listed() == [first.path.name]
    assert take_any.hidden() == []


async def test_a_read_only_folder_is_named(take_any: Taker, small_disk: Callable[..., Path]) -> None:
    """A folder that cannot be written to is refused by its setting's name, with the remedy."""
    with pytest.raises(BackupFailedError, match=r"HEADSTART_BACKUP_DIR=.*Read-only file system") as caught:
        await take_any(directory=small_disk(30, "ro"))
    assert "writable" in caught.value.hint


async def test_a_file_in_place_of_the_folder_is_named(take_any: Taker, tmp_path: Path) -> None:
    """A backup folder that is a file is refused."""
    (tmp_path / "file").touch()
    with pytest.raises(BackupFailedError, match=r"HEADSTART_BACKUP_DIR=.*is not a folder"):
        await take_any(directory=tmp_path / "file")


async def test_a_missing_client_is_named(take_any: Taker) -> None:
    """Without a pg_dump for the server's version the refusal names the package."""
    with pytest.raises(UnsuitableServerError, match="no pg_dump of 99 or newer") as caught:
        await find_client(990000, path=take_any.path)
    assert "postgresql-client-99" in caught.value.hint


async def test_what_a_dead_run_left_is_swept_up(take_any: Taker) -> None:
    """The next run removes a dead run's partial backup, and one that was being deleted."""
    home = take_any.directory / database_of(take_any.url)
    [(identifier,)] = psql(take_any.url, "select system_identifier::text from pg_control_system()")
    for name in (f".partial-{identifier}-dead", ".deleting-20200101T000000.000Z-base"):
        (home / name / "dump").mkdir(parents=True)
        (home / name / "dump" / "1.dat.gz").write_bytes(b"x")
    await take_any()
    assert take_any.hidden() == []
    assert len(take_any.events("partial_backup_removed")) == 2


async def test_a_living_runs_partial_backup_stays(take_any: Taker) -> None:
    """What a run on another server with a database of the same name is writing is left alone."""
    living = take_any.directory / database_of(take_any.url) / ".partial-7000000000000000000-living"
    living.mkdir(parents=True)
    await take_any()
    assert take_any.hidden() == [living]


async def test_progress_is_told_while_it_waits_for_a_table(take_any: Taker) -> None:
    """A dump that waits for another session's lock speaks all the time, and goes on when the lock is gone."""
    blocker = await asyncpg.connect(take_any.url)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table a in access exclusive mode")
            task = asyncio.create_task(take_any(interval=0.05))
            await soon(lambda: len(take_any.events("backup_progress")) >= 3, "three lines of progress")
        await task
    finally:
        await blocker.close()
    assert {"written_bytes", "files", "tables", "elapsed_seconds", "stage"} <= take_any.events("backup_progress")[
        0
    ].keys()
    assert len(take_any.listed()) == 1


async def test_a_table_stays_locked(take_any: Taker, tmp_path: Path) -> None:
    """A dump that gives up on a table says what to do about who was seen to hold it."""
    client = await take_any.client()
    env = dumps.environment(
        parse_dsn(take_any.url, {}, read_file=_no_file, default_user="x").libpq_env(), {}, run_id="r"
    )
    command = (*dumps.argv(client, tmp_path / "d", jobs=1, compression="gzip:1"), "--lock-wait-timeout=100")
    blocker = await asyncpg.connect(take_any.url)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table a in access exclusive mode")
            with pytest.raises(BackupFailedError, match="locked") as error:
                await dumps.dump(
                    client,
                    command,
                    env=env,
                    directory=tmp_path,
                    log=take_any.log,
                    redact=str,
                    blocked=lambda: "end it: select 1",
                )
    finally:
        await blocker.close()
    assert error.value.hint == "end it: select 1; then run again"


async def test_cancelling_leaves_nothing_behind(take_any: Taker) -> None:
    """A cancelled backup leaves no process, no session and no file, and held no secret in its arguments."""
    blocker = await asyncpg.connect(take_any.url)
    owner = take_any.url
    _, take_any.url = role(owner, "superuser")
    try:
        async with blocker.transaction():
            await blocker.execute("lock table a in access exclusive mode")
            task = asyncio.create_task(take_any())
            await soon(lambda: dumping(owner) > 0, "pg_dump at work")
            lines = command_lines()
            assert any(b"--no-password" in line for line in lines)
            assert not any(b"p@ss" in line for line in lines)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 2
            await soon(lambda: dumping(owner) == 0, "no pg_dump")
    finally:
        await blocker.close()
    assert (take_any.listed(), take_any.hidden()) == ([], [])


async def test_an_orphaned_dump_is_ended(take_any: Taker) -> None:
    """A dump whose run was killed is ended by the next run: its locks would make the migration wait."""
    orphan = await asyncpg.connect(take_any.url, server_settings={"application_name": "headstart-dump:dead"})
    pid = orphan.get_server_pid()
    await take_any()
    assert [event["pid"] for event in take_any.events("orphaned_dump_ended")] == [pid]
    await soon(orphan.is_closed, "the end of the orphan")


async def test_another_dump_is_named(take_any: Taker) -> None:
    """Somebody else's pg_dump on the database is named, and left alone."""
    other = await asyncpg.connect(take_any.url, server_settings={"application_name": "pg_dump"})
    try:
        await take_any()
        assert [event["pid"] for event in take_any.events("other_dump_running")] == [other.get_server_pid()]
        assert await other.fetchval("select 1") == 1
    finally:
        await other.close()


def _corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _add(path: Path) -> None:
    path.with_name("stranger").touch()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[2] / "elsewhere"))


def _listen(path: Path) -> None:
    path.unlink()
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:  # its path may be too long
        listener.bind(path.name)


@pytest.mark.parametrize(
    ("damage", "says", "shows"),
    [
        (_corrupt, r"{name} has changed", False),
        (_truncate, r"{name} has \d+ bytes instead of", True),
        (_lengthen, r"{name} has \d+ bytes instead of", True),
        (Path.unlink, r"{name} is missing", True),
        (_add, r"dump/stranger does not belong here", True),
        (_pipe, r"{name} is not an ordinary file", True),
        (_link, r"{name} is not an ordinary file", True),
    ],
)
async def test_damage_is_found_and_named(
    take_any: Taker, damage: Callable[[Path], None], says: str, shows: bool
) -> None:
    """Each kind of damage is found and named; what a glance can see is not even listed as a backup."""
    taken = await take_any()
    target = max((taken.path / "dump").iterdir(), key=lambda path: path.stat().st_size)
    damage(target)
    damage_found = (await verify(taken, await take_any.client(), log=take_any.log)).manifest.damage
    assert damage_found
    said = "; ".join(damage_found)
    pattern = says.format(name=f"dump/{target.name}")
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(said)
    listing = backup.list_backups(take_any.directory)
    assert [one.path for one in listing.broken] == ([taken.path] if shows else [])
    assert [one.manifest.damage for one in listing.backups] == ([] if shows else [damage_found])


@pytest.mark.parametrize("name", ["manifest.json", "dump/toc.dat"])
@pytest.mark.parametrize("replace", [Path.unlink, _pipe, _link, _listen])
async def test_only_ordinary_files_are_read(take_any: Taker, name: str, replace: Callable[[Path], None]) -> None:
    """Nothing, a pipe, a link or a socket in place of a file is named, and nobody waits for its writer."""
    taken = await take_any()
    replace(taken.path / name)
    [broken] = backup.list_backups(take_any.directory).broken
    says = f"no {name}|{name} is missing" if replace is Path.unlink else "not an ordinary file"
    assert re.search(says, broken.problem)
    if name != manifests.NAME:
        damage = (await verify(taken, await take_any.client(), log=take_any.log)).manifest.damage
        assert any(re.search(says, each) for each in damage)


async def test_a_link_is_no_backup(take_any: Taker) -> None:
    """A link among the backups takes no place of theirs, is not deleted, and is named."""
    old, new = await take_any(("a",), ("b",)), await take_any(("b",), ("c",))
    latest, gone = new.path.with_name("latest"), new.path.with_name(".partial-gone")
    latest.symlink_to(new.path.name)
    gone.symlink_to(old.path.name)
    decision = prune(take_any.directory, database_of(take_any.url), 2, log=take_any.log)
    assert set(decision.keep) == {old.path.name, new.path.name}
    newest = await take_any(("c",), ("d",), keep=1)
    assert (take_any.listed(), latest.is_symlink(), gone.is_symlink()) == ([newest.path.name], True, True)
    listing = backup.list_backups(take_any.directory)
    assert (listing.links, listing.broken) == ((), ())  # it leads nowhere now
    latest.unlink()
    latest.symlink_to(newest.path)
    assert backup.list_backups(take_any.directory).links == (latest,)


async def test_a_damaged_one_is_not_the_last_good_one(take_any: Taker) -> None:
    """Retention counts on no backup in which damage was found."""
    good, bad = await take_any(("a",), ("b",)), await take_any(("b",), ("c",))
    _corrupt(bad.path / "dump" / "toc.dat")
    await verify(bad, await take_any.client(), log=take_any.log)
    decision = prune(take_any.directory, database_of(take_any.url), 1, log=take_any.log)
    assert good.path.name in decision.keep


async def test_what_only_looks_like_a_backup_is_reported(take_any: Taker) -> None:
    """A folder with a broken manifest, or none, is told apart and neither crashes nor is deleted."""
    taken = await take_any()
    for name, content in (("20200101T000000.000Z-x", b"{"), ("20200102T000000.000Z-y", None)):
        (taken.path.parent / name).mkdir()
        if content is not None:
            (taken.path.parent / name / "manifest.json").write_bytes(content)
    second = await take_any(("one",), ("two",), keep=1)
    assert take_any.listed() == [second.path.name]
    assert len(take_any.events("backup_broken")) == 2
    assert len(backup.list_backups(take_any.directory).broken) == 2


async def test_backups_of_another_server_are_not_pruned(take_any: Taker) -> None:
    """Two servers with a database of the same name may share a folder: each prunes its own."""
    other = await take_any(("x",), ("y",))
    foreign = msgspec.structs.replace(other.manifest, system_identifier="another")
    manifests.write(other.path, foreign)
    await take_any(("a",), ("b",), keep=1)
    taken = await take_any(("b",), ("c",), keep=1)
    assert set(take_any.listed()) == {other.path.name, taken.path.name}


async def test_no_secret_is_in_log_or_manifest(take_any: Taker) -> None:
    """Neither the manifest nor a log line knows the password."""
    _, take_any.url = role(take_any.url, "superuser")
    taken = await take_any()
    shown = (taken.path / "manifest.json").read_text() + repr(take_any.capture.entries)
    assert PASSWORD not in shown
    assert "p@ss" not in shown
    assert folders.DUMP in shown
