"""What writes the ledger: one statement for each revision, run in that revision's transaction."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import asyncpg

from headstart import __version__
from headstart.ledger import fetch
from headstart.postgres import literal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from headstart.graph import Revision
    from headstart.script_connection import ScriptConnection

_CREATE = """
create schema if not exists headstart;
create table headstart.ledger (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    history text not null,
    action text not null check (action in ('applied', 'reverted', 'stamped', 'adopted')),
    revision text,
    follows text[] not null,
    seconds double precision,
    sha256 text,
    source bytea,
    run_id text not null,
    role text not null default session_user,
    host text not null,
    headstart text not null,
    image text,
    backup text
);
comment on schema headstart is 'What Headstart has done to this database. No migration needs it.';
comment on column headstart.ledger.history is 'The version table of the Alembic project, with its schema if it has one';
comment on column headstart.ledger.revision is 'Null where the database was stamped as holding none';
comment on column headstart.ledger.source is 'The revision file as it was applied, compressed with zlib';
"""
_CREATE_FIRST = f"if pg_catalog.to_regclass('headstart.ledger') is null then {_CREATE} end if;"
_NOTE = "/* COMMIT, and before it a row in headstart.ledger */\n"
_INSERT = """insert into headstart.ledger
    (history, run_id, host, headstart, image, backup, action, revision, follows, seconds, sha256, source)
values {rows}"""
# A block of its own, because a revision may have taken a role that may not write here: that must not matter.
_GUARDED = """do ${tag}$
begin
    {create}
    {insert};
exception when others then
    raise warning using message = 'headstart.ledger: ' || sqlerrm;
end
${tag}$
"""
_WRITABLE = """
select case when pg_catalog.to_regclass('headstart.ledger') is not null
    then pg_catalog.has_table_privilege('headstart.ledger', 'insert')
    when pg_catalog.to_regnamespace('headstart') is not null
    then pg_catalog.has_schema_privilege('headstart', 'create')
    else pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') end
"""


class Writer:
    """Makes the statement that records a revision, to be run in that revision's transaction.

    Args:
        history: `key` of the project.
        run_id: of this run.
        image: what this image calls itself.
        backup: the folder of the backup that was taken before.
    """

    def __init__(self, history: str, *, run_id: str, image: str | None, backup: str | None) -> None:
        common = (history, run_id, socket.gethostname(), __version__, image, backup)
        self._common = ", ".join(map(_text, common))
        self._tag = f"headstart_{run_id}"  # of the block: no value holds it

    def record(
        self,
        action: str,
        revision: str | None,
        *,
        follows: Iterable[str] = (),
        path: str | None = None,
        seconds: float | None = None,
        first: bool = True,
        guarded: bool = True,
    ) -> str:
        """The statement for one revision.

        Args:
            action: applied, reverted, stamped or adopted.
            revision: its id; None for a database stamped as holding none.
            follows: what had to be applied before it.
            path: its file; what cannot be read is not recorded.
            seconds: that it took.
            first: it may be the first of all, and makes the table where there is none.
            guarded: the row may be refused without harm to the transaction, which costs as much again as the row.
        """
        row = self._row(action, revision, follows, path, seconds)
        insert = _INSERT.format(rows=row)
        return _NOTE + (self._guarded(insert, first=first) if first or guarded else insert)

    def record_all(self, action: str, revisions: Iterable[Revision]) -> str:
        """The statement for revisions that are all recorded at once: all of them or, with a warning, none.

        Args:
            action: stamped or adopted.
            revisions: at least one.
        """
        rows = (self._row(action, each.id, each.down, each.path, None) for each in revisions)
        return self._guarded(_INSERT.format(rows=",\n".join(rows)), first=True)

    def _guarded(self, insert: str, *, first: bool) -> str:
        return _GUARDED.format(tag=self._tag, create=_CREATE_FIRST if first else "", insert=insert)

    def _row(
        self, action: str, revision: str | None, follows: Iterable[str], path: str | None, seconds: float | None
    ) -> str:
        sha256 = source = "null"
        if path is not None and path.endswith(".py"):
            with contextlib.suppress(OSError):
                with open(path, "rb") as file:  # noqa: PTH123  (a Path costs as much as the reading)
                    data = file.read()
                sha256 = f"'{hashlib.sha256(data).hexdigest()}'"
                source = f"pg_catalog.decode('{_compressed(data).hex()}', 'hex')"
        values = (
            self._common,
            f"'{action}'",
            _text(revision),
            f"array[{', '.join(map(_text, follows))}]::text[]",
            "null" if seconds is None else f"{seconds:f}",
            sha256,
            source,
        )
        return f"({', '.join(values)})"


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
        if value.isascii()
        else f"pg_catalog.convert_from(pg_catalog.decode('{value.encode().hex()}', 'hex'), 'UTF8')"
    )


async def writable(connection: ScriptConnection, *, log: FilteringBoundLogger) -> bool:
    """Whether the role may write it, or make it; says so where it may not."""
    try:
        if await connection.fetchval(_WRITABLE):
            return True
        cause = "the role may neither write to headstart.ledger nor create it"
    except asyncpg.InsufficientPrivilegeError as error:
        cause = str(error)
    log.warning(
        "ledger_not_written",
        cause=cause,
        hint="let a role with that privilege run once, or grant create on the database; all else works without",
    )
    return False


async def create(connection: ScriptConnection) -> None:
    """Make the table now, if there is none: who may write it one beside the other cannot all make it with a row."""
    with contextlib.suppress(asyncpg.PostgresError):  # another was quicker, or each row will say what it is
        await connection.execute(f"do $$ begin {_CREATE_FIRST} end $$")


async def complete(connection: ScriptConnection, run_id: str, *, expected: int, log: FilteringBoundLogger) -> None:
    """See that every row has arrived; says so where one has not."""
    found = await fetch(connection, "select count(*) as rows from headstart.ledger where run_id = $1", run_id)
    there = found[0]["rows"] if found else 0
    if there < expected:
        log.warning(
            "ledger_incomplete",
            cause="a revision's own role or session could not write to headstart.ledger",
            hint="`headstart stamp` the recorded revision adds the rows that are missing",
            expected=expected,
            found=there,
        )
