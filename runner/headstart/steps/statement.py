"""The statements that a revision has executed, one by one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

import msgspec

from headstart.sql.script import ScriptError, is_single, split

if TYPE_CHECKING:
    from headstart.worker.messages import Executed


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that a revision has executed.

    Args:
        revision: its id.
        text: the statement, without a `;`; scripts are taken apart.
        path: the revision's file.
        line: of the call in that file, counted from 1; None where it is not to be seen.
        in_transaction: whether a transaction was open.
        direction: of the revision.
    """

    revision: str
    text: str
    path: str
    line: int | None
    in_transaction: bool
    direction: Literal["upgrade", "downgrade"]


def statements_of(executed: Executed) -> list[Statement]:
    """What the worker has reported; a script is taken apart where that is possible."""
    texts = [executed.text]
    if not is_single(executed.text):
        with contextlib.suppress(ScriptError):
            texts = [each.text for each in split(executed.text)]
    return [
        Statement(
            revision=executed.revision,
            text=text,
            path=executed.path,
            line=executed.line,
            in_transaction=executed.in_transaction,
            direction="upgrade" if executed.up else "downgrade",
        )
        for text in texts
    ]
