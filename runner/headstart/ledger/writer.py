"""What writes the ledger: one statement for each revision, run in that revision's transaction.

It is run on a connection of env.py's: under any search path, by any driver, as any role. See `ledger.table`.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from headstart import __version__
from headstart.ledger import LARGEST_SOURCE, VersionTable, fetch
from headstart.ledger.table import creating
from headstart.postgres import literal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.graph import Revision
    from headstart.script_connection import ScriptConnection

_INSERT = """insert into headstart.ledger
    (history, run_id, host, headstart, image, backup, action, revision, follows, seconds, sha256, source)
values {rows};"""
THERE: Final = """
select pg_catalog.count(*)::pg_catalog.text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where n.nspname operator(pg_catalog.=) 'headstart' and c.relname operator(pg_catalog.=) 'ledger'
"""
"""Whether there is a ledger: 0 or 1, as a text."""
_COUNT = "select pg_catalog.count(*) as rows from headstart.ledger where run_id operator(pg_catalog.=) $1"
# Role and session are the user's by then. Whatever keeps the row out must not keep the revision from being applied.
_GUARDED = """do ${tag}$
begin
{create}
{insert}
exception when others then
    raise warning using message = pg_catalog.concat('headstart.ledger: ', sqlerrm);
end
${tag}$"""


class Writer:
    """Makes the statement that records a revision, to be run in that revision's transaction.

    Args:
        history: `key` of the project.
        run_id: of this run.
        image: what this image calls itself.
        backup: the folder of the backup that was taken before.
        version_table: OID of the version table, if there is one: a ledger that is made belongs to its owner.

    Attributes:
        there: the table is known to exist. Until then each statement makes it where there is none.
    """

    def __init__(
        self, history: str, *, run_id: str, image: str | None, backup: str | None, version_table: int | None = None
    ) -> None:
        common = (history, run_id, socket.gethostname(), __version__, image, backup)
        self._common = ", ".join(map(_text, common))
        self._tag = f"headstart_{run_id}"  # of the block: no value holds it
        self._create = creating(version_table)
        self.there = False

    def record(
        self,
        action: str,
        revision: str | None,
        *,
        follows: Iterable[str] = (),
        source: bytes | None = None,
        seconds: float | None = None,
    ) -> str:
        """The statement for one revision. It makes the table if there is none.

        Args:
            action: applied, reverted, stamped or adopted.
            revision: its id; None for a database stamped as holding none.
            follows: what had to be applied before it.
            source: of its file, as `source_of` gives it.
            seconds: that it took.
        """
        return self._guarded(self._row(action, revision, follows, source, seconds))

    def record_all(self, action: str, revisions: Iterable[Revision]) -> str:
        """The statement for revisions that are all recorded at once: all of them or, with a warning, none.

        Args:
            action: stamped or adopted.
            revisions: at least one.
        """
        rows = (self._row(action, each.id, each.down, source_of(each.path), None) for each in revisions)
        return self._guarded(",\n".join(rows))

    def _guarded(self, rows: str) -> str:
        create = "" if self.there else self._create
        return _GUARDED.format(tag=self._tag, create=create, insert=_INSERT.format(rows=rows))

    def _row(
        self, action: str, revision: str | None, follows: Iterable[str], source: bytes | None, seconds: float | None
    ) -> str:
        sha256 = compressed = "null"
        if source is not None:
            sha256 = f"'{hashlib.sha256(source).hexdigest()}'"
            if len(source) <= LARGEST_SOURCE:
                compressed = f"pg_catalog.decode('{_compressed(source).hex()}', 'hex')"
        values = (
            self._common,
            f"'{action}'",
            _text(revision),
            f"array[{', '.join(map(_text, follows))}]::pg_catalog.text[]",
            "null" if seconds is None else f"{seconds:f}",
            sha256,
            compressed,
        )
        return f"({', '.join(values)})"


def source_of(path: str) -> bytes | None:
    """What is recorded of a revision's file; None where it cannot be read, or holds no source."""
    if path.endswith(".py"):
        with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123  (a Path costs as much as the reading)
            return file.read()
    return None


def _compressed(data: bytes) -> bytes:
    """By zlib, with a window that fits: making the usual one of 32 KiB takes longer than filling it."""
    compressor = zlib.compressobj(wbits=min(max(len(data).bit_length(), 9), zlib.MAX_WBITS), memLevel=4)
    return compressor.compress(data) + compressor.flush()


def _text(value: str | None) -> str:
    """An SQL expression for a text, in ASCII alone: no driver or encoding of the session gets to interpret it."""
    if value is None:
        return "null"
    return (
        literal(value)
        if value.isascii() and "%" not in value
        else f"pg_catalog.convert_from(pg_catalog.decode('{value.encode().hex()}', 'hex'), 'UTF8')"
    )


async def complete(
    connection: ScriptConnection,
    run_id: str,
    *,
    expected: int,
    log: FilteringBoundLogger,
    version_table: VersionTable = None,
) -> None:
    """See that every row has arrived; says so where one has not.

    Args:
        connection: to the database.
        run_id: whose rows they are.
        expected: how many there should be.
        log: told how many are missing.
        version_table: of the project.
    """
    found = await fetch(connection, _COUNT, run_id, version_table=version_table)
    there = found[0]["rows"] if found else 0
    if there < expected:
        log.warning(
            "ledger_incomplete",
            cause="a revision's own role or session could not write to headstart.ledger",
            hint="`headstart stamp` the recorded revision adds the rows that are missing",
            expected=expected,
            found=there,
        )
