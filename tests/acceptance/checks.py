"""What every acceptance test asks of a run's end, and sessions beside headstart's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

import asyncpg

from support.postgres import identifier, psql, script
from support.process import RUNNER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from support.postgres import Postgres
    from support.process import Run


def ended(run: Run, code: int, *, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """Check what the contract says of every end, and return `run_finished`.

    The exit code is `code`; the last line of stderr is `run_finished` and says the same; a failure has one line of
    cause and one of remedy; there is no traceback, and no secret.

    Args:
        run: whose log is JSON.
        code: the exit code that is expected.
        secrets: what must not be shown in any spelling.
    """
    assert run.code == code, str(run)
    last = run.last
    assert last.get("event") == "run_finished", str(run)
    assert last["exit_code"] == code, str(run)
    if code:
        for field in ("error", "hint"):
            assert last[field].strip(), f"{field} is empty: {run}"
            assert "\n" not in last[field], f"{field} has several lines: {run}"
        assert last["level"] == "error", str(run)
    assert "Traceback" not in run.stdout + run.stderr, str(run)
    leaks_nothing(run, secrets)
    return last


def leaks_nothing(run: Run, secrets: Iterable[str]) -> None:
    """Check that neither stdout nor stderr holds a secret, in any of the spellings that one may take."""
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in run.stdout + run.stderr, f"{spelling!r} is shown: {run}"


def spellings(secret: str) -> set[str]:
    """A secret as it stands, as URLs hold it, as JSON does (and JSON in JSON), as Python's repr and as SQL."""
    json_once = json.dumps(secret)[1:-1]
    raw_json = json.dumps(secret, ensure_ascii=False)[1:-1]
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe="").replace("%", "%%"),
        json_once,
        raw_json,
        json.dumps(json_once)[1:-1],
        json.dumps(raw_json, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        secret.replace("'", "''"),
    }


def with_password(url: str, password: str, *, user: str | None = None) -> str:
    """The URL of one of our servers with another password, and another user if one is given."""
    parts = urlsplit(url)
    account = f"{quote(user or parts.username or '', safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{account}@{parts.hostname}:{parts.port}"))


def make_role(server: Postgres, name: str, password: str = "a role's pass", options: str = "") -> None:
    """Make a role that may log in. It stays until its server ends."""
    literal = password.replace("'", "''")
    conforming = f"E'{literal.replace(chr(92), chr(92) * 2)}'"
    script(
        server.url(),
        f"drop role if exists {identifier(name)}; create role {identifier(name)} login password {conforming} {options}",
    )


def running(url: str, text: str) -> bool:
    """Whether some session executes a statement that has this text in it."""
    query = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query ~ $1"
    return psql(url, query, text) != [(0,)]


class Session:
    """A session of somebody else, open as long as the `with` block lasts: it holds locks."""

    def __init__(self, url: str, name: str = "somebody else") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        connecting = asyncpg.connect(url, server_settings={"application_name": name})
        self._connection = asyncio.run_coroutine_threadsafe(connecting, self._loop).result(20)
        self._begun: concurrent.futures.Future[str] | None = None

    def execute(self, sql: str) -> None:
        """Run statements, after what has been begun; a BEGIN keeps a transaction open."""
        if self._begun is not None:
            self._begun.result(20)
        asyncio.run_coroutine_threadsafe(self._connection.execute(sql), self._loop).result(20)

    def begin(self, sql: str) -> None:
        """Let statements run, and do not wait for their end."""
        self._begun = asyncio.run_coroutine_threadsafe(self._connection.execute(sql), self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def planted(folder: Path, code: str) -> dict[str, str]:
    """The environment in which Python runs `code` before headstart (Python's manual, 'site': sitecustomize)."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{RUNNER}"}


# Root may read and write whatever the mode says, unless it gives that up: capabilities(7), CAP_DAC_OVERRIDE and
# CAP_DAC_READ_SEARCH. Nothing changes for another user.
LIKE_ANYBODY = """\
import ctypes
libc = ctypes.CDLL(None)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(header, sets)
sets[0], sets[1] = sets[0] & ~6, sets[1] & ~6
libc.capset(header, sets)
"""


# A bug in the product, with the URL in its text.
BUG = """\
import os, headstart.history
def locate(*_, **__):
    raise ZeroDivisionError(os.environ['DATABASE_URL'])
headstart.history.history.locate = locate
"""


def path_of(server: Postgres) -> str:
    """A PATH on which the server's own pg_dump comes first."""
    return f"{server.bindir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
