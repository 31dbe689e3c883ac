"""Whatever the place's time zone, times are UTC."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server


def test_times(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """The log's times and the backup's name are UTC, with TZ set to the far side of the world."""
    held = database("utc")
    env = {"DATABASE_URL": held.url(), "TZ": "Pacific/Kiritimati"}
    options = ["--network", network, "--volume", f"{backups}:/backups"]
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    done = engine.run(stock_image, options=options, env=env)
    now = datetime.datetime.now(datetime.UTC)
    logged = datetime.datetime.fromisoformat(done.last["timestamp"])
    named = datetime.datetime.strptime(done.last["backup"].rsplit("/", 1)[1].split("-")[0], "%Y%m%dT%H%M%S.%f%z")
    assert done.last["timestamp"].endswith("Z")
    for moment in (logged, named):
        assert abs(now - moment) < datetime.timedelta(minutes=5)
    assert engine.run(stock_image, "date", "+%z").stdout == "+0000\n"
