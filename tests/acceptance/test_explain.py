"""`headstart explain`: whatever Headstart has printed, without any settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headstart.errors.exits import Exit
from headstart.log.events import EVENTS
from headstart.sql.rules import RULES

if TYPE_CHECKING:
    from conftest import RunHeadstart


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("62", ["table_locks_not_obtained", "rolled back", "docs/stories.md#62-table-locks-not-obtained"]),
        ("broken_history", ["exit code 70"]),
        ("lock_waiting", ["<holder>", "holder_pid left_seconds"]),
        (next(iter(RULES)), ["headstart check", "Bad", "Good:"]),
        ("HEADSTART_LEDGER", ["auto by default"]),
        ("DATABASE_URL_FILE", ["DATABASE_URL: a setting", "DATABASE_URL_FILE may name a file"]),
        ("database_ahead", ["exit code 71", "an event of the log", "The line's own `hint` says what to do."]),
        ("restore_progress", ["<stage>: <restored_bytes> in MiB or <read_bytes> in MiB after"]),
        ("--help", ["usage: headstart explain"]),
    ],
)
def test_explain(word: str, says: list[str], run_headstart: RunHeadstart) -> None:
    """Each kind of name is explained, even where the settings are what is wrong."""
    run = run_headstart("explain", word, env={"HEADSTART_LOCK_TIMEOUT": "soon"})
    assert (run.code, run.stderr) == (0, "")
    assert [each for each in says if each not in run.stdout] == []


@pytest.mark.parametrize(
    ("words", "says"), [(["lock_waitin"], "did you mean lock_waiting?"), ([], "one word"), (["1", "2"], "one word")]
)
def test_explain_what_is_not_known(words: list[str], says: str, run_headstart: RunHeadstart) -> None:
    """A word that nothing has is a usage error, with the nearest."""
    run = run_headstart("explain", *words)
    assert (run.code, says in run.last["error"]) == (2, True), run


def test_no_name_has_two_meanings() -> None:
    """One word, one explanation, but for two that are an exit code and an event: both of these are explained."""
    assert (EVENTS.keys() | RULES.keys()) & {code.outcome for code in Exit} == {"bug", "database_ahead"}
    assert not EVENTS.keys() & RULES.keys()
