"""Many tenants beside a loop of `alembic upgrade head`: a group of bench.py's."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 200
"""Schemas of one database, each with all revisions pending."""
SAMPLE = 10
"""Turns of the loop that are measured; it takes COUNT of them, all alike."""
ROWS = 300_000
"""Of other tenants, in the ledger of the crowded database."""

_CROWD = f"""
insert into headstart.ledger (history, action, revision, follows, sha256, run_id, host, headstart)
select 'other_' || g / 3 || '.alembic_version', 'applied', 'r' || g % 3, '{{}}', md5(g::text), 'bench', 'bench', '0'
from generate_series(1, {ROWS}) g
"""


class Took(NamedTuple):
    """Seconds of each run: of all tenants, and of the server's processes for one."""

    ours: list[float]
    crowded: list[float]
    theirs: list[float]
    our_server: list[float]
    their_server: list[float]


def tenants(
    run: Callable[[list[str], Path, dict[str, str]], Any],
    fresh: Callable[[str], str],
    server: int,
    project: Path,
    rounds: int,
) -> Took:
    """What `headstart tenants up` takes, the same with other tenants' rows in the ledger, and the loop, in turn.

    Args:
        run: runs a command in a folder with these variables besides; what it returns has its `seconds`.
        fresh: gives the URL of an empty database of that name.
        server: pid of its first process.
        project: has the revisions, and an env.py that reads DATABASE_URL.
        rounds: how often.
    """
    took = Took([], [], [], [], [])
    listing = project / "tenants.txt"
    names = [f"tenant_{number}" for number in range(COUNT)]
    listing.write_text("\n".join(names))

    def up(url: str) -> list[float]:
        environ = {"DATABASE_URL": url, "HEADSTART_BACKUP": "off", "HEADSTART_TENANTS_FILE": str(listing)}
        seconds: list[float] = run(["headstart", "tenants", "up"], project, environ).seconds
        return seconds

    for _ in range(rounds):
        url = fresh("tenants")
        asyncio.run(_execute(url, ";".join(f"create schema {name}" for name in names)))
        before = _spent(server)
        took.ours.extend(up(url))
        took.our_server.append((_spent(server) - before) / COUNT)

        asyncio.run(_execute(url, ";".join(f"drop schema {name} cascade; create schema {name}" for name in names)))
        asyncio.run(_execute(url, f"truncate headstart.ledger; {_CROWD}; analyze"))
        took.crowded.extend(up(url))

        turns: list[float] = []
        for _ in range(SAMPLE):  # a database each: for Alembic it is the same work as a schema
            turn = fresh("turn")
            before = _spent(server)
            turns += run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": turn}).seconds
            took.their_server.append(_spent(server) - before)
        took.theirs.append(sum(turns) * COUNT / SAMPLE)
    return took


def _spent(server: int) -> float:
    """Seconds of CPU of the server's sessions that have ended (proc(5): cutime and cstime of /proc/pid/stat)."""
    time.sleep(0.5)  # until those of the last command have ended
    fields = Path(f"/proc/{server}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
