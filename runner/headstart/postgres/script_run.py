"""Runs a script on one connection, and records which statement of it failed.

Inside of a transaction its statements share it; outside of one, each is on its own, as with psql. A whole pg_dump file
is such a script: what it sets for the session (PostgreSQL manual, 'pg_dump', has the reasons) is put back after it.
"""

from __future__ import annotations

import contextlib
import re
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from headstart.sql.script import ScriptError, builds_concurrently, line_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headstart.sql.script import Statement

    Connection = asyncpg.Connection[asyncpg.Record]

# Up to here each statement is sent by itself.
ONE_BY_ONE = 200
# Beyond, they are sent together in portions, each under a savepoint: large enough for round trips not to matter.
_PORTION = 1_000
# Cancelled, out of time or resources, a lost race: to run it again would be another attempt, or undo a cancellation.
_OF_THE_MOMENT = ("08", "25", "40", "53", "55", "57", "58", "XX")
_COPY_PIECE = 262_144
_ENCODING = re.compile(r"\bstdin\b.*\bencoding\b", re.IGNORECASE | re.DOTALL)
_SAVEPOINT = "headstart_script"
_BETWEEN = "\n;\n"  # on a line of its own: the statement before may end in a comment

# What pg_dump sets for the session at the top of its output.
_DUMP_SETTINGS = (
    "search_path",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_min_messages",
    "check_function_bodies",
    "row_security",
    "default_tablespace",
    "default_table_access_method",
    "xmloption",
    "standard_conforming_strings",
)
_TRANSACTION_TIMEOUT_SINCE = 17
_SET_TRANSACTION_TIMEOUT = re.compile(r"SET\s+(?:(?:SESSION|LOCAL)\s+)?transaction_timeout\b", re.IGNORECASE)
_SET_CLIENT_ENCODING = re.compile(r"SET\s+(?:(?:SESSION|LOCAL)\s+)?client_encoding\b", re.IGNORECASE)
# Not to be sent together with others: the first is refused under a savepoint, the second changes how the rest is read.
_ALONE = re.compile(
    r"SET\s+(?:(?:SESSION|LOCAL)\s+)?(?:TRANSACTION\b|CHARACTERISTICS\b|standard_conforming_strings\b)", re.IGNORECASE
)


class ScriptFailure(NamedTuple):
    """Where a script failed: the statement at fault, and the character of it (from 1) that the server points to."""

    statement: str
    position: int | None = None


def failure_of(error: BaseException | None) -> ScriptFailure | None:
    """Where a script failed, if an error came from one."""
    return getattr(error, "script", None)


@contextlib.asynccontextmanager
async def _without_lock_timeout(connection: Connection, statement: str) -> AsyncIterator[None]:
    """No `lock_timeout` while a statement builds CONCURRENTLY: given up half-way, it leaves an INVALID index."""
    if connection.is_in_transaction() or not builds_concurrently(statement):
        yield
        return
    before = await connection.fetchval("select pg_catalog.current_setting('lock_timeout')")
    await connection.execute("set lock_timeout = 0")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(f"set lock_timeout = {_quoted(before)}")


async def run(connection: Connection, source: str, statements: list[Statement]) -> str:
    """Runs a script.

    Args:
        connection: where; inside of a transaction or not.
        source: the text.
        statements: what `split` made of it.

    Returns:
        the command tag of its last statement, "" if several were sent together last.

    Raises:
        ScriptError: it holds what cannot be run; nothing has been sent.
        asyncpg.PostgresError: as the server raised it; `failure_of` names the statement.
    """
    inside = connection.is_in_transaction()
    _refuse_impossible(source, statements, inside=inside)
    wanted = [one for one in statements if not _is_skipped(one, connection)]
    work = _Run(connection, statements)
    before = await _session(connection) if any(map(_touches_search_path, wanted)) else {}
    try:
        status = await (work.in_portions(wanted) if inside else work.one_by_one(wanted))
        if not inside and connection.is_in_transaction():
            raise ScriptError(
                "the script begins a transaction and does not end it", hint="end it with COMMIT, or leave BEGIN out"
            )
    except Exception:
        if not inside and not connection.is_closed():
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            await _restore(connection, before)
        raise
    await _restore(connection, before)
    return status


class _Run:
    def __init__(self, connection: Connection, statements: list[Statement]) -> None:
        self.connection = connection
        self.numbers = {one.start: number for number, one in enumerate(statements, 1)}

    async def in_portions(self, statements: list[Statement]) -> str:
        """Inside of a transaction: long stretches of plain statements in portions, everything else by itself."""
        status = ""
        for plain, group in groupby(statements, key=_may_share):
            stretch = list(group)
            if plain and len(stretch) > ONE_BY_ONE:
                for start in range(0, len(stretch), _PORTION):
                    await self.portion(stretch[start : start + _PORTION])
                status = ""
            else:
                status = await self.one_by_one(stretch)
        return status

    async def one_by_one(self, statements: list[Statement]) -> str:
        status = ""
        for one in statements:
            try:
                if one.kind == "copy_in":
                    status = await self.copy(one)
                else:
                    async with _without_lock_timeout(self.connection, one.text):
                        status = await self.connection.execute(one.text)
            except Exception as error:
                position = getattr(error, "position", None)
                failure = ScriptFailure(one.text, int(position) if position else None)
                error.script = failure  # type: ignore[attr-defined]  # travels with it, whoever wraps it
                raise
        return status

    async def portion(self, statements: list[Statement]) -> None:
        """Many at once. If they fail, again from the savepoint, to see which one it is."""
        await self.connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            await self.connection.execute(_BETWEEN.join(one.text for one in statements))
        except asyncpg.PostgresError as error:
            if self.connection.is_closed() or str(error.sqlstate).startswith(_OF_THE_MOMENT):
                raise
            await self.connection.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            await self.one_by_one(statements)
        await self.connection.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")

    async def copy(self, statement: Statement) -> str:
        """Sends a COPY as it is, and its rows in UTF-8."""
        assert statement.data is not None  # noqa: S101  (refused before)
        encoding = str(getattr(self.connection.get_settings(), "client_encoding", "UTF8"))
        if encoding.upper() not in {"UTF8", "UNICODE"}:
            raise ScriptError(
                f"COPY FROM stdin in a session whose client_encoding is {encoding}: the rows of a script are in UTF-8",
                hint="leave client_encoding as it is",
            )
        # What asyncpg's `copy_to_table` calls with the COPY that it makes of its arguments.
        rows = _in_pieces(statement.data)
        return str(await self.connection._copy_in(statement.text, rows, None))  # type: ignore[attr-defined]  # noqa: SLF001


def _refuse_impossible(source: str, statements: list[Statement], *, inside: bool) -> None:
    """Looks at everything before anything is sent."""
    for one in statements:
        if one.kind == "transaction_control" and inside and len(statements) > 1:
            cause, hint = (
                "would end or replace the transaction of the revision",
                "leave it out: each revision has its own",
            )
        elif one.kind == "copy_out":
            cause, hint = "TO stdout has nowhere to send its rows", "COPY to a file on the server, or leave it out"
        elif one.kind == "copy_in" and _ENCODING.search(one.text):
            cause = "FROM stdin names an encoding, but the rows of a script are sent in UTF-8"
            hint = "leave ENCODING out"
        elif one.kind == "copy_in" and one.data is None:
            cause = "FROM stdin comes without its data"
            hint = "its rows begin on the line after it, and end with a line that holds \\. alone"
        else:
            continue
        raise ScriptError(f"{one.keyword} in line {line_of(source, one.start)} of the script {cause}", hint=hint)


def _is_skipped(one: Statement, connection: Connection) -> bool:
    """Settings of pg_dump's that would do harm: unknown to this server, or about bytes where we have text."""
    if one.keyword != "SET":
        return False
    if _SET_TRANSACTION_TIMEOUT.match(one.text):
        return bool(connection.get_server_version().major < _TRANSACTION_TIMEOUT_SINCE)
    return _SET_CLIENT_ENCODING.match(one.text) is not None


def _may_share(one: Statement) -> bool:
    return one.kind == "plain" and not (one.keyword == "SET" and _ALONE.match(one.text))


async def _in_pieces(data: str) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _COPY_PIECE):
        yield data[start : start + _COPY_PIECE].encode()


def _touches_search_path(one: Statement) -> bool:
    return one.keyword in {"SET", "SELECT"} and "search_path" in one.text.lower()


async def _session(connection: Connection) -> dict[str, str]:
    names = ", ".join(map(_quoted, _DUMP_SETTINGS))
    rows = await connection.fetch(
        f"SELECT name, pg_catalog.current_setting(name, true) FROM pg_catalog.unnest(ARRAY[{names}]) AS name"  # noqa: S608
    )
    return {name: value for name, value in rows if value is not None}


async def _restore(connection: Connection, before: dict[str, str]) -> None:
    """Puts back what the script changed, if it left search_path empty as pg_dump's do."""
    if not before or (now := await _session(connection))["search_path"].strip('" '):
        return
    changed = [(name, value) for name, value in before.items() if now.get(name) != value]
    if changed:
        calls = ", ".join(f"pg_catalog.set_config({_quoted(name)}, {_quoted(value)}, false)" for name, value in changed)
        await connection.execute(f"SELECT {calls}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
