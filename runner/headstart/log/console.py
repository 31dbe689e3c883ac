"""The log for a person on a terminal: a sentence for each event, and the end of a run on several lines."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from headstart.log.events import EVENTS, NEXT, Fields, named
from headstart.log.printable import counted, one_line

_COLOURS = {"good": "\033[32m", "bad": "\033[31m", "wait": "\033[33m", "dim": "\033[2m"}
_END = "\033[0m"


# Texts that may have several lines. A line break in anything else is in a name that somebody has chosen.
_TEXTS = frozenset({"error", "cause", "problem", "detail", "line", "exception"})


def _visible(key: str, value: Any) -> Any:  # noqa: ANN401  (plain data)
    """The same, so that a terminal obeys nothing in it, and no line of it stands where a line of the log begins."""
    if isinstance(value, str):
        lines = value.expandtabs().split("\n") if key in _TEXTS else [value]
        return NEXT.join(map(one_line, lines))
    return [_visible("", each) for each in value] if isinstance(value, list) else value


def renderer(*, colors: bool) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    """Make structlog's last processor.

    Args:
        colors: whether the terminal shows colours.
    """

    def paint(colour: str, text: str) -> str:
        return f"{_COLOURS[colour]}{text}{_END}" if colors and colour else text

    def process(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
        event = {key: _visible(key, value) for key, value in fields.items()}
        clock = paint("dim", event["timestamp"][11:19])
        of = f"{event['tenant']}: " if "tenant" in event else ""
        if event["event"] in {"run_finished", "tenant_finished"}:
            return f"{clock}  {of}" + NEXT.join(_end(event, paint))
        known = EVENTS.get(event["event"])
        tone, text = (known.tone, known(event)) if known else ("", event["event"])
        return f"{clock}  {paint(tone, of + text.rstrip())}"

    return process


def _end(event: Fields, paint: Callable[[str, str], str]) -> list[str]:
    back = "downgrade_seconds" in event
    steps = f"{len(event.get('applied') or ())} {'reverted' if back else 'applied'}"
    at = event.get("revision_after")
    if event["exit_code"] == 0:
        parts = [f"at {named(at)}"] if at is not None else []
        parts += [steps] if event.get("applied") else []
        parts += [f"in {event['total_seconds']:.2f} s"] if "total_seconds" in event else []
        return [f"{paint('good', 'done')}  {', '.join(parts)}"]
    problems = event.get("problems") or []
    several = len(problems) > 1  # then the error is all of them, one after the other
    error = counted(len(problems), "problem") if several else event["error"]
    lines = [paint("bad", f"failed (exit {event['exit_code']}, {event['outcome']})") + f"  {error}"]
    lines += [f"- {problem}" for problem in problems] if several else []
    lines += [f"{label}:{_on_lines(event[key])}" for key, label in _DETAILS if event.get(key)]
    if at is not None and (back or "upgrade_seconds" in event):
        known = f"the database is at {named(at)}"
        lines.append(f"{steps} in this run" if known in event["error"] else f"{known}; {steps} in this run")
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
    return "".join(f"{NEXT}  {each}" for each in value) if isinstance(value, list) else f" {value}"
