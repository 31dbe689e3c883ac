"""How a story shows an output: as a terminal does, and without what differs from run to run.

Times, ids, versions and sizes are texts that look natural.
"""

from __future__ import annotations

import json
import re
from typing import Any

from headstart.log.console import renderer

_UNSAID = re.compile(r"timestamp|level|event|run_id|.*_(seconds|bytes)")
_STEADY = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"(?m)^\d\d:\d\d:\d\d(?=  )", "12:00:00"),
        (r"\d{8}T\d{6}\.\d{3}Z", "20260401T120000.000Z"),
        (r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?", r"2026-04-01\g<1>12:00:00"),
        (r"\b\d+\.\d\d s\b", "0.12 s"),
        (r"\b\d+\.\d s\b", "0.5 s"),
        (r"\bfor \d+ s\b", "for 3 s"),
        (r"\b\d+\.\d MiB\b", "7.5 MiB"),
        (r"(?<=pg_dump )[^)]+(?=\))", "18.4, zstd, 4 jobs"),
        (r"\bPostgreSQL \d+(\.\d+)+", "PostgreSQL 18.4"),
        (r"\bheadstart \d+(\.\d+)+", "headstart 0.2.1"),
        (r"\b(headstart|worker|run) [0-9a-f]{8}\b", r"\1 1f2e3d4c"),
        (r"\bnode-1:\d+", "node-1:4711"),
        (r"(?m)(?<= )\d+\.\d\d(?= |$)", "0.12"),
        (r"\bafter \d+ attempts\b", "after 9 attempts"),
        (r"(?<=127\.0\.0\.1:)\d{4,5}\b", "5432"),
    )
]


def steady(text: str) -> str:
    """The same for each run that does the same."""
    for pattern, instead in _STEADY:
        text = pattern.sub(instead, text)
    return text


def logged(line: str) -> dict[str, Any] | None:
    """A line of the log."""
    found: dict[str, Any] | None = json.loads(line) if line.startswith('{"timestamp"') else None
    return found


def is_heartbeat(line: str) -> bool:
    """Whether it only says that something takes long: a machine that is busy has more of them."""
    return (logged(line) or {}).get("event") == "stage_running"


def sentence(line: str) -> str:
    """What a terminal shows in place of a line of the log: headstart itself makes both out of the same fields."""
    event = logged(line)
    return line if event is None else renderer(colors=False)(None, "", event)


def fields(last: dict[str, Any], block: str) -> str:
    """The fields that a block of JSON names, or all that matter, as a line of the log has them: each on a line."""
    named = json.loads(block or "{}") or [key for key in last if not _UNSAID.fullmatch(key)]
    lines = [f"  {json.dumps(key)}: {json.dumps(last.get(key), ensure_ascii=False)}" for key in named]
    return "{\n" + ",\n".join(lines) + "\n}\n"
