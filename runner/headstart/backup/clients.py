"""Which pg_dump: the one of the server's own major version, where there is one.

An older pg_dump refuses a newer server. A newer one works, but what it wrote may not be restorable into the older
server (PostgreSQL manual, 'pg_dump', Notes), so it is only taken where the server's own is missing.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import msgspec

from headstart.errors import UnsuitableServerError
from headstart.log import process
from headstart.postgres.embedded.installation import program_folders

#: The first major version whose pg_dump may have been built with lz4 and zstd.
CODECS_SINCE = 16
#: How `--compress` is asked for, quickest per byte saved first. See docs/performance.md.
ZSTD, LZ4, GZIP = "zstd:1", "lz4", "gzip:1"

_VERSION = re.compile(rb"\) (\d+)(\.\d+)*\w*")
_NOWHERE = "/nonexistent"


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of pg_dump and pg_restore of the same version."""

    major: int
    version: str
    pg_dump: Path
    pg_restore: Path


async def find_client(server_version_num: int, *, path: str) -> Client:
    """Find the client programs for a server.

    Args:
        server_version_num: as `server_version_num` shows it, 160014 for 16.14.
        path: the PATH to search, after the folders of distributions.

    Raises:
        UnsuitableServerError: there is none of the server's major version or a newer one.
    """
    wanted = server_version_num // 10000
    clients = await _installed(path)
    best = min((client for client in clients if client.major >= wanted), key=lambda one: one.major, default=None)
    if best is not None:
        return best
    found = sorted({client.version for client in clients})
    only = f" (only {', '.join(found)})" if found else ""
    raise UnsuitableServerError(
        f"the server is PostgreSQL {wanted}, and there is no pg_dump of {wanted} or newer{only}",
        hint=f"install postgresql-client-{wanted}, or put its folder on PATH; or go without: HEADSTART_BACKUP=off",
        server_major=wanted,
        found=found,
    )


async def find_restorer(server_version_num: int, dumped_by: str, *, path: str) -> Client:
    """Find the client programs that read a dump and restore it into a server.

    The server's own major version; but never an older one than wrote the dump, since that cannot read it. Where neither
    is there, the next newer one, or else any that can read the dump.

    Args:
        server_version_num: of the server to restore into.
        dumped_by: the version of the pg_dump that wrote the dump, as its manifest has it.
        path: the PATH to search, after the folders of distributions.

    Raises:
        UnsuitableServerError: there is none that could read the dump.
    """
    oldest, own = major_of(dumped_by), server_version_num // 10000
    wanted = max(oldest, own)
    clients = [client for client in await _installed(path) if client.major >= oldest]
    # As near to the wanted as can be, and rather above than below it.
    best = min(clients, key=lambda one: (one.major < wanted, abs(one.major - wanted)), default=None)
    if best is not None:
        return best
    raise UnsuitableServerError(
        f"the dump was written by pg_dump {dumped_by}, and there is no pg_restore of {oldest} or newer",
        hint=f"install postgresql-client-{wanted}, or put its folder on PATH",
        server_major=own,
        dumped_by=dumped_by,
    )


def major_of(version: str) -> int:
    """The major version in `16.14` or `17beta1`; 0 where there is none."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


async def _installed(path: str) -> list[Client]:
    # Debian's /usr/bin/pg_dump leads to a script that picks a version by its own rules: no pg_dump is beside that.
    folders = dict.fromkeys(program_folders("pg_dump", path))
    found = await asyncio.gather(*(_look_at(folder) for folder in folders))
    return [client for client in found if client is not None]


async def _look_at(folder: Path) -> Client | None:
    """Ask pg_dump in a folder for its version; None when it does not run, or has no pg_restore beside it."""
    pg_dump, pg_restore = folder / "pg_dump", folder / "pg_restore"
    if not os.access(pg_restore, os.X_OK):
        return None
    try:
        asked = await process.run([str(pg_dump), "--version"], env=_ENV, redact=str, capture=True)
    except OSError:
        return None
    if (version := _VERSION.search(asked.stdout)) is None:
        return None
    return Client(major=int(version[1]), version=version[0].decode()[2:], pg_dump=pg_dump, pg_restore=pg_restore)


async def best_compression(client: Client) -> str:
    """The best `--compress` that this pg_dump was built with.

    Nothing lists it. But a pg_dump that was built without a method reports that before it connects, and one that has it
    goes on to fail at connecting to a socket that is not there. (PostgreSQL manual, 'pg_dump', --compress.)
    """
    if client.major < CODECS_SINCE:
        return GZIP
    for method in (ZSTD, LZ4):
        asked = await process.run(
            [str(client.pg_dump), "--no-password", "--schema-only", "--file=/dev/null", f"--compress={method}"],
            env={**_ENV, "PGHOST": _NOWHERE, "PGCONNECT_TIMEOUT": "2"},
            redact=str,
        )
        if _NOWHERE in asked.stderr and "compress" not in asked.stderr:
            return method
    return GZIP


_ENV = {"LC_ALL": "C"}
