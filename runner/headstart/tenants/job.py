"""What a process that works on one tenant is told, and what it answers: lines of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from headstart.run import Outcome
from headstart.secret import Secret
from headstart.settings import Settings


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's.

    Args:
        action: bring it to the target, or look where it stands.
        tenant: its name.
        schema: its schema, if it is one.
        settings: of the run, with the tenant's own connection.
        run_id: of its own.
        cwd: the working directory.
        path: `sys.path`.
        options: what env.py is handed, as `Run` has it.
        backup: the backup that was taken before.
    """

    action: Literal["up", "status"]
    tenant: str
    schema: str | None
    settings: Settings
    run_id: str
    cwd: str
    path: list[str]
    options: dict[str, Any]
    backup: str | None = None

    def encode(self) -> bytes:
        """As one line, secrets in the clear: for a socket between the two processes, and nothing else."""
        return msgspec.json.encode(self, enc_hook=_plain) + b"\n"

    @staticmethod
    def decode(line: bytes) -> Job:
        """What `encode` has written."""
        return msgspec.json.decode(line, type=Job, dec_hook=_typed)


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a job besides its log: how it went; how its process ended, as `waitstatus_to_exitcode` has it."""

    outcome: Outcome | None = None
    ended: int | None = None

    def encode(self) -> bytes:
        """As one line."""
        return msgspec.json.encode({"answer": self}, enc_hook=str) + b"\n"


def decode(line: bytes) -> Answer | dict[str, Any]:
    """An answer, or a line of the log."""
    told: dict[str, Any] = msgspec.json.decode(line)
    return msgspec.convert(told["answer"], Answer) if "answer" in told else told


def _plain(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _typed(kind: type, value: Any) -> Any:  # noqa: ANN401  (msgspec's own)
    return kind(value) if kind in {Secret, Path} or issubclass(kind, Path) else value
