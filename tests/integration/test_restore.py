"""Restores on each server: what comes back is what was there, whatever it is called and whichever client there is."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended, make_role, path_of, with_password
from conftest import INSTALLATIONS
from headstart.backup.clients import find_restorer
from headstart.errors import UnsuitableServerError
from headstart.postgres.embedded import installation
from support.postgres import psql, script
from support.restoring import RICH, beside, content, create, drop_all, properties, settle, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunHeadstart
    from support.postgres import Postgres

NUMBERS = itertools.count(1)
ODD = "a \"b\" 'c' = é $x"
LONGEST = "n" * 61 + "é"
SECRET = "its \\ value's"


@pytest.fixture
def name(server: Postgres) -> Iterator[str]:
    """The name of a database that goes with all that is made of it."""
    name = f"restore_{next(NUMBERS)}"
    yield name
    drop_all(server, name)


def test_everything_comes_back(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """Beside or in place, a restored database has the same content, owner, privileges, settings and comment."""
    make_role(server, f"{name}_owner", "owner's", "createdb")
    make_role(server, f"{name}_reader")
    url, env = create(server, name), {"PATH": path_of(server)}
    script(
        url, f"grant select on all tables in schema trading to {name}_reader; grant usage on schema trading to public"
    )
    settle(server, name, f"{name}_owner", f"{name}_reader")
    content_then, properties_then = content(url, server.bindir), properties(server, name)
    ended(run_headstart("backup", url=url, env=env), 0)

    run = run_headstart("restore", "latest", url=url, env=env)
    last = ended(run, 0, secrets=[SECRET])
    assert beside(server, name) == [last["restored"]] == [told(run)["database"]]
    assert content(server.url(last["restored"]), server.bindir) == content_then
    assert properties(server, last["restored"]) == properties_then
    assert content(url, server.bindir) == content_then

    script(url, "drop table fills; delete from trading.orders")
    run = run_headstart("restore", "latest", "--swap", url=url, env=env)
    last = ended(run, 0, secrets=[SECRET])
    assert (last["restored"], last["revision_after"]) == (name, "a1b2")
    assert {"check_seconds", "restore_seconds", "exchange_seconds"} <= set(last)
    assert content(url, server.bindir) == content_then
    assert properties(server, name) == properties(server, told(run)["before"]) == properties_then
    assert psql(server.url(told(run)["before"]), "select count(*) from trading.orders") == [(0,)]


def test_a_lost_database_comes_back(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """With no live database, `--swap` makes one under its name, in the shape that the dump remembers."""
    make_role(server, f"{name}_owner")
    make_role(server, f"{name}_reader")
    url, env = create(server, name), {"PATH": path_of(server)}
    settle(server, name, f"{name}_owner", f"{name}_reader")
    content_then, properties_then = content(url, server.bindir), properties(server, name)
    ended(run_headstart("backup", url=url, env=env), 0)
    server.drop_database(name)

    run = run_headstart("restore", "latest", "--swap", url=url, env=env)
    last = ended(run, 0, secrets=[SECRET])
    assert (last["restored"], last["revision_after"]) == (name, "a1b2")
    assert "before" not in told(run)
    assert content(url, server.bindir) == content_then
    assert properties(server, name) == properties_then
    assert beside(server, name) == []


@pytest.mark.parametrize("name", [ODD, LONGEST], ids=["odd", "longest"])
def test_names(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """Names with spaces, quotes and as many bytes as there may be are restored, exchanged, and go back as told."""
    try:
        url, env = create(server, name), {"PATH": path_of(server)}
        ended(run_headstart("backup", url=url, env=env), 0)
        script(url, "drop table fills")
        run = run_headstart("restore", "latest", "--swap", url=url, env=env)
        ended(run, 0)
        assert psql(url, "select to_regclass('fills') is not null") == [(True,)]
        said = told(run)
        assert beside(server, name) == [said["before"]]
        assert all(len(each.encode()) <= 63 for each in beside(server, name))

        password = {"PGPASSWORD": url.split(":")[2].split("@")[0]}
        subprocess.run(["sh", "-c", said["go back"]], check=True, capture_output=True, env={**env, **password})
        assert psql(url, "select to_regclass('fills') is null") == [(True,)]
        [restored] = beside(server, name)
        assert "_restored_" in restored
        ended(run_headstart("restore", "latest", url=url, env=env), 0)
        gone = told(run_headstart("restore", "latest", url=url, env=env))
        subprocess.run(["sh", "-c", gone["remove"]], check=True, capture_output=True, env={**env, **password})
        assert gone["database"] not in beside(server, name)
    finally:
        drop_all(server, name)


def test_locales(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """Encoding, locale and their provider are those of the live database, not the server's defaults."""
    options = "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
    if server.major >= 17:
        options = "encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' lc_collate 'C' lc_ctype 'C'"
    script(server.url(), f"create database {name} template template0 {options}")
    url, env = server.url(name), {"PATH": path_of(server)}
    script(url, "create table t as select 1 as id")
    ended(run_headstart("backup", url=url, env=env), 0)
    then = properties(server, name)
    ended(run_headstart("restore", "latest", "--swap", url=url, env=env), 0)
    assert properties(server, name) == then
    server.drop_database(name)
    ended(run_headstart("restore", "latest", "--swap", url=url, env=env), 0)
    assert properties(server, name) == then


def test_an_owner_without_superuser(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """The role that owns the database and may create others is all that it takes; what it may not set is told."""
    make_role(server, f"{name}_owner", "owner's", "createdb")
    server.create_database(name, owner=f"{name}_owner")
    url = with_password(server.url(name), "owner's", user=f"{name}_owner")
    env = {"PATH": path_of(server)}
    script(url, RICH)
    script(server.url(), f"alter database {name} set log_min_duration_statement = '1s'")
    then = content(url, server.bindir)
    ended(run_headstart("backup", url=url, env=env), 0)
    run = run_headstart("restore", "latest", "--swap", url=url, env=env)
    last = ended(run, 0, secrets=["owner's"])
    assert last["restored"] == name
    assert content(url, server.bindir) == then
    assert told(run)["missing"].startswith("the setting log_min_duration_statement")


def test_a_dump_of_a_newer_client(server: Postgres, name: str, run_headstart: RunHeadstart) -> None:
    """A dump that a client of 17 or later made of an older server is restored into such a server all the same."""
    if server.major >= 17:
        pytest.skip("the server knows transaction_timeout")
    env = {"PATH": f"{INSTALLATIONS[0].bindir}{os.pathsep}/usr/bin:/bin"}
    url = create(server, name)
    then = content(url, server.bindir)
    taken = run_headstart("backup", url=url, env=env)
    [started] = taken.events("backup_started")
    if int(started["client_version"].split(".")[0]) < 17:
        pytest.skip("this machine has the server's own client, which is taken")
    run = run_headstart("restore", "latest", "--swap", url=url, env=env)
    ended(run, 0)
    assert run.events("client_newer_than_server")
    assert run.events("pg_restore_said") == []
    assert content(url, server.bindir) == then

    script(url, "create role gone; grant select on fills to gone")
    ended(run_headstart("backup", url=url, env=env), 0)
    script(url, "revoke all on fills from gone; drop role gone")
    kept = beside(server, name)
    last = ended(run_headstart("restore", "latest", url=url, env=env), 41)
    assert "'gone'" in last["error"]
    assert beside(server, name) == kept


async def test_which_client(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own major version is taken, but never one older than wrote the dump."""
    own = await find_restorer(server.major * 10000, "14.1", path=str(server.bindir))
    assert own.major == server.major
    with pytest.raises(UnsuitableServerError, match=r"no pg_restore of 99"):
        await find_restorer(server.major * 10000, "99.1", path=str(server.bindir))
    monkeypatch.setattr(installation, "ROOTS", ())
    older = await find_restorer(990000, f"{server.major}.0", path=str(server.bindir))
    assert older.major == server.major
