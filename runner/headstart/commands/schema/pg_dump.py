"""The schema of a scratch database as text: from pg_dump of its server's version, in a form that all versions share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.backup import dump as dumps
from headstart.backup.clients import find_client
from headstart.commands.schema.script import Entry, normalised, parse
from headstart.errors import ConfigurationError, UnsuitableServerError
from headstart.log import process
from headstart.postgres.embedded import installations

if TYPE_CHECKING:
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.version_table import Place
    from headstart.settings.dsn import Dsn
    from headstart.steps.run import Run

# Rows one by one: what a revision inserts is little, and a line for each is what can be read in a diff.
_OPTIONS: Final = (
    "--no-password",
    "--no-owner",
    "--no-tablespaces",
    "--no-subscriptions",
    "--column-inserts",
    "--encoding=UTF8",
    "--exclude-schema=headstart",
)
_UNMOVED = """
select 'SELECT pg_catalog.setval(' || pg_catalog.quote_literal(pg_catalog.format('%I.%I', n.nspname, c.relname))
    || ', ' || s.seqstart || ', false)'
from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
"""
_NAMES = """
select pg_catalog.quote_ident(current_user), pg_catalog.concat_ws('.',
    pg_catalog.quote_ident($1::pg_catalog.text), pg_catalog.quote_ident($2::pg_catalog.text))
"""


async def dump_entries(run: Run, connection: ScriptConnection, dsn: Dsn, place: Place) -> list[Entry]:
    """What a scratch database holds: its schema, and the rows that revisions have put into it.

    Args:
        run: this run.
        connection: to the database, idle.
        dsn: of the database.
        place: of Alembic's version table.

    Raises:
        UnsuitableServerError: there is no pg_dump for the server (22).
        ConfigurationError: pg_dump fails (10).
    """
    unmoved = {row[0] for row in await connection.fetch(_UNMOVED)}
    [(owner, name)] = await connection.fetch(_NAMES, place.schema, place.table)
    text = await _pg_dump(run, dsn, int(connection.get_server_version().major))
    return normalised(parse(text), version_table=name, owner=owner, unmoved=unmoved)


async def _pg_dump(run: Run, dsn: Dsn, major: int) -> str:
    folders = [str(one.bindir) for one in installations() if one.major >= major]
    path = os.pathsep.join([*folders[::-1], run.environ.get("PATH", os.defpath)])
    try:
        client = await find_client(major * 10000, path=path)
    except UnsuitableServerError as error:
        hint = f"install postgresql-client-{major}, or put its folder on PATH"
        raise UnsuitableServerError(error.message, hint=hint) from error
    finished = await process.run(
        [str(client.pg_dump), *_OPTIONS],
        env=dumps.environment(dsn.libpq_env(), run.environ, run_id=run.run_id),
        redact=run.redact,
        capture=True,
    )
    if not finished.ok:
        cause = dumps.explain(finished, client=client, directory=Path(run.cwd), role=dsn.user).message
        raise ConfigurationError(f"the scratch database cannot be dumped: {cause}")
    return finished.stdout.decode()
