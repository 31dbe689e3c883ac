"""Delete the backups that retention does not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.backup import folder as folders
from headstart.backup import retention
from headstart.backup.retention import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.manifest import Backup


def prune(
    directory: Path,
    database: str,
    keep: int,
    *,
    log: FilteringBoundLogger,
    just_taken: Backup | None = None,
) -> Decision:
    """Delete what retention does not keep, for each server that has a database of this name in the folder.

    A backup that cannot be deleted is a warning: the run has its own backup.

    Raises:
        BackupFailedError: the folder cannot be read.
    """
    backups = folders.list_backups(directory, database).backups
    kept: list[str] = []
    deleted: dict[str, str] = {}
    for identifier in sorted({one.manifest.system_identifier for one in backups}):
        mine = [one for one in backups if one.manifest.system_identifier == identifier]
        decision = retention.decide(mine, keep, just_taken=just_taken.name if just_taken is not None else None)
        kept += decision.keep
        for one in mine:
            if (reason := decision.delete.get(one.name)) is None:
                continue
            try:
                folders.delete(one.path)
            except OSError as error:
                log.warning("backup_not_deleted", path=str(one.path), reason=error.strerror)
            else:
                log.info("backup_deleted", path=str(one.path), reason=reason)
                deleted[one.name] = reason
    return Decision(keep=tuple(kept), delete=deleted)
