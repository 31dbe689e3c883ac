"""A connection of asyncpg that takes whole scripts where one statement is expected, and is lent rather than given.

asyncpg prepares whatever SQLAlchemy hands it, and the extended protocol takes one statement at a time (PostgreSQL
manual, 'Message Flow'). `connection_class` is asyncpg's public way in: this class looks at the text in `prepare`, and
answers for a script with an object that behaves as a prepared statement does. SQLAlchemy's BEGIN, its locks and its
mapping of errors stay as they are. Statements that give no rows back take the same way, because the simple protocol
needs one round trip where preparing needs two or three.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncpg

from headstart.errors import MigrationFailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from asyncpg.transaction import Transaction

    from headstart.script_ahead import Sent
    from headstart.script_run import ScriptFailure
    from headstart.script_statement import Silent, Watched
    from headstart.sqlscript import Statement

# They set or show lock_timeout themselves, begin a transaction in which it must hold again, or end one.
_LEFT_ALONE = ("SET", "RESET", "SHOW", "DISCARD", "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE")


_AHEAD = ("CREATE ", "ALTER ", "DROP ", "COMMENT")
_AT_EASE = contextlib.nullcontext()


def _nobody(_: str | None) -> None:
    """Nobody wants to know."""


class ScriptConnection(asyncpg.Connection):
    """What to give to `asyncpg.connect(connection_class=...)`.

    Attributes:
        work_lock_timeout: the `lock_timeout` that the session was given for its work, e.g. "5s". While a statement runs
            outside of a transaction it is 0, because a CREATE INDEX CONCURRENTLY that times out leaves an INVALID index
            behind. None: nothing is changed.
        last_error: where the last script or statement failed; None once another one begins.
        progress: (number of the statement now at work, how many there are) while a script runs; else None.
        ahead: send DDL in a transaction without waiting for its end: the server works while Python prepares what comes
            next. Whatever it fails of is raised by the next call, at the latest by COMMIT, and `last_error` names it.
        follows: a statement comes right after the next BEGIN, with nothing between: they go to the server together.
        own_role: nothing that went to the server since `watch_role` can have changed the session's role.
        parting: a statement that goes to the server together with the next COMMIT, and so costs no time of its own.
        at_work: told the text of each statement when it is sent, and None when it has ended.
        schemas: the search path that the role, the database or the URL gives, as `postgres.connect` has found it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.work_lock_timeout: str | None = None
        self.last_error: ScriptFailure | None = None
        self.progress: tuple[int, int] | None = None
        self.ahead = False
        self.follows = False
        self.own_role = False
        self._harmless: tuple[str, ...] = ()
        self.parting = ""
        self.at_work: Callable[[str | None], None] = _nobody
        self.schemas: tuple[str, ...] = ()
        self._opening = ""
        self._sent: Sent | None = None
        self._guarded = False
        self._lent = False
        self._kept = False
        self._outermost: Transaction | None = None

    # -- lending ------------------------------------------------------------------------------------------------------

    @property
    def lent(self) -> bool:
        """Whether somebody has it now. Once set to True, `close` and `terminate` no longer close it, ever."""
        return self._lent

    @lent.setter
    def lent(self, value: bool) -> None:
        self._lent = value
        self._kept = self._kept or value

    async def close(self, *, timeout: float | None = None) -> None:
        """Gives it back: what the borrower left open is rolled back. Closes it if it was never lent.

        Args:
            timeout: seconds for it.
        """
        if not self._kept:
            await super().close(timeout=timeout)
            return
        self._lent = False
        if not self.is_closed():
            async with asyncio.timeout(timeout):
                await self.tidy()

    def terminate(self) -> None:
        """Gives it back without a word to the server; `tidy` has to follow. Terminates it if it was never lent."""
        self._lent = False
        if not self._kept:
            super().terminate()

    async def tidy(self) -> None:
        """Rolls back a transaction that a borrower left open, so that the next one finds none."""
        self.parting = self._opening = ""
        sent, self._sent = self._sent, None
        if sent is not None:
            await sent.abandon()
        transaction, self._outermost = self._outermost, None
        if transaction is not None:
            with contextlib.suppress(asyncpg.InterfaceError):  # it has ended, as it should
                await transaction.rollback()
        if self.is_in_transaction():
            await self.execute("ROLLBACK")

    async def shut(self, timeout: float | None = None) -> None:
        """Really closes it.

        Args:
            timeout: seconds to wait for the server.
        """
        self._lent = False
        await super().close(timeout=timeout)

    def drop(self) -> None:
        """Really terminates it, at once."""
        self._lent = False
        super().terminate()

    def transaction(self, **options: Any) -> Transaction:
        """As asyncpg's own; the outermost one is remembered for `tidy`."""
        transaction = super().transaction(**options)
        if not self.is_in_transaction():
            self._outermost = transaction
            self._guarded = False
            self.parting = ""
        return transaction

    # -- role ---------------------------------------------------------------------------------------------------------

    async def watch_role(self, version_table: str) -> None:
        """Begin to keep `own_role`.

        Args:
            version_table: as Alembic writes it in its own statements, which are known to be harmless.
        """
        await self.arrived()
        await self._open()
        self.own_role = bool(await self.fetchval("select current_user = session_user"))
        self._harmless = tuple(f"{verb} {version_table} " for verb in ("UPDATE", "INSERT INTO", "DELETE FROM"))

    def _hear(self, query: str) -> None:
        if self.own_role and not query.startswith(self._harmless):
            from headstart.sqlscript import keeps_role

            self.own_role = keeps_role(query)

    # -- ahead --------------------------------------------------------------------------------------------------------

    async def arrived(self) -> None:
        """Waits for the statement that was sent ahead, and raises what it failed of."""
        sent, self._sent = self._sent, None
        if sent is not None:
            await sent

    def is_in_transaction(self) -> bool:
        """As asyncpg's own; a BEGIN that waits for its first statement, or is on its way with it, counts."""
        return bool(self._opening) or bool(super().is_in_transaction())

    async def _open(self) -> None:
        """Sends the BEGIN that waits, by itself."""
        opening, self._opening, self.follows = self._opening, "", False
        if opening:
            await super().execute(opening)

    async def _open_with(self, query: str) -> str:
        """Sends the BEGIN that waits, and a statement in the same message.

        The transaction is afterwards what it would be if they had come one by one: begun, or begun and failed.
        """
        opening = f"{self._opening}\n"
        try:
            return str(await super().execute(opening + query))
        except asyncpg.PostgresError as error:
            if super().is_in_transaction():
                from headstart.script_run import shifted

                self.last_error = shifted(query, len(opening), error)
                raise
            await super().execute(opening)  # no word was understood, and so there was no BEGIN either
            return str(await super().execute(query))
        finally:
            self._opening = ""

    async def send(self, query: str) -> str:
        """Executes a statement; if it may go ahead, only sends it, and returns before it has ended.

        DDL alone goes ahead, and not once a savepoint was set: there a revision may mean to survive a failure. Without
        one, a failure dooms the transaction, whether the revision hears of it at once or at its next statement.
        """
        await self.arrived()
        ddl = query.lstrip()[:7].upper().startswith(_AHEAD)
        if not (self.ahead and ddl and not self._guarded and self.is_in_transaction()):
            return await self._run(query)
        from headstart.script_ahead import Sent

        self._sent = Sent(self._run(query))
        return ""

    async def move(self, query: str) -> None:
        """Sends ahead what has to update one row; if it does not, the next call raises, at the latest COMMIT."""
        from headstart.script_ahead import Sent

        await self.arrived()
        self._sent = Sent(self._move(query))

    async def _run(self, query: str) -> str:
        from headstart.script_run import noted

        with noted(self, query):
            return str(await (self._open_with(query) if self._opening else super().execute(query)))

    async def _move(self, query: str) -> str:
        if (tag := await self._run(query)) != "UPDATE 1":
            raise MigrationFailedError(
                f"the version table was changed by the revision itself, or beside this run: {query} was answered {tag}",
                hint="see who else writes to that table; `headstart status` says what it holds now",
            )
        return tag

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """As asyncpg's own, after what was sent ahead has arrived."""
        await self.arrived()
        if self.follows and query.startswith("BEGIN") and not self.is_in_transaction():
            self._opening, self.follows = query, False
            return ""
        await self._open()
        self._hear(query)
        self._guarded = self._guarded or query.lstrip()[:9].upper() == "SAVEPOINT"
        if self.parting and query[:6].upper() == "COMMIT":
            query, self.parting = f"{self.parting};\n{query}", ""
        return str(await super().execute(query, *args, timeout=timeout))

    # -- statements ---------------------------------------------------------------------------------------------------

    async def prepare(  # type: ignore[override]  # it quacks
        self,
        query: str,
        **options: Any,
    ) -> Silent | Watched:
        """As asyncpg's own, for scripts too.

        Args:
            query: one statement or many.
            options: asyncpg's: name, timeout, record_class.

        Raises:
            ScriptError: the text holds what no revision can run.
        """
        # The lexer's expressions take longer to compile than a whole no-op, which prepares nothing.
        from headstart.script_run import noted
        from headstart.script_statement import Script, Silent, Watched
        from headstart.sqlscript import has_parameters, is_single, returns_rows

        await self.arrived()
        self._hear(query)
        self.follows = False
        self._guarded = self._guarded or query.lstrip()[:9].upper() == "SAVEPOINT"
        self.last_error = None
        if not is_single(query):
            statements = self.parse(query)
            if len(statements) != 1 or statements[0].kind in {"copy_in", "copy_out"}:
                for each in statements:
                    self._hear(each.text)
                await self._open()
                return Script(self, query, statements)
            query = statements[0].text if "\\" in query else query
        if not returns_rows(query) and not has_parameters(query):
            return Silent(self, query)
        await self._open()
        async with self.unhurried(query):
            with noted(self, query):
                return Watched(self, query, await super().prepare(query, **options))

    async def executemany(
        self,
        command: str,
        args: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,
    ) -> None:
        """As asyncpg's own, with `work_lock_timeout` and `last_error` looked after."""
        from headstart.script_run import noted

        await self.arrived()
        await self._open()
        self._hear(command)
        self.last_error = None
        async with self.unhurried(command):
            with noted(self, command):
                await super().executemany(command, args, timeout=timeout)

    def parse(self, query: str) -> list[Statement]:
        """Splits by the session's own `standard_conforming_strings`."""
        from headstart.sqlscript import split

        conforming = getattr(self.get_settings(), "standard_conforming_strings", "on") == "on"
        return split(query, standard_conforming=conforming)

    def unhurried(self, query: str) -> AbstractAsyncContextManager[None]:
        """Outside of a transaction, sets `lock_timeout` to 0 for as long as a statement runs.

        Only if it is what `work_lock_timeout` says: a user's own setting is left alone, and so is one that the
        statement makes.

        Args:
            query: the statement.
        """
        work = self.work_lock_timeout
        if work is None or self.is_in_transaction() or query.lstrip()[:10].upper().startswith(_LEFT_ALONE):
            return _AT_EASE
        return self._without_lock_timeout(work)

    @contextlib.asynccontextmanager
    async def _without_lock_timeout(self, work: str) -> AsyncIterator[None]:
        from headstart.script_run import exchange_lock_timeout

        relaxed = await self.execute(exchange_lock_timeout(work, "0")) == "SELECT 1"
        try:
            yield
        finally:
            if relaxed and not self.is_closed() and not self.is_in_transaction():
                await self.execute(exchange_lock_timeout("0", work))
