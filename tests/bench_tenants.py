"""Many tenants beside a loop of `alembic upgrade head`: a group of bench.py's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 200
"""Schemas of one database, each with all revisions pending."""
SAMPLE = 10
"""Turns of the loop that are measured; it takes COUNT of them, all alike."""


def tenants(
    run: Callable[[list[str], Path, dict[str, str]], Any], fresh: Callable[[str], str], project: Path, rounds: int
) -> tuple[list[float], list[float]]:
    """The seconds of `headstart tenants up`, and of the loop, in turn.

    Args:
        run: runs a command in a folder with these variables besides; what it returns has its `seconds`.
        fresh: gives the URL of an empty database of that name.
        project: has the revisions, and an env.py that reads DATABASE_URL.
        rounds: how often.
    """
    ours: list[float] = []
    theirs: list[float] = []
    listing = project / "tenants.txt"
    names = [f"tenant_{number}" for number in range(COUNT)]
    listing.write_text("\n".join(names))
    for _ in range(rounds):
        url = fresh("tenants")
        asyncio.run(_execute(url, ";".join(f"create schema {name}" for name in names)))
        environ = {"DATABASE_URL": url, "HEADSTART_BACKUP": "off", "HEADSTART_TENANTS_FILE": str(listing)}
        ours += run(["headstart", "tenants", "up"], project, environ).seconds
        turns = []
        for _ in range(SAMPLE):  # a database each: for Alembic it is the same work as a schema
            turns += run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": fresh("turn")}).seconds
        theirs.append(sum(turns) * COUNT / SAMPLE)
    return ours, theirs


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
