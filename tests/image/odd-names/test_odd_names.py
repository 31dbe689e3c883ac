"""Names with spaces and quotes, which break bad quoting."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from support.engine import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

NAME = """my "app's" $(id) \\ data"""


def test_everything_is_oddly_named(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], tmp_path: Path
) -> None:
    """A database and a backup folder whose names hold spaces, quotes and shell syntax are migrated and backed up."""
    odd = database(NAME)
    folder = tmp_path / NAME.replace("\\", "")
    folder.mkdir()
    folder.chmod(0o777)
    inside = f"/{NAME}"
    url = f"postgresql://app:{quote(PASSWORD, safe='')}@{odd.host}:5432/{quote(NAME, safe='')}"
    env = {"DATABASE_URL": url, "HEADSTART_BACKUP_DIR": inside}
    options = ["--network", network, "--mount", f'type=bind,"source={_csv(folder)}","target={_csv(inside)}"']
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    done = engine.run(stock_image, options=options, env=env)
    assert done.code == 0, done
    assert done.last["backup"].startswith(inside)
    assert engine.run(stock_image, "backups", "verify", options=options, env=env).code == 0


def _csv(text: object) -> str:
    """Docker's --mount is a line of CSV."""
    return str(text).replace('"', '""')
