"""The list of tenants: from a file or a query, checked as a whole before anything is begun, and shared out.

A tenant is a schema of DATABASE_URL's database, a database of its server, or a database anywhere, by a URL of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec

from headstart.errors import ConfigurationError
from headstart.ledger import SCHEMA
from headstart.postgres.connection import ScriptConnection
from headstart.postgres.server import first_line, quote
from headstart.settings.dsn import Dsn
from headstart.settings.files import read_text
from headstart.settings.resolve import parse_dsn
from headstart.steps.context import environ_for
from headstart.steps.run import Run

FILE, QUERY = "HEADSTART_TENANTS_FILE", "HEADSTART_TENANTS_QUERY"

_URL = re.compile(r"(?:(.*\S)\s+)?((?:postgres|postgresql)(?:\+\w+)?://\S+)", re.IGNORECASE)
# A name with one of these may be a URL that came apart, password and all: it is not quoted.
_MAY_HOLD_SECRET = re.compile(r"[@:/=]")
_EXISTING = {
    "schema": "select nspname from pg_catalog.pg_namespace where nspname = any($1::pg_catalog.text[])",
    "database": (
        "select datname from pg_catalog.pg_database where datallowconn and datname = any($1::pg_catalog.text[])"
    ),
}


class Entry(NamedTuple):
    """One tenant as it is listed: the place in the list, its name, and its URL if it has one."""

    origin: str
    name: str
    url: str | None = None

    @property
    def label(self) -> str:
        """How a problem names it."""
        return self.origin if _MAY_HOLD_SECRET.search(self.name) else f"{self.origin} ({self.name!r})"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant: its name, its schema if it is one, and the connection by which just that one is reached."""

    name: str
    dsn: Dsn
    schema: str | None = None


def read_lines(text: str) -> list[Entry]:
    """Read a list: a name in each line, a URL, or both with a blank between; `#` begins a line that is a comment."""
    entries = []
    for number, raw in enumerate(text.splitlines(), 1):
        line, origin = raw.strip(), f"{FILE} line {number}"
        if not line or line.startswith("#"):
            continue
        match = _URL.fullmatch(line)
        entries.append(Entry(origin, match[1] or "", match[2]) if match else Entry(origin, line))
    return entries


async def find(run: Run, entries: Sequence[Entry] | None, connection: ScriptConnection | None) -> list[Target]:
    """The tenants in the order of the list, or every problem at once.

    Args:
        run: its settings say what a tenant is.
        entries: from `read_file`.
        connection: to DATABASE_URL's database; None for a list that needs none (`needs_connection`).

    Raises:
        ConfigurationError: a name that is empty, listed twice or not there, a URL that cannot be read, no list at all.
    """
    if entries is None:
        assert connection is not None  # noqa: S101  (`needs_connection`)
        entries = await _query(run, connection)
    problems: list[str] = []
    targets: dict[str, Target] = {}
    origins: dict[str, str] = {}
    for entry in entries:
        try:
            target = _target(entry, run)
        except ConfigurationError as error:
            problems += error.problems
            continue
        if target.name in targets:
            problems.append(f"{entry.label}: {origins[target.name]} has the same name")
        else:
            targets[target.name], origins[target.name] = target, entry.origin
    if connection is not None:
        names = [entry.name for entry in entries if entry.name and entry.url is None]
        there = {row[0] for row in await connection.fetch(_EXISTING[run.settings.tenants_kind], names)}
        problems += [
            f"{entry.label}: there is no {run.settings.tenants_kind} of that name"
            for entry in entries
            if entry.name and entry.url is None and entry.name not in there
        ]
    if problems:
        raise ConfigurationError(*problems, hint="correct the list of tenants; none of them was touched")
    return list(targets.values())


def read_file(run: Run) -> list[Entry] | None:
    """What the file lists; None if a query is used.

    Raises:
        ConfigurationError: neither or both are given, or the file cannot be read, or names no tenant.
    """
    file, query = run.settings.tenants_file, run.settings.tenants_query
    if (file is None) == (query is None):
        cause = "neither is set" if file is None else "both are set"
        raise ConfigurationError(f"{FILE}, {QUERY}: {cause}: set one of the two, which lists the tenants")
    if file is None:
        return None
    try:
        entries = read_lines(read_text(Path(run.cwd, file)))
    except UnicodeError:
        raise ConfigurationError(f"{FILE}: {file} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"{FILE}: cannot read {file!r} ({error.strerror})") from None
    if not entries:
        raise ConfigurationError(f"{FILE}: {file} names no tenant: write one in each line")
    return entries


def needs_connection(run: Run, entries: Sequence[Entry] | None) -> bool:
    """Whether DATABASE_URL's database has to be asked for tenants, or for the names of those that are listed.

    Raises:
        ConfigurationError: it has to, but DATABASE_URL is not set.
    """
    needed = entries is None or any(entry.url is None for entry in entries)
    if needed and not run.settings.dsn_source:
        raise ConfigurationError(
            "DATABASE_URL: it is not set: tenants without a URL of their own are schemas or databases there"
        )
    return needed


async def _query(run: Run, connection: ScriptConnection) -> list[Entry]:
    try:
        async with connection.transaction(readonly=True):
            await connection.execute("set local search_path to default")  # the query is the user's
            rows = await connection.fetch(run.settings.tenants_query or "")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise ConfigurationError(f"{QUERY}: it failed: {first_line(error)}", hint="correct the query") from error
    if rows and len(rows[0]) != 1:
        raise ConfigurationError(f"{QUERY}: it gives {len(rows[0])} columns: let it give the tenant's name alone")
    return [Entry(f"{QUERY} row {at}", "" if row[0] is None else str(row[0])) for at, row in enumerate(rows, 1)]


def _target(entry: Entry, run: Run) -> Target:
    settings, kind = run.settings, run.settings.tenants_kind
    if not entry.name and entry.url is None:
        raise ConfigurationError(f"{entry.origin}: the name is empty")
    if kind == "schema":
        if entry.url is not None:
            raise ConfigurationError(f"{entry.origin}: a URL is a database: set HEADSTART_TENANTS_KIND=database")
        if entry.name.startswith("pg_") or entry.name in {"information_schema", SCHEMA}:
            raise ConfigurationError(f"{entry.label}: that schema is no tenant's")
        dsn = with_search_path(settings.dsn, (entry.name, *(settings.tenants_search_path or ())))
        return Target(name=entry.name, dsn=dsn, schema=entry.name)
    if entry.url is None:
        return Target(name=entry.name, dsn=settings.dsn.with_database(entry.name))
    dsn = parse_dsn(
        entry.url,
        run.environ,
        read_file=read_text,
        default_user=run.environ.get("USER") or settings.dsn.user,
        source=entry.origin,
    )
    return Target(name=entry.name or dsn.database, dsn=dsn)


def with_search_path(dsn: Dsn, schemas: Iterable[str]) -> Dsn:
    """The same database, in sessions that begin with this search_path.

    An option's value ends at the next blank without a backslash (PostgreSQL manual, "Database Connection Control
    Functions", `options`).
    """
    path = re.sub(r"([\s\\])", r"\\\1", ", ".join(map(quote, schemas)))
    options = f"{dsn.params.get('options', '')} -c search_path={path}".strip()
    return msgspec.structs.replace(dsn, params={**dsn.params, "options": options})


def variables_of(target: Target, environ: Mapping[str, str]) -> dict[str, str | None]:
    """What env.py, or a driver of its own, finds in the environment: this tenant's database or schema, and no other.

    Args:
        target: the tenant.
        environ: of all of them.

    Returns:
        What is different for the tenant; None for a variable that is taken away.
    """
    if target.schema is not None:
        return {"PGOPTIONS": target.dsn.params["options"]}
    return environ_for(target.dsn, environ)


def split_canary(targets: Sequence[Target], canary: str | None) -> tuple[list[Target], list[Target]]:
    """The tenants that go first, and the rest.

    Args:
        targets: all.
        canary: a name, or how many of the list's first; None for none.

    Raises:
        ConfigurationError: it is neither.
    """
    if canary is None:
        return [], list(targets)
    named = [target for target in targets if target.name == canary]
    if not named and not canary.isdecimal():
        raise ConfigurationError(f"HEADSTART_TENANTS_CANARY: {canary!r} is neither a number nor one of the tenants")
    first = named or list(targets[: int(canary)])
    chosen = {target.name for target in first}
    return first, [target for target in targets if target.name not in chosen]


def share_of(
    targets: Sequence[Target], share: tuple[int | None, int] | None, environ: Mapping[str, str]
) -> list[Target]:
    """The tenants of one share. The share of a tenant depends on its name alone.

    So each is in exactly one share even if the list grows between the moments in which two pods read it.

    Args:
        targets: all.
        share: its number, counted from 0, and how many there are; None for one share.
        environ: JOB_COMPLETION_INDEX gives the number that is left out (Kubernetes manual, "Indexed Job").

    Raises:
        ConfigurationError: no number, or one that is not below the count.
    """
    if share is None:
        return list(targets)
    index, count = share
    if index is None:
        text = environ.get("JOB_COMPLETION_INDEX", "")
        if not text.isdecimal() or int(text) >= count:
            raise ConfigurationError(
                f"HEADSTART_TENANTS_SHARE: {count} shares, and JOB_COMPLETION_INDEX does not say which of them:"
                f" write for example 0/{count}, or set the Job's completions to {count}"
            )
        index = int(text)
    return [target for target in targets if _place(target.name) % count == index]


def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
