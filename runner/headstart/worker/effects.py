"""What a statement may do to the database and to the transaction that it is in, judged by its first words.

It need not be exact where the server is asked afterwards: see `statements`.
"""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple

from headstart.sql.script import ScriptError, split

_COMMENTS = re.compile(r"\A\s*(?:--[^\n]*(?:\n\s*|$)|/\*(?:[^*]|\*(?!/))*\*/\s*)*")
_COMMITS = re.compile(r"(commit|end|prepare\s+transaction)\b", re.IGNORECASE)
_ENDS = re.compile(r"(?:(?:commit|rollback)(?!\s+prepared)|end|abort|prepare\s+transaction)\b", re.IGNORECASE)
_MAY_COMMIT = re.compile(r"\b(commit|end|rollback|abort)\b", re.IGNORECASE)  # somewhere in a script
_ROLLS_BACK = re.compile(r"(rollback|abort)\b", re.IGNORECASE)
# No question may come before these: SET TRANSACTION has to be first, and LOCK before the transaction's first snapshot.
_BEFORE_SNAPSHOT = re.compile(r"(set|show|reset|lock|savepoint|begin|start)\b", re.IGNORECASE)
_CONTROLLING = re.compile(r"\b(begin|start|commit|end|rollback|abort|prepare)\b", re.IGNORECASE)
_IN_STEPS = re.compile(r"(call|do)\b", re.IGNORECASE)  # a procedure may commit before it fails
_CONTROLS = re.compile(
    r"(show|set|reset|lock|savepoint|release|begin|start|commit(?!\s+prepared)|end|rollback|abort|vacuum|analyze|checkpoint|discard"
    r"|create\s+(?:local\s+|global\s+)?temp(?:orary)?\b(?!.*\bas\b))\b[^;]*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_READS = re.compile(
    r"(select|explain|values|table|with|create\s+(?:local\s+|global\s+)?temp(?:orary)?)\b", re.IGNORECASE
)
_CHANGES_ROWS = re.compile(r"\b(into|insert|update|delete|merge)\b", re.IGNORECASE)
_MAY_WRITE = re.compile(r"\(|\binto\b|\banalyze\b", re.IGNORECASE)
_NAME = r"""("(?:[^"]|"")*"|[^\s;"]+)"""
_SAVEPOINT = re.compile(rf"savepoint\s+{_NAME}", re.IGNORECASE)
_RELEASES = re.compile(rf"release\s+(?:savepoint\s+)?{_NAME}", re.IGNORECASE)
_ROLLS_BACK_TO = re.compile(rf"rollback\s+(?:(?:work|transaction)\s+)?to\s+(?:savepoint\s+)?{_NAME}", re.IGNORECASE)

_BEGINS, _UNDOES = frozenset({"BEGIN", "START"}), frozenset({"ROLLBACK", "ABORT"})

LISTED = 20
"""How many statements of one transaction are remembered: it may have thousands."""


def without_comments(statement: str) -> str:
    """A statement from its first word on. All that is asked here is asked of that."""
    before = _COMMENTS.match(statement)
    return statement if before is None else statement[before.end() :]


def commits(statement: str) -> bool:
    """Whether it is COMMIT, or the first half of a two-phase one."""
    return _COMMITS.match(statement) is not None


def ends(statement: str) -> bool:
    """Whether it ends the transaction that it is in, and says so."""
    return _ENDS.match(statement) is not None and _ROLLS_BACK_TO.match(statement) is None


def may_commit(statement: str) -> bool:
    """Whether it may hold COMMIT, among others."""
    return ";" in statement and _MAY_COMMIT.search(statement) is not None and _ROLLS_BACK.match(statement) is None


def needs_no_snapshot(statement: str) -> bool:
    """Whether it may have to come before anything that takes a snapshot."""
    return _BEFORE_SNAPSHOT.match(statement) is not None


def fails_as_one(statement: str) -> bool:
    """Whether nothing of it stays when it fails."""
    text = statement.strip().rstrip(";")
    in_steps = _IN_STEPS.match(text)
    if in_steps is None:
        return ";" not in text
    return in_steps[1].lower() == "do" and not {"commit", "call"} & {*re.findall(r"\w+", text.lower())}


def may_write(statement: str) -> bool:
    """Whether it may leave something in the database: a read may call a function that does."""
    return _CONTROLS.fullmatch(statement) is None and (
        _READS.match(statement) is None or _MAY_WRITE.search(statement) is not None
    )


def writes(statement: str) -> bool:
    """Whether it does so for certain, where there is something to write."""
    return _READS.match(statement) is None or _CHANGES_ROWS.search(statement) is not None


def defines(statement: str) -> bool:
    """Whether it leaves something wherever it succeeds: it changes more than rows, of which there may be none."""
    return writes(statement) and _CHANGES_ROWS.search(statement) is None


def is_script(statement: str) -> bool:
    """Whether it is several statements, or a routine's body."""
    return ";" in statement.strip().rstrip(";")


def controls(statement: str) -> bool:
    """Whether it is several statements, of which one begins or ends a transaction."""
    if not is_script(statement) or _CONTROLLING.search(statement) is None:
        return False
    with contextlib.suppress(ScriptError):
        return any(each.kind == "transaction_control" for each in split(statement))
    return True


def leaves(script: str) -> bool:
    """Whether several statements may have committed something, at their end."""
    inside = True
    try:
        for each in split(script):
            if each.kind == "transaction_control":
                if each.keyword not in _BEGINS | _UNDOES:
                    return True
                inside = each.keyword in _BEGINS
            elif not inside and may_write(each.text):
                return True
    except ScriptError:
        return True
    return False


def _several(statement: str) -> list[str] | None:
    """The statements of a script; None for one."""
    with contextlib.suppress(ScriptError):
        if is_script(statement) and len(found := split(statement)) > 1:
            return [each.text for each in found]
    return None


def _bare(name: str) -> str:
    """A name as the server knows it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


class _Savepoint(NamedTuple):
    name: str
    executed: int


class Executed:
    """What was executed in one transaction, and may have written. What a savepoint takes back is not in it."""

    def __init__(self) -> None:
        self._savepoints: list[_Savepoint] = []
        self._noted: list[tuple[str, bool]] = []  # what is shown, and whether it has written for certain

    @property
    def statements(self) -> tuple[str, ...]:
        """Those that have written for certain; where none has, all that may have."""
        certain = tuple(shown for shown, certain in self._noted if certain)
        return certain or tuple(shown for shown, _ in self._noted)

    def add(self, statement: str, shown: str) -> None:
        """Note one.

        Args:
            statement: from its first word on.
            shown: what is kept of it.
        """
        if (several := _several(statement)) is not None:
            for each in several:
                self.add(each, each[: len(shown)])
        elif (made := _SAVEPOINT.match(statement)) is not None:
            self._savepoints.append(_Savepoint(_bare(made[1]), len(self._noted)))
        elif (released := _RELEASES.match(statement)) is not None:
            del self._savepoints[self._last(released[1]) :]
        elif (taken := _ROLLS_BACK_TO.match(statement)) is not None:
            at = self._last(taken[1])
            if at < len(self._savepoints):
                del self._noted[self._savepoints[at].executed :]
            del self._savepoints[at + 1 :]
        elif may_write(statement):
            self._note(shown, certain=writes(statement))

    def _note(self, shown: str, *, certain: bool) -> None:
        alike = sum(each is certain for _, each in self._noted)
        if alike <= LISTED:
            self._noted.append((shown if alike < LISTED else "others after these", certain))

    def _last(self, name: str) -> int:
        found = [at for at, each in enumerate(self._savepoints) if each.name == _bare(name)]
        return found[-1] if found else len(self._savepoints)
