"""What writes the ledger: a row for each revision, in that revision's transaction.

It is written on a connection of env.py's: under any search path, by any driver, as any role. See `ledger.table`.
"""

from __future__ import annotations

import hashlib
import socket
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from headstart.ledger.table import creating
from headstart.ledger.trust import LARGEST_SOURCE, LedgerLockedError, VersionTable, fetch
from headstart.postgres.server import literal
from headstart.settings.files import read_bytes
from headstart.settings.version import __version__

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.history.graph import Revision
    from headstart.postgres.connection import ScriptConnection

# The id is given here, since the column's own sequence would change what a revision gets from lastval(). It grows with
# the server's clock, and two sessions differ in their pids.
_ID = (
    "(extract(epoch from pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000000)::pg_catalog.int8"
    " operator(pg_catalog.*) 1000"
    " operator(pg_catalog.+) pg_catalog.mod(pg_catalog.pg_backend_pid(), 1000)"
)
_INSERT = """insert into headstart.ledger
    (id, history, run_id, host, headstart, image, backup, action, revision, follows, seconds, sha256, source)
overriding system value values """
SAVEPOINT: Final = "headstart_ledger"
"""In which the statements are run: if a row cannot be written, the revision must be applied all the same."""
_COUNT = "select pg_catalog.count(*) as rows from headstart.ledger where run_id operator(pg_catalog.=) $1"


class Writer:
    """Makes what records a revision, to be run in that revision's transaction, in a savepoint.

    Args:
        history: `key` of the project.
        run_id: of this run.
        image: what this image calls itself.
        backup: the folder of the backup that was taken before.
        version_table: OID of the version table, if there is one: a ledger that is made belongs to its owner.

    Attributes:
        there: a row has been written. Until then each statement makes the table where there is none.
    """

    def __init__(
        self, history: str, *, run_id: str, image: str | None, backup: str | None, version_table: int | None = None
    ) -> None:
        common = (history, run_id, socket.gethostname(), __version__, image, backup)
        self._common = ", ".join(map(_text, common))
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
    ) -> tuple[str, ...]:
        """The statements for one revision, to be run in this order.

        Args:
            action: applied, reverted, stamped or adopted.
            revision: its id; None for a database stamped as holding none.
            follows: what had to be applied before it.
            source: of its file, as `source_of` gives it.
            seconds: that it took.
        """
        insert = _INSERT + self._row(action, revision, follows, source, seconds)
        return (insert,) if self.there else (self._create, insert)

    def record_all(self, action: str, revisions: Iterable[Revision]) -> tuple[str, ...]:
        """The statements for revisions that are all recorded at once.

        Args:
            action: stamped or adopted.
            revisions: at least one.
        """
        inserts = (_INSERT + self._row(action, each.id, each.down, source_of(each.path), None) for each in revisions)
        return (self._create, *inserts)

    def _row(
        self,
        action: str,
        revision: str | None,
        follows: Iterable[str],
        source: bytes | None,
        seconds: float | None,
    ) -> str:
        sha256 = compressed = "null"
        if source is not None:
            sha256 = f"'{hashlib.sha256(source).hexdigest()}'"
            if len(source) <= LARGEST_SOURCE:
                compressed = f"pg_catalog.decode('{_stored(source).hex()}', 'hex')"
        values = (
            _ID,
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
    if not path.endswith(".py"):
        return None
    try:
        return read_bytes(path)
    except OSError:
        return None


def _stored(source: bytes) -> bytes:
    """In the format of zlib, not compressed: the server does that with what is long."""
    form = zlib.compressobj(level=0, wbits=9, memLevel=1)  # the usual window takes longer to make than to fill
    return form.compress(source) + form.flush()


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
    """Check that every row has arrived, and log a warning if one has not.

    Args:
        connection: to the database.
        run_id: whose rows they are.
        expected: how many there should be.
        log: gets how many are missing.
        version_table: of the project.
    """
    try:
        found = await fetch(connection, _COUNT, run_id, version_table=version_table)
    except LedgerLockedError as error:
        log.warning("ledger_not_read", cause=str(error))
        return
    there = found[0]["rows"] if found else 0
    if there < expected:
        log.warning(
            "ledger_incomplete",
            cause="a revision's own role or session could not write to headstart.ledger",
            hint="`headstart stamp` the recorded revision adds the rows that are missing",
            expected=expected,
            found=there,
        )
