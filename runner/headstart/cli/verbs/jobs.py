"""The use case of each verb, and what it prints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from headstart.cli.output import print_json, print_lines, write_bytes
from headstart.commands import backups, history, stamp, status, wait
from headstart.errors import PendingError, UsageError
from headstart.log.printable import counted, first_and_last
from headstart.postgres.activity import REBUILD
from headstart.steps.backup import backups as listed
from headstart.steps.backup import shown

if TYPE_CHECKING:
    from headstart.cli.arguments import CommandLine
    from headstart.ledger import Row
    from headstart.steps.run import Run

Job = Callable[["Run"], Awaitable[None]]


def job(asked: CommandLine) -> Job:
    """The use case that a command line asks for."""
    name, alembic = asked.verb.name, asked.alembic
    if alembic is not None and name in {"upgrade", "downgrade", "stamp"} and not alembic["sql"]:
        from headstart.commands.up import downgrade, up

        if name == "stamp":
            return lambda run: stamp.stamp(run, alembic["revisions"], purge=alembic["purge"])
        return up if name == "upgrade" else downgrade
    if name == "history" and (asked.own.ledger or asked.own.source is not None):
        return lambda run: _ledger(run, asked.own)
    if asked.verb.module:
        return lambda run: asked.verb.load().job(run, asked.own)
    if asked.verb.alembic or name == "sql":
        from headstart.cli.alembic_verbs import run_alembic  # the worker comes with it

        theirs = "upgrade" if name == "sql" else name
        return lambda run: run_alembic(run, theirs, asked.arguments, database=asked.needs_database)
    own: dict[str, Job] = {
        "wait": wait.wait_for_head if getattr(asked.own, "wait_for", None) == "head" else wait.wait_for_server,
        "status": lambda run: _status(run, asked.own),
        "doctor": lambda run: _doctor(run, asked.own),
        "backup": backups.back_up,
        "backups": lambda run: _backups(run, asked.own),
        "restore": lambda run: _restore(run, asked.own),
    }
    return own[name]


async def _status(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    found, refused = await status.status(run)
    if own.json:
        print_json(found)
    else:
        _print_status(found)
    if refused is not None:
        raise refused
    if own.exit_code and not found["at_target"]:
        pending = f"{counted(len(found['pending']), 'revision')} pending: {first_and_last(found['pending'])}"
        raise PendingError(pending, hint="run `headstart up`")


def _print_status(found: dict[str, Any]) -> None:
    revision = found["revision"]
    pending = "pending: cannot be told" if found["pending"] is None else f"{len(found['pending'])} pending"
    at = "beyond" if found["beyond"] else "at"
    lines = [
        f"server    PostgreSQL {found['server']['version']} at {found['server']['address']}",
        f"database  {found['database']}",
        f"revision  {', '.join(revision) if isinstance(revision, list) else revision}"
        + (f" ({at} {found['target']})" if found["at_target"] else f", {pending}"),
        *([f"problem   {found['problem']}"] if found["problem"] else []),
        *(f"pending   {each}" for each in found["pending"] or ()),
        *(f"lock      held by {each['application_name']} (pid {each['pid']})" for each in found["lock_holders"]),
        *(f"invalid   index {each}: {REBUILD.format(index=each)}" for each in found["invalid_indexes"]),
    ]
    if not found["lock_holders"]:
        lines.append("lock      free")
    if last := found["last_run"]:
        by = last["image"] or f"headstart {last['headstart']}"
        lines.append(f"last run  {last['ended']} by {by} on {last['host']}: {', '.join(last['revisions'])}")
    lines += [_backup_line(each) for each in found["backups"]] or [f"backup    {found.get('backups_problem', 'none')}"]
    print_lines(lines)


def _backup_line(each: dict[str, Any]) -> str:
    mebibytes = each["bytes"] / 1024 / 1024
    damage = f", DAMAGED: {'; '.join(each['damage'])}" if each["damage"] else ""
    return f"backup    {each['path']}  {mebibytes:.1f} MiB, {each['started']}, {'+'.join(each['proofs'])}{damage}"


async def _doctor(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    from headstart.commands.doctor import examine

    findings, failure = await examine(run)
    if own.json:
        print_json([msgspec.to_builtins(each) for each in findings])
    else:
        print_lines(
            f"{'ok  ' if each.ok else 'FAIL'}  {each.what}: {each.found}"
            + (f" -> {each.remedy}" if each.remedy else "")
            for each in findings
        )
    if failure is not None:
        raise failure


async def _backups(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    database = None if own.all or not run.settings.dsn_source else run.settings.dsn.database
    if own.action != "verify" and own.backup:
        raise UsageError(f"`backups {own.action}` takes no names", hint="only `backups verify` does")
    if own.action == "prune":
        await _prune(run, own, database)
        return
    if own.action == "verify":
        found = await backups.verify_backups(run, database, own.backup)
    else:
        found = [shown(each) for each in listed(run, database)]
    if own.json:
        print_json(found)
        return
    print_lines(_backup_line(each)[10:] + (", whole" if each.get("whole") else "") for each in found)
    if not found:
        run.log.info("no_backups", directory=str(run.settings.backup_dir), database=database)


async def _prune(run: Run, own: Any, database: str | None) -> None:  # noqa: ANN401  (an argparse namespace)
    from headstart.backup.prune import prune

    names = [database] if database is not None else sorted({each.manifest.database for each in listed(run, None)})
    decisions = {name: prune(run.settings.backup_dir, name, run.settings.backup_keep, log=run.log) for name in names}
    if own.json:
        print_json({name: {"keep": list(each.keep), "delete": dict(each.delete)} for name, each in decisions.items()})
        return
    for name, each in decisions.items():
        print_lines(f"{name}: kept {kept}" for kept in each.keep)
        print_lines(f"{name}: deleted {gone} ({reason})" for gone, reason in each.delete.items())


async def _ledger(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    if own.source is not None:
        write_bytes(await history.source(run, own.source))
        return
    print_lines(map(_ledger_line, await history.applied(run)))


def _ledger_line(row: Row) -> str:
    seconds = "" if row.seconds is None else f"  {row.seconds:.2f} s"
    by = f"{row.role}@{row.host}  {row.image or f'headstart {row.headstart}'}  run {row.run_id}"
    backup = f"  backup {row.backup}" if row.backup else ""
    return f"{row.at.replace('+00:00', 'Z')}  {row.action:<8}  {row.revision or 'base'}{seconds}  {by}{backup}"


async def _restore(run: Run, own: Any) -> None:  # noqa: ANN401  (an argparse namespace)
    from headstart.commands.restore import restore

    if own.end_sessions and not own.swap:
        raise UsageError("--end-sessions belongs to --swap", hint="leave it out: a restore beside ends no session")
    made = await restore(run, own.backup, swap=own.swap, end_sessions=own.end_sessions)
    revision = ", ".join(made.revision) if isinstance(made.revision, list) else made.revision
    lines = [f"database  {made.database}", f"backup    {made.backup}", f"revision  {revision}"]
    if made.kept is not None:
        lines += [f"before    {made.kept}", f"go back   {made.go_back}"]
    lines += [f"missing   {each}: set it again with a role that may" for each in made.not_restored]
    if made.remove is not None:
        lines.append(f"remove    {made.remove}")
    print_lines(lines)
