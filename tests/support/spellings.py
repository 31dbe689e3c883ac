"""Connections in every spelling, and what hypothesis makes them of."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import strategies as st

from headstart.settings.dsn import Dsn, DsnError
from headstart.settings.resolve import parse_dsn

NASTY = "p@ss:/w%"
AWKWARD = "@:/?#%&=+,;'\"\\[]{}()<>|*~!$^` \tä€🐘aZ09"

words = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1)
names = words.filter(lambda word: word == word.strip())
# Begins and ends with what is in no message, so that a test can tell whether it is quoted.
passwords = words.map(lambda word: f"ZqX{word}XqZ")
hosts = st.sampled_from(["db", "db.example", "10.0.0.1", "::1", "fe80::1", "/run/postgresql", "/tmp/a b"])  # noqa: S108
places = st.lists(st.tuples(hosts, st.integers(1, 65535)), min_size=1, max_size=3)


def no_files(path: str) -> str:
    """Read nothing: there is no file."""
    raise FileNotFoundError(2, "No such file or directory", path)


def parse(url: str | None, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Dsn:
    """Parse with these variables and files, as the system's user `me`."""

    def read_file(path: str) -> str:
        return files[path] if files is not None and path in files else no_files(path)

    return parse_dsn(url, environ or {}, read_file=read_file, default_user="me")


def problems(url: str | None, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> str:
    """Give every problem of a text, in one string."""
    with pytest.raises(DsnError) as caught:
        parse(url, environ, files)
    assert caught.value.problems
    assert all("\n" not in problem for problem in caught.value.problems)
    return "; ".join(caught.value.problems)


def q(text: str) -> str:
    """Percent-encode everything that can be."""
    return quote(text, safe="")


def netloc(place: tuple[str, int]) -> str:
    """Write host and port as a URL does."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{q(host)}:{port}"


def pair(key: str, value: str) -> str:
    """Write one pair of a conninfo string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def spellings(
    places: list[tuple[str, int]], user: str, password: str, database: str
) -> list[tuple[str | None, dict[str, str]]]:
    """Every way to say the same, with the variables that belong to it."""
    at = ",".join(map(netloc, places))
    listed = {"host": ",".join(host for host, _ in places), "port": ",".join(str(port) for _, port in places)}
    every = "".join(f"%{byte:02x}" for byte in password.encode())
    pg = {"PGHOST": listed["host"], "PGPORT": listed["port"], "PGUSER": user}
    pg |= {"PGPASSWORD": password, "PGDATABASE": database}
    urls = [
        f"{scheme}://{q(user)}:{q(password)}@{at}/{q(database)}"
        for scheme in (
            "postgres",
            "postgresql",
            "postgresql+asyncpg",
            "postgresql+psycopg",
            "postgresql+psycopg2",
            "postgresql+psycopg_async",
            "postgresql+pg8000",
        )
    ]
    urls += [
        f"postgresql://{q(user)}:{every}@{at}/{q(database)}",
        (
            f"postgresql:///?host={q(listed['host'])}&port={listed['port']}"
            f"&user={q(user)}&password={q(password)}&dbname={q(database)}"
        ),
        f"postgresql+asyncpg://{q(user)}:{q(password)}@/{q(database)}?"
        + "&".join(f"host={quote_plus(host)}" for host, _ in places)
        + f"&port={quote_plus(listed['port'])}",
        " ".join(pair(*item) for item in {**listed, "user": user, "password": password, "dbname": database}.items()),
    ]
    spelled: list[tuple[str | None, dict[str, str]]] = [(url, {}) for url in urls]
    spelled += [
        (None, pg),
        (f"postgresql://{at}/{q(database)}", {"PGUSER": user, "PGPASSWORD": password}),
        (f"postgresql://{q(user)}@/{q(database)}", pg | {"PGUSER": "other", "PGDATABASE": "other"}),
    ]
    return spelled
