"""The Kubernetes termination message: the last line of a run that failed, where `kubectl describe pod` shows it.

Kubernetes documentation, 'Determine the Reason for Pod Failure': the kubelet keeps 4,096 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headstart.log.printable import as_json

TERMINATION_LOG = Path("/dev/termination-log")
MOST = 4_000
"""Bytes of a message."""

_TEXT = 900  # bytes of one text: error and hint have room beside each other, however much of them is escaped
_FIRST = ("outcome", "exit_code", "error", "hint", "failed", "revision_before", "revision_after", "leftovers")
_COUNTED = ("applied", "pending")


def leave_message(fields: Mapping[str, object]) -> None:
    """Leave the fields of `run_finished` there, if there is such a place."""
    try:
        with TERMINATION_LOG.open("r+b") as file:
            file.truncate()
            file.write(message(fields))
    except OSError:
        return


def message(fields: Mapping[str, object]) -> bytes:
    """The fields as one JSON object of at most `MOST` bytes, the most important ones first.

    A long text is told by its beginning; what was applied and what is pending, and a list that finds no room, by how
    many it has. What finds no room at all is left out.
    """
    said: dict[str, object] = {}
    for name in dict.fromkeys([*_FIRST, *fields]):
        if name not in fields:
            continue
        value = fields[name]
        ways: list[object] = [_short(value)]
        if isinstance(value, list | tuple):
            ways = [len(value)] if name in _COUNTED else [value, len(value)]
        fitting = [way for way in ways if len(as_json({**said, name: way})) <= MOST]
        if fitting:
            said[name] = fitting[0]
    return as_json(said)


def _short(value: object) -> object:
    text = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else b""
    return f"{text[:_TEXT].decode(errors='ignore')}..." if len(text) > _TEXT else value
