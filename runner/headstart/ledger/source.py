"""Has an applied revision been edited: its source as it was applied, beside the file as it is now."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headstart.errors import RevisionEditedError
from headstart.history.baseline import read_baseline
from headstart.ledger.fingerprint import fingerprint
from headstart.ledger.trust import LARGEST_SOURCE, fetch
from headstart.settings.files import read_bytes

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection

_SOURCES = f"""
select distinct on (revision) revision,
    case when pg_catalog.octet_length(source) operator(pg_catalog.<=) {LARGEST_SOURCE} then source end as source
from headstart.ledger
where history operator(pg_catalog.=) $1 and revision operator(pg_catalog.=) any($2::pg_catalog.text[])
and source is not null order by revision desc, id desc
"""  # noqa: S608  (a number of our own)


async def require_unedited(
    connection: ScriptConnection,
    history: str,
    files: Mapping[str, str],
    applied: Mapping[str, str],
    recorded: Sequence[str],
) -> None:
    """Refuse files that differ from what was applied, if they differ in what they do.

    A baseline differs from the file whose id it has taken over. It counts as unedited where what was applied, and what
    came before that, are the files that it says it replaces.

    Args:
        connection: to the database.
        history: `key` of the project.
        files: paths by revision, of those whose bytes differ.
        applied: the SHA-256 of what was applied, by revision.
        recorded: what the version table holds.

    Raises:
        RevisionEditedError: with each file and the first line that differs (73).
    """
    sources = {revision: _read(path) for revision, path in files.items()}
    baselines = [one for one in map(read_baseline, sources.values()) if one is not None]
    replaced = {i: one for one in baselines for i in one.digests if i in applied}
    doubted = [i for i in {**sources, **replaced} if i not in replaced or not replaced[i].holds(i, applied[i])]
    found = {}
    for revision, before in (await as_applied(connection, history, doubted)).items():
        if before is None:
            continue
        done = fingerprint(before)
        if revision in replaced and replaced[revision].holds(revision, done):
            continue
        if revision not in sources:
            found[revision] = replaced[revision].archive
        elif done != fingerprint(sources[revision]):
            found[revision] = f"{files[revision]}:{first_difference(before, sources[revision])}"
    if found:
        named = "; ".join(f"{revision} ({place})" for revision, place in sorted(found.items()))
        raise RevisionEditedError(
            f"edited since it was applied: revision {named}",
            hint=f"put {'the file' if len(found) == 1 else 'each file'} back as it was applied (`headstart history"
            f" --source {min(found)}` prints it), and the change into a new revision; or, if the database is as the"
            f" files say now: `headstart stamp {' '.join(recorded)}`",
            revisions=sorted(found),
            files=sorted(found.values()),
        )


async def as_applied(connection: ScriptConnection, history: str, revisions: Sequence[str]) -> dict[str, bytes | None]:
    """The files of revisions as they were when these were last applied; None for one that cannot be read.

    Args:
        connection: to the database.
        history: `key` of the project.
        revisions: their ids.
    """
    rows = await fetch(connection, _SOURCES, history, list(revisions), version_table=history)
    return {row["revision"]: _unzipped(row["source"]) for row in rows}


def _unzipped(data: bytes | None) -> bytes | None:
    """What was compressed; None for what is not zlib's, or too large to be a revision file."""
    if data is None:
        return None
    unzip = zlib.decompressobj()
    try:
        source = unzip.decompress(data, LARGEST_SOURCE + 1)
    except zlib.error:
        return None
    return source if unzip.eof and len(source) <= LARGEST_SOURCE else None


def first_difference(before: bytes, now: bytes) -> int:
    """The number of the first line that differs."""
    old, new = before.splitlines(), now.splitlines()
    differ = (number for number, (one, other) in enumerate(zip(old, new, strict=False), 1) if one != other)
    return next(differ, min(len(old), len(new)) + 1)


def _read(path: str) -> bytes:
    return read_bytes(path)
