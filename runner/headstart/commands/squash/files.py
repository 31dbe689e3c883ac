"""One file in place of many. If the run is killed, the old history, the new one, or a refusal is left.

The old files are copied first, and counted as there when their folder gets its name. Then the baseline gets its name:
from here on two files have the same id, which everybody refuses. Then the old files go, the one with that id last: with
it the refusal ends, and the new history is complete. A journal among the files tells the next run how to go on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from headstart.backup.durable import fsync_folder, write_file
from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.squashed import JOURNAL


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What is exchanged for what. Paths are relative to the journal's folder.

    Args:
        baseline: the new file.
        archive: the folder for the old ones.
        files: the old ones, each with its name in the archive; the one whose id the baseline has is the last.
    """

    baseline: str
    archive: str
    files: Mapping[str, str]


def exchange(folder: Path, move: Move, text: bytes, *, digests: Mapping[str, str], readme: str) -> None:
    """Put the baseline in the place of the files, and the files into the archive.

    Args:
        folder: a version folder, where the journal lies meanwhile.
        move: what is exchanged.
        text: the baseline.
        digests: the SHA-256 that each old file had when it was read.
        readme: the README.md of the archive.

    Raises:
        BrokenHistoryError: an old file has changed since it was read (70); nothing is exchanged.
        ConfigurationError: a folder cannot be written (10).
    """
    archive, baseline = folder / move.archive, folder / move.baseline
    partial = _partial(archive)
    old = {place: (folder / place).read_bytes() for place in move.files}
    changed = [place for place, data in old.items() if hashlib.sha256(data).hexdigest() != digests[place]]
    if changed:
        raise BrokenHistoryError(
            f"changed while it was squashed: {', '.join(changed)}", hint="run `headstart squash` again"
        )
    try:
        write_file(folder / JOURNAL, msgspec.json.encode(move))
        partial.mkdir(parents=True)
        for place, data in old.items():
            write_file(partial / move.files[place], data)
        write_file(partial / "README.md", readme.encode())
        partial.rename(archive)
        fsync_folder(archive.parent)
        write_file(baseline, text)
        _finish(folder, move)
    except OSError as error:
        raise ConfigurationError(
            f"the files cannot be exchanged: {error.strerror} ({error.filename})",
            hint="make the folders writable, then run `headstart squash` again: it finishes or undoes what it began",
        ) from error


def recover(folder: Path) -> Path | None:
    """Finish an exchange that was interrupted in this version folder, or undo it; give the baseline if it is there now.

    Args:
        folder: a version folder.

    Raises:
        BrokenHistoryError: an old file is not what was archived (70).
    """
    journal = folder / JOURNAL
    if not journal.exists():
        return None
    move = msgspec.json.decode(journal.read_bytes(), type=Move)
    archive, baseline = folder / move.archive, folder / move.baseline
    if baseline.exists():
        _finish(folder, move)
        return baseline
    for place, name in move.files.items():  # all there, unless somebody has taken the baseline away
        if not (folder / place).exists():
            write_file(folder / place, (archive / name).read_bytes())
    for leftover in (archive, _partial(archive)):
        shutil.rmtree(leftover, ignore_errors=True)
    journal.unlink()
    return None


def _finish(folder: Path, move: Move) -> None:
    differ = [
        place
        for place, name in move.files.items()
        if (folder / place).exists() and (folder / place).read_bytes() != (folder / move.archive / name).read_bytes()
    ]
    if differ:
        raise BrokenHistoryError(
            f"not the file that is archived in {move.archive}: {', '.join(differ)}",
            hint="put the file back as it was, or elsewhere if it is a new one; then run `headstart squash` again",
        )
    for place in move.files:
        (folder / place).unlink(missing_ok=True)
        fsync_folder((folder / place).parent)
    (folder / JOURNAL).unlink()
    fsync_folder(folder)


def _partial(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.new")
