"""What the log says to a person: a sentence for each event that the code can log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from headstart.log.printable import counted

Event = Mapping[str, Any]

NEXT: Final = "\n" + " " * 10
"""A further line of a sentence, below the first one's text."""
_MANY: Final = 4
"""Revisions that are named one by one; of more, the first and the last."""


def named(revisions: Any) -> str:  # noqa: ANN401  (one, several or none)
    """Revisions as a sentence names them."""
    if not isinstance(revisions, list | tuple):
        return str(revisions)
    if len(revisions) <= _MANY:
        return ", ".join(map(str, revisions))
    return f"{revisions[0]} ... {revisions[-1]}"


def hint(event: Event) -> str:
    """What to do next, on a line of its own; nothing where the event does not say."""
    return f"{NEXT}-> {event['hint']}" if event.get("hint") else ""


def _blockers(event: Event) -> str:
    """Who is in the way, and what to do about it: a line each."""
    return "".join(f"{NEXT}blocked by {each}" for each in event.get("blockers") or []) + hint(event)


def as_it_is(event: Event) -> str:
    """An event without a sentence."""
    return " ".join([event["event"], *(f"{key}={value}" for key, value in event.items() if key not in _AROUND)])


_AROUND: Final = frozenset({"event", "timestamp", "level", "tenant"})


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MiB"


def _plan(event: Event) -> str:
    at, steps = named(event["revision"]), named(event["pending"])
    if event.get("direction") == "down":
        return f"{len(event['pending'])} to be reverted from {at}: {steps}"
    return f"{len(event['pending'])} pending after {at}: {steps}"


def _step(event: Event, verb: str) -> str:
    count = f"{event['done']}/{event['of']}"
    return f"{verb} {event['revision']}  {event['description']} ({count}, {event['applied_seconds']:.2f} s)"


def _loading(event: Event) -> str:
    if "statement" in event:
        return f"loading the schema: {event['statement']} of {counted(event['statements'], 'statement')}"
    return f"loading {event['file']}: the schema at {named(event['revision'])}"


SENTENCES: Final[dict[str, tuple[str, Callable[[Event], str]]]] = {
    "run_started": ("dim", lambda e: f"headstart {e['version']}: {e['verb']} {e['database'] or ''}".rstrip()),
    "server_not_ready": ("wait", lambda e: f"waiting, {e['left_seconds']:.0f} s left: {e['cause']}"),
    "server_ready": ("", lambda e: f"PostgreSQL {e['version']} answers after {e['waited_seconds']:.2f} s"),
    "nothing_pending": ("", lambda e: f"nothing is pending: the database is at {named(e['revision'])}"),
    "alembic_decides": ("dim", lambda e: f"Alembic is asked, since {e['reason']}"),
    "lock_waiting": ("wait", lambda e: f"waiting for the migration lock, held by {e['holder']}"),
    "lock_obtained": ("", lambda e: f"migration lock obtained after {e['waited_seconds']:.2f} s"),
    "plan": ("", _plan),
    "tenants_found": ("", lambda e: f"{counted(e['tenants'], 'tenant')} listed, {e['share']} in this share"),
    "backup_skipped": ("dim", lambda e: f"no backup: {e['reason']}"),
    "backup_started": (
        "",
        lambda e: (
            f"backing up {_mebibytes(e['database_bytes'])} in {counted(e['tables'], 'table')}"
            f" (pg_dump {e['client_version']}, {e['compression']}, {counted(e['jobs'], 'job')})"
        ),
    ),
    "backup_progress": (
        "wait",
        lambda e: f"backing up: {_mebibytes(e['written_bytes'])} after {e['elapsed_seconds']:.0f} s" + _blockers(e),
    ),
    "backup_deleted": ("dim", lambda e: f"deleted the backup {e['path']}: {e['reason']}"),
    "backup_taken": ("", lambda e: f"backup verified: {e['path']} ({_mebibytes(e['total_bytes'])})"),
    "restore_started": (
        "",
        lambda e: (
            f"restoring {e['backup']}, {_mebibytes(e['expected_bytes'])} in {counted(e['tables'], 'table')}"
            f" (pg_restore {e['client_version']}, {counted(e['jobs'], 'job')})"
        ),
    ),
    "restore_progress": (
        "wait",
        lambda e: (
            f"{e.get('stage', 'restore')}: {_mebibytes(e.get('restored_bytes', e.get('read_bytes', 0)))}"
            f" after {e['elapsed_seconds']:.0f} s"
        ),
    ),
    "restore_done": ("", lambda e: f"restored and compared: database {e['database']}, at {named(e['revision'])}"),
    "databases_exchanged": (
        "",
        lambda e: (
            f"{e['database']} is the restored one now"
            + (f"; what it was is kept as {e['kept']}{NEXT}go back: {e['go_back']}" if e["kept"] else "")
        ),
    ),
    "revision_applied": ("", lambda e: _step(e, "applied ")),
    "revision_reverted": ("", lambda e: _step(e, "reverted")),
    "revision_run": ("", lambda e: f"run      {e['revision']}  {e['description']} (to be committed with the others)"),
    "one_transaction": ("", lambda e: f"one transaction for all revisions: {e['reason']}"),
    "env_connected": ("dim", lambda e: f"env.py has connected by {e['driver']} as {e['user']}"),
    "env_running": ("wait", lambda e: f"env.py is still running after {e['running_seconds']:.0f} s"),
    "env_writes": (
        "dim",
        lambda e: f"env.py writes to the database, so it is run under the lock: {e['reason']}",
    ),
    "revision_running": (
        "wait",
        lambda e: f"{e['revision']}: its Python is still running after {e['running_seconds']:.0f} s",
    ),
    "revision_unknown": (
        "bad",
        lambda e: f"nobody knows where the database is: {e['cause']}{hint(e)}",
    ),
    "leftovers_found": ("bad", lambda e: "left behind:" + "".join(f"{NEXT}{each}" for each in e["leftovers"])),
    "history_empty": ("wait", lambda e: f"{e['reason']}{hint(e)}"),
    "ledger_not_written": ("dim", lambda e: f"no ledger: {e['cause']}"),
    "script_output_dropped": ("wait", lambda _: "env.py writes more than is logged: the rest is dropped"),
    "revision_retried": (
        "wait",
        lambda e: f"trying {e['revision']} again in {e['pause_seconds']:.1f} s: {e['cause']}" + _blockers(e),
    ),
    "revision_waiting": (
        "wait",
        lambda e: f"waiting, {e['left_seconds']:.0f} s left: {counted(len(e['pending']), 'revision')} pending",
    ),
    "stage_running": ("wait", lambda e: f"still at work: {e['stage']}"),
    "log_lines_dropped": ("wait", lambda e: f"{counted(e['lines'], 'line')} missing here: nobody read in time"),
    "statement_running": (
        "wait",
        lambda e: f"{e['revision']}: still running after {e['running_seconds']:.0f} s: {e['statement']}" + _blockers(e),
    ),
    "statement_blocked": (
        "wait",
        lambda e: f"{e['revision']} waits for a lock" + _blockers(e),
    ),
    "verified": ("", lambda e: f"verified: the database is at {named(e['revision'])}"),
    "at_target": ("", lambda e: f"the database is at {named(e['revision'])}"),
    "script_output": ("dim", lambda e: f"| {e['message']}"),
    "autogenerate_found_nothing": (
        "wait",
        lambda e: (
            f"autogenerate found nothing (the database is at {named(e['revision'])}):"
            + "".join(f"{NEXT}- {cause}" for cause in e["causes"])
            + hint(e)
        ),
    ),
    # -- beside the way of `up` ---------------------------------------------------------------------------------------
    "adopted_with_differences": (
        "wait",
        lambda e: f"recorded as {named(e['revision'])}, although there are differences: {len(e['differences'])}",
    ),
    "backup_broken": ("bad", lambda e: f"no whole backup: {e['path']}: {e['problem']}"),
    "backup_damaged": ("bad", lambda e: f"damaged: {e['path']}: {e['problem']}"),
    "backup_link_ignored": ("dim", lambda e: f"a link is no backup, and is left alone: {e['path']}"),
    "backup_not_deleted": ("wait", lambda e: f"the backup {e['path']} cannot be deleted: {e['reason']}"),
    "backup_of_another_database": (
        "wait",
        lambda e: f"{e['path']} is a backup of database {e['database']}, and is restored for {e['into']}",
    ),
    "backup_of_newer_server": (
        "wait",
        lambda e: f"the backup is of PostgreSQL {e['backup_server_version']}, the server is {e['server_version']}",
    ),
    "backup_verified": (
        "good",
        lambda e: f"verified: {e['path']} ({counted(e['files'], 'file')}, {_mebibytes(e['total_bytes'])})",
    ),
    "bug": ("bad", lambda e: f"a bug in headstart: {e['error']}\n{e.get('exception', '')}".rstrip()),
    "check_running": ("wait", lambda e: f"checking {e['revision']} ({e['done']}/{e['of']} done)"),
    "client_newer_than_server": (
        "wait",
        lambda e: f"pg_restore {e['client_version']} is newer than the server, so it restores with one job",
    ),
    "command_failed": ("bad", lambda e: f"{e['command']} cannot be started: {e['error']}"),
    "database_ahead": ("wait", lambda e: f"the database is ahead, at {named(e['revision'])}: {e['hint']}"),
    "env_cut_short": ("wait", lambda e: f"env.py's process was ended: {e['hint']}"),
    "hook_failed": ("wait", lambda e: f"the hook {' '.join(e['command'])} failed on {e['path']}: {e['how']}{hint(e)}"),
    "invalid_indexes_found": ("bad", lambda e: f"INVALID: index {', '.join(e['indexes'])}{hint(e)}"),
    "ledger_incomplete": (
        "wait",
        lambda e: f"the ledger has {e['found']} of {counted(e['expected'], 'row')}: {e['cause']}{hint(e)}",
    ),
    "ledger_not_read": ("wait", lambda e: f"the ledger is not read: {e['cause']}{hint(e)}"),
    "ledger_not_updated": ("wait", lambda e: f"the ledger's table stays as it is: {e['cause']}{hint(e)}"),
    "ledger_refused": ("wait", lambda e: f"a revision's role may not write the ledger: {e['cause']}"),
    "leftovers_unknown": ("bad", lambda e: f"what was committed cannot be told: {e['cause']}{hint(e)}"),
    "models_missing": ("wait", lambda e: e["hint"]),
    "no_backups": (
        "wait",
        lambda e: f"there is no backup in {e['directory']}" + (f" of {e['database']}" if e["database"] else ""),
    ),
    "orphaned_dump_ended": (
        "wait",
        lambda e: f"ended the dump of a dead run ({e['application_name']}, pid {e['pid']})",
    ),
    "orphaned_restore_ended": (
        "wait",
        lambda e: f"ended the restore of a dead run into {e['database']} (pid {e['pid']})",
    ),
    "other_dump_running": (
        "wait",
        lambda e: f"somebody else dumps this database (pid {e['pid']}, role {e['role']}, since {e['backend_start']})",
    ),
    "parameters_ignored": (
        "wait",
        lambda e: f"{e['source']}: not understood, and left out: {', '.join(e['parameters'])}",
    ),
    "partial_backup_removed": ("dim", lambda e: f"removed what a dead run has left: {e['path']}"),
    "partial_database_dropped": ("dim", lambda e: f"dropped the incomplete database {e['database']}"),
    "partial_database_kept": (
        "wait",
        lambda e: f"the incomplete database {e['database']} is still there: {e['cause']}",
    ),
    "pg_dump_said": ("dim", lambda e: f"pg_dump: {e['line']}"),
    "pg_restore_said": ("dim", lambda e: f"pg_restore: {e['line']}"),
    "project_not_readable": ("wait", lambda e: f"backed up without the Alembic project: {e['cause']}"),
    "proof_not_recorded": ("wait", lambda e: f"the manifest of {e['path']} stays as it was: {e['cause']}"),
    "property_not_restored": (
        "wait",
        lambda e: f"database {e['database']}: the role may not restore {e['property']} (SQLSTATE {e['sqlstate']})",
    ),
    "schema_dumped": (
        "",
        lambda e: f"wrote {e['file']}: the schema at {named(e['revision'])}, {counted(e['entries'], 'object')}",
    ),
    "schema_file_fresh": ("good", lambda e: f"{e['file']} is the schema at head"),
    "schema_file_not_used": ("wait", lambda e: f"{e['file']} is not used: {e['reason']}{hint(e)}"),
    "schema_loaded": (
        "",
        lambda e: f"loaded {e['file']}: at {named(e['revision'])}, {counted(e['revisions'], 'revision')} recorded",
    ),
    "schema_loading": ("wait", _loading),
    "schema_matches": (
        "good",
        lambda e: f"the schema is that of {named(e['revision'])} (of {counted(e['of'], 'revision')})",
    ),
    "schema_split": (
        "",
        lambda e: f"wrote {counted(e['files'], 'file')} to {e['directory']}: the schema at {named(e['revision'])}",
    ),
    "schemas_compared": ("dim", lambda e: f"compared as well: schema {', '.join(e['schemas'])}, since {e['reason']}"),
    "scratch_server_version": (
        "wait",
        lambda e: f"the scratch server is PostgreSQL {e['version']} instead of {e['wanted']}{hint(e)}",
    ),
    "server_lost": ("wait", lambda e: f"the server has gone away ({e['error']}): waiting for it again"),
    "session_ended": ("wait", lambda e: f"ended a session in {e['database']}: {e['session']}"),
    "signal_received": ("wait", lambda e: f"{e['signal']} received in stage {e['stage']}: ending"),
    "squash_finished": ("", lambda e: f"finished {e['baseline']}: {e['cause']}"),
    "squashed": (
        "",
        lambda e: (
            f"{e['baseline']} replaces {counted(e['files'], 'file')} up to {named(e['revision'])};"
            f" they are in {e['archive']}"
        ),
    ),
    "watch_unavailable": ("dim", lambda e: f"the server does not say what the revision does: {e['error']}"),
}
