"""Which backups to keep and which to delete: a decision, without a disk or a clock; and the deleting.

The rules, strongest first:

1. What is pinned, what was taken just now, and the newest good one are never deleted.
2. Of attempts at the same step (same revision before, same revision intended, nothing else taken in between) the
   first and the newest are kept, and what has been restored: nothing is proven better. A container that crashes and
   is started again every few minutes thus holds two backups, not hundreds, and pushes at most two places' worth of
   older ones out. Why not one? The first shows the database as no attempt had touched it; the newest has the rows
   that the application wrote since. Why not take the first again instead of dumping anew? Because nothing in Postgres
   proves that no row has changed since.
3. Of what remains, the newest `keep` stay.

A backup in which damage was found is not good: it counts for nothing above, and goes once `keep` newer good ones exist.
The order is that of `sequence`, not of the clock: a Raspberry Pi starts in 1970 until it has found its time server.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from headstart.backup import folder as folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.manifest import Backup


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The names to keep, newest first, and the names to delete, oldest first, each with its reason."""

    keep: tuple[str, ...]
    delete: dict[str, str]


def decide(backups: Iterable[Backup], keep: int, *, just_taken: str | None = None) -> Decision:
    """Decide which backups stay.

    Args:
        backups: every backup of one database on one server.
        keep: how many to keep. Less than one means one.
        just_taken: the name of the backup that this run has taken; it is the newest, even if the order says otherwise.
    """
    limit = max(1, keep)
    ordered = sorted(backups, key=lambda one: (one.name == just_taken, one.order))
    delete = {one.name: "between the first and the newest attempt at the same step" for one in _repeated(ordered)}

    counted = [one.name for one in ordered if one.good and not one.manifest.pinned and one.name not in delete]
    delete |= dict.fromkeys(counted[:-limit], f"older than the newest {limit}")

    good = 0
    for one in reversed(ordered):
        if not one.good and not one.manifest.pinned and one.name != just_taken and good >= limit:
            delete[one.name] = f"damaged, and older than {limit} good ones"
        good += one.name in counted[-limit:]
    return Decision(
        keep=tuple(one.name for one in reversed(ordered) if one.name not in delete),
        delete={one.name: delete[one.name] for one in ordered if one.name in delete},
    )


def _repeated(backups: Sequence[Backup]) -> Iterable[Backup]:
    """The backups in the middle of a series of attempts at one step; `backups` is oldest first."""
    good = [one for one in backups if one.good and not one.manifest.pinned]
    steps = groupby(good, key=lambda one: (one.manifest.revision_before, one.manifest.revision_intended))
    for (before, intended), series in steps:
        if before != intended:  # otherwise it was taken for its own sake, nightly perhaps: each counts
            yield from (one for one in list(series)[1:-1] if not _is_restored(one))


def _is_restored(backup: Backup) -> bool:
    return any(proof.kind == "restored" for proof in backup.manifest.proofs)


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
        decision = decide(mine, keep, just_taken=just_taken.name if just_taken is not None else None)
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
