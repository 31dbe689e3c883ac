"""The whole of a project's env.py, for a project that has no reason to write its own.

    from headstart import environment
    from migrations.schema import metadata

    environment.configure(metadata)

It works under Alembic's own command as under Headstart: `alembic upgrade head`, `alembic upgrade head --sql`,
`alembic revision --autogenerate`, `alembic check`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from headstart import postgres
from headstart.alembic_bridge import env
from headstart.program import settings_from

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from headstart.script_connection import ScriptConnection

CONNECT_TIMEOUT = 10.0
"""Seconds to connect in, where the URL has no `connect_timeout`."""


def configure(metadata: MetaData, **options: Any) -> None:  # noqa: ANN401  (Alembic's own)
    """Configure Alembic's context for a metadata, and run what Alembic was asked for.

    Online the address is DATABASE_URL, or DATABASE_DIRECT_URL before it, their `_FILE` and `PG*`, as Headstart itself
    takes them, in any spelling. It is looked up when a connection is made, not before: offline SQL needs none. A
    program may hand its own connection in, as `config.attributes["connection"]`; one `op.execute` then takes several
    statements if its engine was made by `headstart.engine_from(..., connect_args={"connection_class":
    ScriptConnection})` (`headstart.script_connection`). Each revision has a transaction of its own. Autogenerate
    compares the schemas that the metadata has tables in, CHECK constraints included where the installed Alembic can;
    partitions, what extensions made, and Headstart's own ledger are left out.

    Args:
        metadata: every table of the project.
        options: of Alembic's `context.configure` (Alembic manual, 'Runtime Objects'), such as `version_table`; they
            go before what is said above, and `include_name` may leave out more.

    Raises:
        CommandError: there is no address, or one that is none.
    """
    env.run(metadata, options, _connect)


async def _connect(**_: object) -> ScriptConnection:
    """Open a connection as `headstart.engine_from` does, to one that migrates: the direct address goes first."""
    address = {name: value for name, value in os.environ.items() if not name.startswith(("HEADSTART_", "ALEMBIC_"))}
    dsn = settings_from(address, {"HEADSTART_BACKUP": "off"}).dsn
    if len(dsn.hosts) > 1:
        dsn = msgspec.structs.replace(dsn, params={"target_session_attrs": "read-write", **dsn.params})
    return await postgres.open_connection(dsn, timeout=CONNECT_TIMEOUT, application_name="alembic")
