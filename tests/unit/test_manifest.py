"""The manifest on disk, and the names of the folders."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.backup import manifest as manifests
from headstart.backup.folder import backup_name, safe_name
from headstart.backup.manifest import Backup, FileSum, Manifest, ManifestError, Proof
from headstart.cli.output import backup_line
from headstart.errors import BackupFailedError
from headstart.steps.backup import shown
from support.damage import damaged

MANIFEST = Manifest(
    database='a "b" ü',
    server_version="16.14",
    client_version="16.14",
    revision_before=(),
    revision_intended=("1a2b", "3c4d"),
    started="2026-01-31T12:00:00.123Z",
    seconds=1.5,
    bytes=3,
    database_bytes=10,
    tables=1,
    compression="gzip:1",
    jobs=2,
    files={"dump/toc.dat": FileSum(sha256="00", bytes=3)},
    proofs=(Proof(kind="listed", at="2026-01-31T12:00:02.000Z"),),
    headstart_version="1",
    run_id="r",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A manifest comes back from disk as it was, and nothing else is left in the folder."""
    manifests.write(tmp_path, MANIFEST)
    assert manifests.read(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_it_is_indented_for_people(tmp_path: Path) -> None:
    """A manifest can be read in a pager."""
    manifests.write(tmp_path, MANIFEST)
    assert '\n  "revision_intended": [' in (tmp_path / "manifest.json").read_text()


NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b'{"format": "x"}', NESTED]
)
def test_nonsense_is_an_error_with_a_reason(content: bytes, tmp_path: Path) -> None:
    """A manifest that is cut short or is none is an error with a reason."""
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"\w"):
        manifests.read(tmp_path)


def test_a_missing_one_is_an_error(tmp_path: Path) -> None:
    """A folder without a manifest is no backup."""
    with pytest.raises(ManifestError, match=r"no manifest\.json"):
        manifests.read(tmp_path)


@given(st.integers(0, len(manifests.encode(MANIFEST)) - 2))
def test_every_truncation_is_noticed(length: int) -> None:
    """A manifest that lost its end is never read as if it were whole."""
    with pytest.raises(ManifestError):
        manifests.decode(manifests.encode(MANIFEST)[:length])


@settings(deadline=None)
@given(damaged(manifests.encode(MANIFEST)))
def test_whatever_it_holds_is_listed_or_refused(content: bytes) -> None:
    """A manifest that was damaged or forged is an error with a reason, or one that can be shown and written again."""
    with contextlib.suppress(ManifestError):
        found = manifests.decode(content)
        assert backup_line(shown(Backup(path=Path("/x"), manifest=found)))
        assert manifests.decode(manifests.encode(found)) == found


def test_a_newer_format_is_refused_by_name() -> None:
    """A manifest of a later format is not guessed at."""
    newer = msgspec.structs.replace(MANIFEST, format=2, headstart_version="9.9")
    with pytest.raises(ManifestError, match=r"format 2.*9\.9"):
        manifests.decode(manifests.encode(newer))


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/toc.dat", "dump/../../x", "dump/\0"])
def test_no_file_lies_outside(name: str) -> None:
    """A manifest cannot make a verification read files elsewhere."""
    with pytest.raises(ManifestError, match="outside"):
        manifests.decode(manifests.encode(msgspec.structs.replace(MANIFEST, files={name: FileSum(sha256="", bytes=1)})))


def test_a_folder_that_takes_no_manifest_is_a_failed_backup(tmp_path: Path) -> None:
    """A manifest that cannot be written ends the backup, with the reason."""
    with pytest.raises(BackupFailedError, match="No such file"):
        manifests.write(tmp_path / "gone", MANIFEST)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63))
def test_a_name_becomes_one_safe_folder(name: str) -> None:
    """Any database name becomes one plain, visible folder name, which tells the name again."""
    safe = safe_name(name)
    assert unquote(safe) == name
    assert "/" not in safe
    assert safe[0] not in ".-~"
    assert safe.isascii()
    assert safe.isprintable()


def test_a_backup_is_named_after_its_time_in_utc() -> None:
    """The folder's name begins with the time in UTC, whatever zone the clock speaks."""
    moment = datetime(2026, 1, 31, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert backup_name(moment, ("1a2b", "3c4d")) == "20260131T120000.123Z-1a2b+3c4d"
    assert backup_name(moment, ()) == "20260131T120000.123Z-base"
    assert "/" not in backup_name(moment, ("../x",))
    assert manifests.timestamp(moment) == "2026-01-31T12:00:00.123Z"


def test_long_revisions_still_make_a_name() -> None:
    """Many recorded heads do not exceed what a file system takes."""
    assert len(backup_name(datetime(2026, 1, 31, tzinfo=UTC), tuple("abcdef123456" for _ in range(50)))) < 255
