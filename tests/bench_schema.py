"""A long history beside the schema that it ends in: a group of bench.py's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REVISION = '''"""revision {number}"""

import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = {down!r}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''
TABLES = 20
"""The history makes so many tables, and then goes on to change them, as histories do."""
CHANGES = 3
"""Of each revision. With these, 300 take as long as public histories of that length do."""

_COLUMN = "sa.Column({name!r}, sa.Text())"


def evolve(versions: Path, count: int) -> None:
    """Write a history that changes its tables again and again: columns that come and go, indexes, constraints.

    Args:
        versions: the folder of the revisions.
        count: how many there are to be.
    """
    down: str | None = None
    for number in range(count):
        revision = f"{number:012x}"
        steps = [_step(number * CHANGES + change) for change in range(CHANGES)]
        upgrade = "\n    ".join(up for up, _ in steps)
        downgrade = "\n    ".join(back for _, back in reversed(steps))
        text = REVISION.format(number=number, id=revision, down=down, upgrade=upgrade, downgrade=downgrade)
        (versions / f"{revision}_revision_{number}.py").write_text(text)
        down = revision


def _step(number: int) -> tuple[str, str]:
    turn, table = divmod(number, TABLES)
    name = f"t{table}"
    if turn == 0:
        key = "sa.Column('id', sa.BigInteger(), primary_key=True)"
        return f"op.create_table({name!r}, {key}, sa.Column('name', sa.Text()))", f"op.drop_table({name!r})"
    column = f"c{turn - turn % 3}"
    added = f"op.add_column({name!r}, {_COLUMN.format(name=column)})"
    dropped = f"op.drop_column({name!r}, {column!r})"
    if turn % 3 == 0:
        return added, dropped
    if turn % 3 == 1:
        index = f"ix_{name}_{turn}"
        return f"op.create_index({index!r}, {name!r}, ['name'])", f"op.drop_index({index!r})"
    index = f"ix_{name}_{turn - 1}"
    return f"op.drop_index({index!r})", f"op.create_index({index!r}, {name!r}, ['name'])"


class Loading(NamedTuple):
    """Seconds of each round, in turn.

    Args:
        ours: `headstart schema load`, from the start of the process to its end.
        theirs: `alembic upgrade head`, likewise.
        load: of the first, what its log calls `upgrade_seconds`: the work on the database.
        replay: the same of `headstart up`, which runs the revisions.
    """

    ours: list[float]
    theirs: list[float]
    load: list[float]
    replay: list[float]


def loading(
    run: Callable[[list[str], Path, dict[str, str]], Any], fresh: Callable[[str], str], project: Path, rounds: int
) -> Loading:
    """Bring empty databases to the head of a history, by its schema file and by running it.

    Args:
        run: runs a command in a folder with these variables besides; what it returns has its `seconds` and `output`.
        fresh: gives the URL of an empty database of that name.
        project: has the revisions, and an env.py that reads DATABASE_URL.
        rounds: how often.
    """
    took = Loading([], [], [], [])
    run(["headstart", "schema", "dump", "--file", "head.sql"], project, {"HEADSTART_SCRATCH_URL": fresh("scratch")})
    for _ in range(rounds):
        load = run(["headstart", "schema", "load", "--file", "head.sql"], project, {"DATABASE_URL": fresh("ours")})
        took.ours.extend(load.seconds)
        took.load.append(_upgrade_seconds(load.output))
        took.theirs.extend(run(["alembic", "upgrade", "head"], project, {"DATABASE_URL": fresh("theirs")}).seconds)
        replay = run(["headstart", "up"], project, {"DATABASE_URL": fresh("ours"), "HEADSTART_BACKUP": "off"})
        took.replay.append(_upgrade_seconds(replay.output))
    return took


def _upgrade_seconds(output: str) -> float:
    return float(json.loads(output.splitlines()[-1])["upgrade_seconds"])
