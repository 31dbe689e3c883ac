"""The schema at head as files: written from a replay of all revisions (`dumping`), split for people (`parts`), loaded.

What loads a file, and what proves that it may be loaded, is in `schema_file`: `up` does so too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.errors import ConfigurationError
from headstart.history.graph import spell
from headstart.postgres import version_table
from headstart.steps.connect import connected, find, locked
from headstart.steps.schema_file import SchemaFile, at_hand
from headstart.steps.schema_load import load, require_empty

if TYPE_CHECKING:
    from headstart.steps.run import Run

DEFAULT: Final = Path("sql_current", "schema_head.sql")
"""Where the schema file is, in the folder of env.py."""


def located(run: Run, file: str | None) -> Path:
    """Where the schema file is: as asked for, HEADSTART_SCHEMA_FILE, or `DEFAULT`."""
    asked = file or run.settings.schema_file
    if asked is not None:
        return Path(run.cwd, asked)
    location = find(run).project.script_location
    if not location:
        raise ConfigurationError(
            "only Alembic knows where the project's folder is", hint="say where the schema file is: --file"
        )
    return Path(location, DEFAULT)


async def load_file(run: Run, file: str | None) -> None:
    """Bring an empty database to head by the schema file: wait, lock, load, record, verify, in one transaction.

    Raises:
        SchemaFileError: it is not provably of the revisions at hand (10).
        ConfigurationError: the database is not empty (10).
        MigrationFailedError: the file does not run; nothing of it is kept (60).
    """
    path = located(run, file)
    found = find(run)
    now = await at_hand(run, found)
    wanted = SchemaFile.read(path)
    wanted.require_fresh(now, path)
    table, schema = wanted.place
    async with connected(run) as ready, locked(run, ready):
        recorded = await version_table.recorded_revisions(ready.connection, table, schema)
        if recorded:
            run.found(recorded)
            if set(recorded) == set(wanted.revisions):
                run.log.info("nothing_pending", revision=spell(recorded), target=run.settings.target)
                return
            raise ConfigurationError(
                f"the database is not empty: it is at {spell(recorded)}", hint="`headstart up` brings it to head"
            )
        await require_empty(ready.connection, wanted.version_table)
        await load(run, ready, wanted, now.files, path=path)
