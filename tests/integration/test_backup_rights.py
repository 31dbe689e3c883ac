"""Who may read a backup: it holds all data."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart import backup
from headstart.backup import manifest as manifests
from headstart.backup.folder import Staging
from headstart.backup.restoring.choose import candidates
from headstart.backup.verify import verify
from headstart.errors import BackupFailedError, ConfigurationError, RestoreFailedError
from integration.test_backup import Taker
from support.postgres import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Postgres


@pytest.fixture(params=[0, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """The umask of a run."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def take(any_server: Postgres, any_database: str, tmp_path: Path) -> Taker:
    """Backups of a small database."""
    script(any_database, "create table a as select i from generate_series(1, 1000) i")
    return Taker(any_server, any_database, tmp_path / "backups")


@pytest.mark.usefixtures("umask")
async def test_for_its_user_alone(take: Taker) -> None:
    """Whatever the umask, nobody else may read what a backup makes, from the database's folder on."""
    taken = await take()
    home = taken.path.parent
    assert rights(home) == {0o700}, "the database's folder, the backup's and pg_dump's"
    assert rights(home, files=True) == {0o600}
    await verify(taken, await take.client(), log=take.log)
    assert rights(home, files=True) == {0o600}


async def test_what_was_opened_stays_open(take: Taker) -> None:
    """A group that was let in stays in: no later backup closes the folder, nor does a manifest that is rewritten."""
    taken = await take()
    home = taken.path.parent
    for path in (home, taken.path, taken.path / manifests.NAME):
        path.chmod(0o750 if path.is_dir() else 0o640)
    manifests.write(taken.path, taken.manifest)
    await take()
    assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(taken.path.stat().st_mode) == 0o750
    assert stat.S_IMODE((taken.path / manifests.NAME).stat().st_mode) == 0o640
    assert len(backup.list_backups(take.directory).backups) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
async def test_a_neighbour_was_there_first(take: Taker) -> None:
    """Where anybody may make folders, one that another user has made for this database is refused by name."""
    take.directory.mkdir()
    take.directory.chmod(0o1777)
    home = take.directory / take.url.rpartition("/")[2]
    home.mkdir(mode=0o777)
    os.chown(home, 65534, 65534)
    with pytest.raises(BackupFailedError, match="belongs to another user"):
        await take()
    assert list(home.iterdir()) == []
    os.chown(take.directory, 65534, 65534)
    await take()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
@pytest.mark.parametrize(
    ("mode", "above", "home", "one", "trusted"),
    [
        (0o755, 10001, 10001, 10001, True),
        (0o777, 10001, 10001, 10001, True),
        (0o775, 0, 10001, 10001, True),
        (0o777, 0, 0, 0, True),
        (0o1777, 10001, 0, 0, True),
        (0o777, 0, 10001, 10001, False),
        (0o1777, 0, 10001, 0, False),
        (0o1777, 10002, 10001, 10001, False),
        (0o755, 0, 0, 10001, False),
        (0o755, 10002, 10002, 10001, False),
    ],
)
async def test_whose_backups_are_read(mode: int, above: int, home: int, one: int, trusted: bool, take: Taker) -> None:
    """Ours, root's, and those of the owner of the folder above; others by their path and their owner's name alone."""
    taken = await take()
    name = take.url.rpartition("/")[2]
    take.directory.chmod(mode)
    for path, owner in ((take.directory, above), (taken.path.parent, home), (taken.path, one)):
        os.chown(path, owner, owner)

    def found(wanted: str, uid: int | None = None) -> list[Path]:
        return [each.path for each in candidates(take.directory, name, wanted, cwd=take.directory, trusted_owner=uid)]

    assert [each.path for each in backup.list_backups(take.directory, name).backups] == (
        [taken.path] if trusted else []
    )
    if trusted:
        assert found("latest") == found(taken.name) == found(str(taken.path)) == [taken.path]
        return
    for listed in (backup.list_backups(take.directory, name), backup.list_backups(take.directory)):
        [broken] = listed.broken
        assert broken.path in {taken.path, taken.path.parent}
        assert "belongs to another user (uid 10001)" in broken.problem
        assert "--trust-owner 10001" in str(broken.hint)
    with pytest.raises(ConfigurationError) as nothing:
        found("latest")
    assert "--trust-owner 10001" in nothing.value.hint
    for uid in (None, 10002, 0):
        with pytest.raises(RestoreFailedError, match="belongs to another user") as refused:
            found(str(taken.path), uid)
        assert f"headstart restore {taken.path} --trust-owner 10001" in refused.value.hint
    assert found(str(taken.path), 10001) == [taken.path]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
async def test_another_user_s_link(take: Taker, tmp_path: Path) -> None:
    """Nor does a link that another user has made lead to backups of ours."""
    taken = await take()
    home, kept = taken.path.parent, tmp_path / "elsewhere"
    home.rename(kept)
    home.symlink_to(kept)
    assert len(backup.list_backups(take.directory).backups) == 1
    take.directory.chmod(0o1777)
    os.chown(home, 65534, 65534, follow_symlinks=False)
    assert backup.list_backups(take.directory).backups == ()


@pytest.fixture
def share() -> Iterator[Path]:
    """A folder where anybody may make one, and that any user reaches: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def squashed() -> Iterator[int]:
    """What we make belongs to another user, as on a share that maps all users to one: see setfsuid(2)."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(65534)
    yield 65534
    libc.setfsuid(os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
async def test_a_share_that_maps_all_users(take: Taker, share: Path, request: pytest.FixtureRequest) -> None:
    """Where what we make belongs to another user, that user's folder is written to and read; a third one's is not."""
    taken = await take()
    home = share / taken.path.parent.name
    shutil.copytree(taken.path.parent, home)
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    theirs = share / "theirs"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, 10001, 10001)
    staging = Staging(home, "1", "run")
    with pytest.raises(BackupFailedError, match="belongs to another user"):
        staging.create()
    assert backup.list_backups(share).backups == ()

    uid = request.getfixturevalue("squashed")
    staging.create()
    assert staging.path.stat().st_uid == uid != os.geteuid()
    staging.discard()
    [listed] = backup.list_backups(share).backups
    assert listed.name == taken.name
    fresh = Staging(share / "fresh", "1", "run")
    fresh.create()
    assert hidden(share) == []
    [broken] = backup.list_backups(share).broken
    assert broken.path == theirs
    with pytest.raises(BackupFailedError, match="belongs to another user"):
        Staging(theirs, "1", "run").create()


def rights(home: Path, *, files: bool = False) -> set[int]:
    """The modes of a folder and all folders in it, or of all files in it."""
    return {stat.S_IMODE(each.stat().st_mode) for each in (home, *home.rglob("*")) if each.is_file() is files}


def hidden(folder: Path) -> list[Path]:
    """What a folder holds under a dotted name."""
    return [each for each in folder.iterdir() if each.name.startswith(".")]
