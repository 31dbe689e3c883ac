"""Whether the server's disk has room for a database: known only if that disk is on this machine."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from headstart.backup.folder import free_bytes, mebibytes
from headstart.errors import RestoreFailedError

#: Room that stays free beside the database, in bytes.
RESERVE = 64 * 1024 * 1024

_DATA_DIRECTORY = """
select pg_catalog.current_setting('data_directory') as directory, system_identifier::pg_catalog.text as identifier
from pg_catalog.pg_control_system()
"""


async def require(conn: asyncpg.Connection, needed: int) -> None:
    """Refuse a database that would not fit.

    Args:
        conn: to the server.
        needed: bytes that the database had when it was backed up.

    Raises:
        RestoreFailedError: there is no room (41).
    """
    free = await _free_bytes(conn)
    if free is not None and needed + RESERVE > free:
        raise RestoreFailedError(
            f"no room to restore beside: about {mebibytes(needed)} are needed,"
            f" {mebibytes(free)} are free on the server's disk",
            hint="make room on the server's disk, then restore again",
            needed_bytes=needed,
            free_bytes=free,
        )


async def _free_bytes(conn: asyncpg.Connection) -> int | None:
    """The free bytes on the disk of the server's data; None if that may be another machine's.

    A folder of the same name proves nothing: its control file has to begin with the server's own system identifier
    (ControlFileData in pg_control.h).
    """
    try:
        found = await conn.fetchrow(_DATA_DIRECTORY)
    except asyncpg.InsufficientPrivilegeError:
        return None
    if found is None:
        return None
    try:
        with (Path(found["directory"]) / "global" / "pg_control").open("rb") as file:
            first = file.read(8)
        free = free_bytes(Path(found["directory"]))
    except OSError:
        return None
    if found["identifier"] not in {str(int.from_bytes(first, order)) for order in ("little", "big")}:
        return None
    return free
