"""Every event that the code can log is in one table, with all its fields."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import headstart
from headstart.log.events import EVENTS, Event, named

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(headstart.__file__).parent
LOGS = {"info", "warning", "error", "_log", "report", "progress", "Logged"}
AROUND = ("timestamp", "level", "event", "run_id", "tenant")  # fields that any event may have
NO_FIELDS = {*AROUND, "exc_info", "log", "watch", "interval", "fields"}  # arguments of the calls themselves


def logged() -> Iterator[tuple[str, set[str]]]:
    """The events that the package logs, each with the names of the fields that the call spells out."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                fields = {each.arg for each in call.keywords if each.arg} - NO_FIELDS
                yield from ((name, fields) for name in names(call))


def names(call: ast.Call) -> Iterator[str]:
    """The names that a call of a logger has, whatever chooses between several."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [word.value for word in call.keywords if word.arg == "event"] if function == "Logged" else call.args[:2]
    chosen = [(each.body, each.orelse) if isinstance(each, ast.IfExp) else (each,) for each in given]
    for node in (node for each in chosen for node in each) if function in LOGS else ():
        if isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)*", str(node.value)):
            yield str(node.value)


def test_every_event_is_in_the_table() -> None:
    """No event of the package's is shown to a person as a name with fields; nothing in the table is dead."""
    found = {name for name, _ in logged()} - {"info", "warning", "error"}
    assert {"backup_taken", "bug", "ledger_refused", "schemas_compared", "restore_progress"} <= found
    assert sorted(found ^ EVENTS.keys()) == [
        "env_running",
        "revision_applied",
        "revision_reverted",
        "revision_running",
        "tenant_finished",
    ]


def test_every_field_is_in_the_table() -> None:
    """Whoever reads the table knows each field that a line may have."""
    unknown = [(name, fields - {*EVENTS[name].fields}) for name, fields in logged() if name in EVENTS]
    assert [(name, fields) for name, fields in unknown if fields] == []


@pytest.mark.parametrize(
    ("sentence", "fields", "shown"),
    [
        ("at {revision:names}", {"revision": ["a1", "b2", "c3", "d4", "e5"]}, "at a1 ... e5"),
        ("at {revision:names}{hint:->}", {"revision": "a1", "hint": ""}, "at a1"),
        ("{size:MiB} in {files:n file}", {"size": 3 << 19, "files": 1}, "1.5 MiB in 1 file"),
        ("{size:MiB}{read:or MiB}", {"read": 1 << 20}, "1.0 MiB"),
        ("{files:n file}", {"files": ["a", "b"]}, "2 files"),
        ("left:{each:lines -}", {"each": ["a", "b"]}, "left:\n          - a\n          - b"),
        ("{x:list}; {x:words}", {"x": ["a", "b"]}, "a, b; a b"),
        ("of{a:+ is}{b:+ , b}", {"b": 2}, "of, b 2"),
        ("{seconds:.1f} s", {}, " s"),
    ],
)
def test_a_sentence(sentence: str, fields: dict[str, object], shown: str) -> None:
    """How the fields of an event are shown; what it does not have is left out."""
    assert Event("", sentence)(fields) == shown


def test_a_plain_sentence() -> None:
    """The table in the docs shows each field's name where its value will stand."""
    event = Event("", "{tables:n table}, {size:MiB} at {at:names}{of:+ of}:{each:lines -}{hint:->}", "more")
    assert event.plain == "<tables> tables, <size> in MiB at <at>[ of <of>]: - <each> -> <hint>"
    assert event.fields == ("tables", "size", "at", "of", "each", "hint", "more")


def test_named() -> None:
    """Revisions in a sentence."""
    assert (named("a1"), named(["a1", "b2"])) == ("a1", "a1, b2")
