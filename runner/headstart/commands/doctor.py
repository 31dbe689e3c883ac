"""Every precondition of the main job, looked at without changing anything: one line each, with its remedy."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from headstart import history
from headstart.backup import folder as folders
from headstart.backup.clients import find_client
from headstart.backup.take import require_possible
from headstart.errors import HeadstartError, RefusedError
from headstart.errors.exits import Exit
from headstart.history.graph import revision_field
from headstart.postgres import lock, version_table
from headstart.postgres.indexes import invalid_indexes
from headstart.postgres.readiness import Ready
from headstart.postgres.server import refuse_transaction_pooler
from headstart.steps.compare import Pending
from headstart.steps.connect import connected, find
from headstart.steps.indexes import left_invalid, refuse_invalid
from headstart.steps.run import Run
from headstart.steps.standing import standing


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One precondition: whether it holds, what was found, and what to do if it does not."""

    what: str
    ok: bool
    found: str
    remedy: str | None = None
    exit: Exit = Exit.DONE


async def examine(run: Run) -> tuple[list[Finding], HeadstartError | None]:
    """Look at settings, history, server, revision, privileges, lock, indexes, pg_dump, backup folder and tables.

    Returns:
        The findings, and the error of the first that does not hold: what `up` would end with. Nothing raises but a bug.
    """
    failures: list[HeadstartError] = []
    findings = [Finding(what="settings", ok=True, found=f"{run.settings.dsn_source}: {run.settings.dsn.display()}")]

    async def check(what: str, look: Callable[[], Awaitable[str]]) -> bool:
        failure: HeadstartError
        try:
            findings.append(Finding(what=what, ok=True, found=await look()))
        except HeadstartError as error:
            failure = error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            failure = RefusedError(str(error), hint="see the server's log")
        else:
            return True
        failures.append(failure)
        findings.append(_failed(what, failure, run.redact))
        return False

    readable = await check("history", lambda: _history(run))
    backs_up = run.settings.backup != "off"
    try:
        async with connected(run) as ready:
            version, address = ready.server.version, ready.dsn.display()
            findings.append(Finding(what="server", ok=True, found=f"PostgreSQL {version} at {address}, a primary"))
            await check("pooler", lambda: _pooler(run, ready))
            if readable:
                await check("revision", lambda: _revision(run, ready))
            await check("privileges", lambda: _privileges(run, ready))
            await check("lock", lambda: _lock(ready))
            await check("indexes", lambda: _indexes(run, ready))
            if backs_up:
                await check("pg_dump", lambda: _pg_dump(run, ready))
                if await check("backups", lambda: _folder(run)):
                    await check("tables", lambda: _tables(run, ready))
    except HeadstartError as error:
        failures.append(error)
        findings.append(_failed("server", error, run.redact))
        if backs_up:
            await check("backups", lambda: _folder(run))
    return findings, failures[0] if failures else None


def _failed(what: str, error: HeadstartError, redact: Callable[[str], str]) -> Finding:
    return Finding(what=what, ok=False, found=redact(error.message), remedy=redact(error.hint), exit=error.exit)


async def _history(run: Run) -> str:
    found = find(run)
    project, graph = found
    history.check_sources(project)
    if found.empty:
        return project.why
    if graph is None:
        return f"{project.script_location}: only Alembic can read it ({project.why or 'unusual revision files'})"
    if not project.conclusive:
        return f"{len(graph.revisions)} revisions, head {', '.join(graph.heads)}; env.py has to be run: {project.why}"
    return f"{len(graph.revisions)} revisions, head {', '.join(graph.heads)}"


async def _pooler(run: Run, ready: Ready) -> str:
    await refuse_transaction_pooler(ready.connection, ready.server, ready.dsn, application_name=run.application_name)
    return "the connection is direct" if ready.server.direct else "through a pooler that keeps sessions"


async def _revision(run: Run, ready: Ready) -> str:
    state = await standing(run, ready, find(run))
    pending = f"{len(state.steps)} pending" if isinstance(state, Pending) else f"at {run.settings.target}"
    return f"{revision_field(state.recorded)}, {pending}"


async def _privileges(run: Run, ready: Ready) -> str:
    project = find(run).project
    await version_table.require_write_privilege(
        ready.connection, ready.server.user, project.version_table, project.version_schema
    )
    return f"the role {ready.server.user} may write the version table"


async def _lock(ready: Ready) -> str:
    holders = await lock.holders(ready.connection)
    return f"held by {'; '.join(map(str, holders))}: `up` would wait" if holders else "free"


async def _indexes(run: Run, ready: Ready) -> str:
    refuse_invalid(await left_invalid(run, ready.connection, find(run)))
    others = sorted(await invalid_indexes(ready.connection))
    return f"INVALID, and by no revision: {', '.join(map(str, others))}" if others else "none is INVALID"


async def _pg_dump(run: Run, ready: Ready) -> str:
    client = await find_client(ready.server.version_num, path=run.environ.get("PATH", ""))
    return f"{client.pg_dump} {client.version}"


async def _folder(run: Run) -> str:
    directory, database = run.settings.backup_dir, run.settings.dsn.database
    with folders.tried_out(directory / folders.safe_name(database), run.run_id) as missing:
        free = folders.free_bytes(directory)
    made = " (it will be made)" if directory in missing else ""
    wide = folders.open_to_others(directory, database)
    warning = f"; every user of this machine may look into {wide}: chmod o-rwx {shlex.quote(str(wide))}" if wide else ""
    return f"{directory}{made}, {folders.mebibytes(free)} free{warning}"


async def _tables(run: Run, ready: Ready) -> str:
    return await require_possible(ready.connection, run.settings.backup_dir, ready.server.database, run.run_id)
