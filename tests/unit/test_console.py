"""The log as people read it: nothing in it reaches the terminal as a command."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from headstart.log import logger as logs
from headstart.log.printable import as_json, counted, one_line

FINISHED = {
    "outcome": "done",
    "exit_code": 0,
    "revision_before": "b2",
    "revision_after": "a1",
    "applied": [],
    "backup": None,
    "total_seconds": 1.0,
}
FAILED = FINISHED | {
    "outcome": "pending",
    "exit_code": 3,
    "error": "1 revision pending: b2",
    "hint": "run `headstart up`",
}


def console(event: str, **fields: object) -> str:
    """What a person is shown for an event."""
    stream = io.StringIO()
    logs.build(stream, json=False, run_id="r", redact=str).info(event, **fields)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (FINISHED | {"applied": ["a1"], "upgrade_seconds": 1.0}, "done  at a1, 1 applied, in 1.00 s"),
        (FINISHED | {"applied": ["b2", "a1"], "downgrade_seconds": 1.0}, "done  at a1, 2 reverted, in 1.00 s"),
        (FAILED | {"upgrade_seconds": 1.0}, "the database is at a1; 0 applied in this run"),
        (FAILED | {"downgrade_seconds": 1.0}, "the database is at a1; 0 reverted in this run"),
    ],
)
def test_the_end_of_a_run(fields: dict[str, object], says: str) -> None:
    """What was done is named for what it was."""
    assert says in console("run_finished", **fields)


def test_the_end_of_a_run_that_only_reads() -> None:
    """Nothing is said of what was applied where nothing was to be."""
    assert "applied" not in console("run_finished", **FAILED)


def test_several_texts_stand_below_their_label() -> None:
    """A list is set in further than the lines around it."""
    shown = console("run_finished", **FAILED, blockers=["pid 1", "pid 2"], statement="select 1")
    assert "\n          statement: select 1\n          blocked by:\n            pid 1\n            pid 2\n" in shown


def test_several_problems_are_shown_once() -> None:
    """Each problem has a line; the first line says how many there are."""
    shown = console("run_finished", **FAILED | {"error": "one; two", "problems": ["one", "two"]})
    assert "  2 problems\n          - one\n          - two\n" in shown
    assert "one; two" not in shown


def test_a_traceback_is_shown_below_its_sentence() -> None:
    """A bug is a sentence too, and has its traceback."""
    try:
        raise ValueError("odd")
    except ValueError as error:
        shown = console("bug", error="ValueError", exc_info=error)
    assert "a bug in headstart: ValueError\n          Traceback" in shown
    assert shown.endswith("\n          ValueError: odd\n")


def test_the_terminal_obeys_nothing() -> None:
    """Escapes and control characters are shown, lines stay lines."""
    shown = console("pg_dump_said", line="a\x1b[31m\r\u2028b\nc")
    assert shown.endswith("pg_dump: a\\x1b[31m\\r\\u2028b\n          c\n")


FORGED = "x\n12:00:00  done  at a9, in 0.1 s"


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("invalid_indexes_found", {"indexes": [FORGED], "hint": f"reindex index concurrently {FORGED}"}),
        ("nothing_pending", {"revision": FORGED}),
        ("tenant_finished", FAILED | {"tenant": FORGED, "detail": FORGED}),
        ("run_finished", FAILED | {"error": FORGED, "hint": FORGED, "blockers": [FORGED], "statement": FORGED}),
        ("run_finished", FAILED | {"error": "two", "problems": [FORGED, "b"], "detail": f"a\n{FORGED}"}),
        ("run_finished", FINISHED | {"revision_after": FORGED}),
    ],
)
def test_a_name_begins_no_line(event: str, fields: dict[str, object]) -> None:
    """Whoever chooses a name writes no line of the log: what follows a line break is set in, or shown as its escape."""
    first, *others = console(event, **fields).splitlines()
    assert not first.startswith("12:00:00  done")
    assert all(line.startswith(" " * 10) for line in others)


def test_a_name_keeps_no_line_break() -> None:
    """In a list of names and in a hint there is none."""
    shown = console("invalid_indexes_found", indexes=[FORGED], hint=f"drop index {FORGED}")
    assert shown.count("\n") == 2
    assert shown.count("\\n12:00:00  done") == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ä b", "ä b"), ("a\nb\x1b[2J", "a\\nb\\x1b[2J"), ("\udcff", "\\udcff"), ("a\u202eb", "a\\u202eb")],
)
def test_one_line(text: str, shown: str) -> None:
    """What is no visible character is an escape."""
    assert one_line(text) == shown


def test_json_of_what_is_no_text() -> None:
    """Bytes that are not UTF-8 are escapes, in values and in keys."""
    assert as_json({"\udcff": [Path("a\udcfe")]}) == b'{"\\\\udcff":["a\\\\udcfe"]}'


@pytest.mark.parametrize(("count", "says"), [(0, "0 revisions"), (1, "1 revision"), (2, "2 revisions")])
def test_counted(count: int, says: str) -> None:
    """A noun agrees with its number."""
    assert counted(count, "revision") == says
