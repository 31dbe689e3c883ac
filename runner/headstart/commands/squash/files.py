"""One file in place of many. If the run is killed, the old history, the new one, or a refusal is left.

The old files are copied first. Then the baseline gets its name: from here on two files have the same id, which
everybody refuses. Then the old files go, the one with that id last: with it the refusal ends, and the new history is
complete. Nothing is lost meanwhile: what is not in its place any more is in the archive.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backup.durable import fsync_folder, write_file
from headstart.errors import BrokenHistoryError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.history.graph import Revision


def exchange(replaced: Sequence[Revision], *, baseline: Path, text: bytes, archive: Path, readme: str) -> None:
    """Put the baseline in the place of the files, and the files into the archive.

    Args:
        replaced: the revisions whose files go; the one whose id the baseline has is the last.
        baseline: the new file.
        text: its content.
        archive: the folder for the old ones, which is made.
        readme: the README.md of the archive.

    Raises:
        BrokenHistoryError: an old file has changed since it was read (70); nothing is exchanged.
        ConfigurationError: a folder cannot be written (10).
    """
    old = {Path(each.path): Path(each.path).read_bytes() for each in replaced}
    changed = [each.path for each in replaced if hashlib.sha256(old[Path(each.path)]).hexdigest() != each.sha256]
    if changed:
        raise BrokenHistoryError(
            f"changed while it was squashed: {', '.join(changed)}", hint="run `headstart squash` again"
        )
    try:
        archive.mkdir(parents=True)
        for path, data in old.items():
            write_file(archive / path.name, data)
        write_file(archive / "README.md", readme.encode())
        write_file(baseline, text)
        for path in old:
            path.unlink()
            fsync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"the files cannot be exchanged: {error.strerror} ({error.filename})",
            hint=f"make the folders writable, put the revision files back as they were and remove {baseline} and"
            f" {archive}, then run `headstart squash` again",
        ) from error
