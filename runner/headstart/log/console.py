"""The log for a person on a terminal: a sentence for each event. An event without one is shown as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

Event = Mapping[str, Any]

_COLOURS = {"good": "\033[32m", "bad": "\033[31m", "wait": "\033[33m", "dim": "\033[2m"}
_END = "\033[0m"
_MANY = 4
"""Revisions that are named one by one; of more, the first and the last."""


def renderer(*, colors: bool) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    """Make structlog's last processor.

    Args:
        colors: whether the terminal shows colours.
    """
    # The first argument is how far events are padded: its name differs between versions.
    plain = structlog.dev.ConsoleRenderer(24, colors=colors, sort_keys=False)

    def paint(colour: str, text: str) -> str:
        return f"{_COLOURS[colour]}{text}{_END}" if colors else text

    def process(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401  (structlog's)
        clock = event["timestamp"][11:19]
        if event["event"] in {"run_finished", "tenant_finished"}:
            return f"{paint('dim', clock)}  " + f"\n{' ' * 10}".join(_end(event, paint))
        sentence = _SENTENCES.get(event["event"])
        if sentence is None or "exc_info" in event or "exception" in event:
            event["timestamp"] = clock
            return plain(logger, method, {key: value for key, value in event.items() if value not in (None, [])})
        colour, text_of = sentence
        text = f"{event['tenant']}: {text_of(event)}" if "tenant" in event else text_of(event)
        return f"{paint('dim', clock)}  {paint(colour, text) if colour else text}"

    return process


def _end(event: Event, paint: Callable[[str, str], str]) -> list[str]:
    applied = event.get("applied") or []
    of = f"{event['tenant']}: " if "tenant" in event else ""
    if event["exit_code"] == 0:
        parts = [f"at {_named(event.get('revision_after'))}"] if event.get("revision_after") is not None else []
        parts += [f"{len(applied)} applied"] if applied else []
        parts += [f"in {event['total_seconds']:.2f} s"] if "total_seconds" in event else []
        return [f"{of}{paint('good', 'done')}  {', '.join(parts)}"]
    lines = [of + paint("bad", f"failed (exit {event['exit_code']}, {event['outcome']})") + f"  {event.get('error')}"]
    problems = event.get("problems") or []
    lines += [f"- {problem}" for problem in problems] if len(problems) > 1 else []
    lines += [f"{label}: {_on_lines(event[key])}" for key, label in _DETAILS if event.get(key)]
    if event.get("revision_after") is not None:
        lines.append(f"the database is at {_named(event['revision_after'])}; {len(applied)} applied in this run")
    if event.get("backup"):
        lines.append(f"backup: {event['backup']}")
    return [*lines, f"-> {event['hint']}"]


_DETAILS = (
    ("statement", "statement"),
    ("detail", "detail"),
    ("position", "position"),
    ("server_hint", "the server's hint"),
    ("calls", "called"),
    ("blockers", "blocked by"),
    ("leftovers", "left behind"),
)


def _on_lines(value: Any) -> str:  # noqa: ANN401  (a text, a number or several texts)
    return ("".join(f"\n  {each}" for each in value)) if isinstance(value, list) else str(value)


def _named(revisions: Any) -> str:  # noqa: ANN401  (one, several or none)
    if not isinstance(revisions, list | tuple):
        return str(revisions)
    if len(revisions) <= _MANY:
        return ", ".join(map(str, revisions))
    return f"{revisions[0]} ... {revisions[-1]}"


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MiB"


def _plan(event: Event) -> str:
    at, steps = _named(event["revision"]), _named(event["pending"])
    if event.get("direction") == "down":
        return f"{len(event['pending'])} to be reverted from {at}: {steps}"
    return f"{len(event['pending'])} pending after {at}: {steps}"


_SENTENCES: dict[str, tuple[str, Callable[[Event], str]]] = {
    "run_started": ("dim", lambda e: f"headstart {e['version']}: {e['verb']} {e['database'] or ''}".rstrip()),
    "server_not_ready": ("wait", lambda e: f"waiting, {e['left_seconds']:.0f} s left: {e['cause']}"),
    "server_ready": ("", lambda e: f"PostgreSQL {e['version']} answers after {e['waited_seconds']:.2f} s"),
    "nothing_pending": ("", lambda e: f"nothing is pending: the database is at {_named(e['revision'])}"),
    "alembic_decides": ("dim", lambda e: f"Alembic is asked, since {e['reason']}"),
    "lock_waiting": ("wait", lambda e: f"waiting for the migration lock, held by {e['holder']}"),
    "lock_obtained": ("", lambda e: f"migration lock obtained after {e['waited_seconds']:.2f} s"),
    "plan": ("", _plan),
    "tenants_found": ("", lambda e: f"{e['tenants']} tenants are listed, {e['share']} of them in this share"),
    "backup_skipped": ("dim", lambda e: f"no backup: {e['reason']}"),
    "backup_started": (
        "",
        lambda e: (
            f"backing up {_mebibytes(e['database_bytes'])} in {e['tables']} tables"
            f" (pg_dump {e['client_version']}, {e['compression']}, {e['jobs']} jobs)"
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
            f"restoring {e['backup']}, {_mebibytes(e['expected_bytes'])} in {e['tables']} tables"
            f" (pg_restore {e['client_version']}, {e['jobs']} jobs)"
        ),
    ),
    "restore_progress": (
        "wait",
        lambda e: (
            f"{e.get('stage', 'restore')}: {_mebibytes(e.get('restored_bytes', e.get('read_bytes', 0)))}"
            f" after {e['elapsed_seconds']:.0f} s"
        ),
    ),
    "restore_done": ("", lambda e: f"restored and compared: database {e['database']}, at {_named(e['revision'])}"),
    "databases_exchanged": (
        "",
        lambda e: (
            f"{e['database']} is the restored one now"
            + (f"; what it was is kept as {e['kept']}\n{' ' * 10}go back: {e['go_back']}" if e["kept"] else "")
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
        lambda e: f"nobody knows where the database is: {e['cause']}\n{' ' * 10}-> {e['hint']}",
    ),
    "leftovers_found": ("bad", lambda e: "left behind:" + _on_lines(e["leftovers"])),
    "history_empty": ("wait", lambda e: f"{e['reason']}\n{' ' * 10}-> {e['hint']}"),
    "ledger_not_written": ("dim", lambda e: f"no ledger: {e['cause']}"),
    "script_output_dropped": ("wait", lambda _: "env.py writes more than is logged: the rest is dropped"),
    "revision_retried": (
        "wait",
        lambda e: f"trying {e['revision']} again in {e['pause_seconds']:.1f} s: {e['cause']}" + _blockers(e),
    ),
    "revision_waiting": (
        "wait",
        lambda e: f"waiting, {e['left_seconds']:.0f} s left: {len(e['pending'])} revisions are pending",
    ),
    "statement_running": (
        "wait",
        lambda e: f"{e['revision']}: still running after {e['running_seconds']:.0f} s: {e['statement']}" + _blockers(e),
    ),
    "statement_blocked": (
        "wait",
        lambda e: f"{e['revision']} waits for a lock" + _blockers(e),
    ),
    "verified": ("", lambda e: f"verified: the database is at {_named(e['revision'])}"),
    "at_target": ("", lambda e: f"the database is at {_named(e['revision'])}"),
    "script_output": ("dim", lambda e: f"| {e['message']}"),
    "autogenerate_found_nothing": (
        "wait",
        lambda e: (
            f"autogenerate found nothing (the database is at {_named(e['revision'])}):"
            + "".join(f"\n{' ' * 10}- {cause}" for cause in e["causes"])
            + f"\n{' ' * 10}-> {e['hint']}"
        ),
    ),
}


def _blockers(event: Event) -> str:
    """Who is in the way, and what to do about it: a line each."""
    lines = [f"blocked by {each}" for each in event.get("blockers") or []]
    lines += [f"-> {event['hint']}"] if event.get("hint") else []
    return "".join(f"\n{' ' * 10}{each}" for each in lines)


def _step(event: Event, verb: str) -> str:
    count = f"{event['done']}/{event['of']}"
    return f"{verb} {event['revision']}  {event['description']} ({count}, {event['applied_seconds']:.2f} s)"
