"""Bring an empty database to head by the schema file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.commands.schema.files import locate
from headstart.errors import ConfigurationError
from headstart.history.graph import revision_field
from headstart.postgres import version_table
from headstart.steps.connect import connected, find, locked
from headstart.steps.schema_file import SchemaFile, at_hand
from headstart.steps.schema_load import load, require_empty

if TYPE_CHECKING:
    from headstart.steps.run import Run


async def load_file(run: Run, file: str | None) -> None:
    """Bring an empty database to head by the schema file: wait, lock, load, record, verify, in one transaction.

    Raises:
        SchemaFileError: it is not provably of the revisions at hand (10).
        ConfigurationError: the database is not empty (10).
        MigrationFailedError: the file does not run; nothing of it is kept (60).
    """
    path = locate(run, file)
    found = find(run)
    now = await at_hand(run, found)
    wanted = SchemaFile.read(path)
    wanted.require_fresh(now, path)
    table, schema = wanted.place
    async with connected(run) as ready, locked(run, ready):
        recorded = await version_table.recorded_revisions(ready.connection, table, schema)
        if recorded:
            run.record.found(recorded)
            if set(recorded) == set(wanted.revisions):
                run.log.info("nothing_pending", revision=revision_field(recorded), target=run.settings.target)
                return
            raise ConfigurationError(
                f"the database is not empty: it is at {revision_field(recorded)}",
                hint="`headstart up` brings it to head",
            )
        await require_empty(ready.connection, wanted.version_table)
        await load(run, ready, wanted, now.files, path=path)
