"""The models, the schema file and a given database against what the revisions build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.commands.check.finding import Finding
from headstart.commands.schema import dump
from headstart.errors import MigrationFailedError
from headstart.postgres import catalog, version_table
from headstart.postgres.scratch import scratch_server
from headstart.steps.connect import connected
from headstart.steps.replay import Replay, replay

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.postgres.catalog import Difference
    from headstart.postgres.scratch import Scratch
    from headstart.settings.dsn import Dsn
    from headstart.steps.run import Run
    from headstart.worker.supervise import Worker


_WRITES = "`headstart revision --autogenerate -m ...` writes the revision; or correct the models"
_DROPS = (
    "add it to the models; or, if it should go, `headstart revision --autogenerate -m ...` writes the revision that"
    " drops it"
)


async def models(at_head: Replay) -> list[Finding] | None:
    """What `alembic revision --autogenerate` would still find to do; None where env.py gives no target_metadata.

    Args:
        at_head: a replay of all the revisions.
    """
    changes = await at_head.compare()
    if changes is None:
        return None
    return [
        Finding(
            check="models",
            key=f"models:{each['operation']}:{each['what']}",
            message=each["message"],
            remedy=_DROPS if each["operation"].startswith("remove_") else _WRITES,
        )
        for each in changes
    ]


async def schema_file(run: Run, server: Scratch, dsn: Dsn, at_head: Replay, path: Path) -> list[Finding]:
    """Whether the schema file is the schema at head.

    Args:
        run: this run.
        server: where another database may be made.
        dsn: of the replay's database, which has only gone forwards.
        at_head: the replay.
        path: the file.

    Raises:
        UnsuitableServerError: there is no pg_dump for the scratch server (22).
    """
    reason = await dump.stale(run, server, dsn, at_head, path)
    if reason is None:
        return []
    remedy = "`headstart schema dump` writes it anew: commit that"
    return [
        Finding(check="schema-file", key="schema-file:stale", message=reason, remedy=remedy, path=str(path), line=1)
    ]


async def drift(run: Run, worker: Worker) -> list[Finding]:
    """Where the run's own database differs from its recorded revision. It is read in a session that cannot write.

    Args:
        run: this run.
        worker: runs env.py.

    Raises:
        NotReadyError: the database does not answer in time (20), and whatever else a connection may fail of.
    """
    async with connected(run) as ready:
        await ready.connection.execute("set default_transaction_read_only = on")
        major = ready.server.version_num // 10000
        async with (
            scratch_server(run.settings, major=major, log=run.log) as server,
            server.database() as dsn,
            replay(run, dsn, worker) as expected,
        ):
            table, schema = expected.place.table, expected.place.configured
            recorded = await version_table.recorded_revisions(ready.connection, table, schema)
            name = f"{schema}.{table}" if schema else table
            unknown = [each for each in recorded if each not in expected.revisions]
            if unknown:
                names = ", ".join(unknown)
                return [
                    _drift(
                        f"unknown:{','.join(unknown)}",
                        f"the database is at {names}, which is not in this history",
                        "check with the files that it was migrated by, or find out who wrote its version table",
                    )
                ]
            try:
                for each in recorded:
                    await expected.up(each)
            except MigrationFailedError as error:
                return [
                    _drift(
                        f"replay:{error.context.get('revision')}",
                        f"the revisions that the database has cannot be replayed: {error.message}",
                        "let every revision run on what those before it have made",
                    )
                ]
            built = await catalog.read(expected.connection, passing_over=[name])
            there = await catalog.read(ready.connection, passing_over=[name])
        found = catalog.differences(built, there)
        if not recorded and found:
            return [
                _drift(
                    "unversioned",
                    f"the database holds a schema, but records no revision in {name}",
                    "`headstart adopt` compares it with a revision, and records that",
                )
            ]
        return [_differs(each, ", ".join(recorded)) for each in found]


def _differs(one: Difference, recorded: str) -> Finding:
    kind = "missing" if one.right is None else "extra" if one.left is None else "differs"
    return _drift(
        f"{one.what}:{kind}",
        one.sentence(f"the revisions up to {recorded}", "the database"),
        "put the change into a revision, or take it back in the database",
    )


def _drift(key: str, message: str, remedy: str) -> Finding:
    return Finding(check="drift", key=f"drift:{key}", message=message, remedy=remedy)
