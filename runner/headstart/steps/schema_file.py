"""The schema file, as `schema dump` writes it and `schema_load` uses it.

Its first lines say what it is of: the revisions at head, and a digest of all the revision files that lead to them. A
file is used where they are those at hand, and its own text is as it was written; anything else is refused, with the
reason. A revision file that was only formatted or commented counts as the same (`ledger.fingerprint`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headstart import ledger
from headstart.errors import ConfigurationError
from headstart.history.graph import Revision
from headstart.history.plan import decide
from headstart.ledger.fingerprint import fingerprint
from headstart.settings.files import read_bytes
from headstart.steps.run import Run

if TYPE_CHECKING:
    from headstart.history import History

_TITLE: Final = "-- The schema at head, written by `headstart schema dump`. Not to be edited: write it anew."
_FORMAT: Final = "1"
_LINE = re.compile(r"-- ([a-z ]+): (.*)")


class SchemaFileError(ConfigurationError):
    """The schema file cannot be used. The message is the reason."""


class AtHand(NamedTuple):
    """What an empty database records once it is at the target, the files that lead there, and where it is recorded."""

    revisions: tuple[str, ...]
    files: list[Revision]
    version_table: str | None


class SchemaFile(msgspec.Struct, frozen=True, kw_only=True):
    """A schema file.

    Args:
        revisions: what the version table holds at head.
        version_table: the project's, as the ledger names it (`ledger.key`).
        history: digest of the revision files.
        meaning: digest of what they do, whatever they look like.
        body: the SQL, which psql runs too.
    """

    revisions: tuple[str, ...]
    version_table: str
    history: str
    meaning: str
    body: str

    @classmethod
    def of(cls, body: str, now: AtHand) -> SchemaFile:
        """The file for a schema and the revisions that make it, whose version table is known."""
        return cls(
            revisions=tuple(sorted(now.revisions)),
            version_table=now.version_table or "",
            history=_history(now.files),
            meaning=_meaning(now.files),
            body=body,
        )

    @property
    def place(self) -> tuple[str, str | None]:
        """The version table's name, and its schema where env.py gives one."""
        schema, _, table = self.version_table.rpartition(".")
        return table, schema or None

    def __str__(self) -> str:
        fields = {
            "format": _FORMAT,
            "revision": ", ".join(self.revisions),
            "version table": self.version_table,
            "history": self.history,
            "meaning": self.meaning,
            "body": _sha256(self.body),
        }
        return "\n".join([_TITLE, *(f"-- {name}: {value}" for name, value in fields.items()), "", self.body])

    @classmethod
    def read(cls, path: Path) -> SchemaFile:
        """Read a file.

        Raises:
            SchemaFileError: there is none, it is none of ours, or it is not as it was written (10).
        """
        hint = "write it with `headstart schema dump`"
        try:
            text = read_bytes(path).decode()
        except FileNotFoundError:
            raise SchemaFileError(f"there is no schema file {path}", hint=hint) from None
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "not UTF-8"
            raise SchemaFileError(f"the schema file {path} cannot be read: {cause}", hint=hint) from None
        head, _, body = text.partition("\n\n")
        fields = {match[1]: match[2] for match in map(_LINE.fullmatch, head.splitlines()) if match}
        try:
            found = cls(
                revisions=tuple(filter(None, fields["revision"].split(", "))),
                version_table=fields["version table"],
                history=fields["history"],
                meaning=fields["meaning"],
                body=body,
            )
            written = fields["body"]
        except KeyError:
            raise SchemaFileError(f"{path} is no schema file of Headstart's", hint=hint) from None
        if written != _sha256(body):
            cause = "is not as it was written: it was edited, merged, or got other line ends"
            raise SchemaFileError(f"the schema file {path} {cause}", hint=hint)
        return found

    def stale(self, now: AtHand) -> str | None:
        """Why it is not the schema of the revisions at hand; None if it is."""
        if now.version_table not in {None, self.version_table}:
            return f"it has the version table {self.version_table}, and env.py has {now.version_table}"
        head = tuple(sorted(now.revisions))
        if self.revisions != head:
            return f"it is of revision {', '.join(self.revisions) or 'base'}, and head is {', '.join(head) or 'base'}"
        if self.history != _history(now.files) and self.meaning != _meaning(now.files):
            return f"revisions up to {', '.join(head)} were edited, added or removed since it was written"
        return None

    def require_fresh(self, now: AtHand, path: Path) -> None:
        """Refuse a file that is not of the revisions at hand.

        Raises:
            SchemaFileError: with the reason (10).
        """
        reason = self.stale(now)
        if reason is not None:
            hint = "write it with `headstart schema dump`"
            raise SchemaFileError(f"the schema file {path} is stale: {reason}", hint=hint)


def _history(files: Iterable[Revision]) -> str:
    return _sha256("\n".join(sorted(f"{each.id} {each.sha256}" for each in files)))


def _meaning(files: Iterable[Revision]) -> str:
    return _sha256("\n".join(sorted(f"{each.id} {fingerprint(read_bytes(each.path))}" for each in files)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def at_hand(run: Run, history: History) -> AtHand:
    """What a schema file has to be of.

    Raises:
        BrokenHistoryError: the files are no history, or have several heads (70).
        ConfigurationError: only Alembic knows where the target is (10).
    """
    (project, graph), target = history, run.settings.target
    table = ledger.key(project.version_table, project.version_schema) if project.conclusive else None
    plan = decide((), graph, target) if graph is not None else None
    if graph is not None and plan is not None:
        return AtHand(plan.after, [graph.revisions[i] for i in plan.pending], table)
    if target not in {"head", "heads"}:
        raise ConfigurationError(f"a schema file is of head, not of {target!r}", hint="leave HEADSTART_TARGET out")
    from headstart.steps.describe import describe
    from headstart.worker.supervise import Worker

    async with Worker(cwd=run.cwd, environ=run.environ) as worker:
        described = await describe(run, worker, project)
    return AtHand(described.heads, described.below(described.heads), table)
