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
_FIRST = ("outcome", "exit_code", "error", "hint", "failed", "revision_before", "revision_after")


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

    A list is told by how many it has, a long text by its beginning. What finds no room is left out.
    """
    said: dict[str, object] = {}
    for name in dict.fromkeys([*_FIRST, *fields]):
        if name in fields and len(as_json({**said, name: _short(fields[name])})) <= MOST:
            said[name] = _short(fields[name])
    return as_json(said)


def _short(value: object) -> object:
    if isinstance(value, list | tuple):
        return len(value)
    text = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else b""
    return f"{text[:_TEXT].decode(errors='ignore')}..." if len(text) > _TEXT else value
