"""The sample app as a real process on a real Postgres: it writes once, creates nothing, and refuses what it must."""

from __future__ import annotations

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compose.conftest import ROOT, request
from support.faults import bystander
from support.postgres import psql, script
from support.project import fingerprint, recorded
from support.reference import history
from support.waiting import eventually

if TYPE_CHECKING:
    from compose.conftest import StartApp
    from conftest import RunHeadstart, StartServer
    from support.postgres import Postgres

SIGNAL: dict[str, Any] = {
    "strategy": "ema_cross",
    "exchange": "binance",
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "timestamp": "2025-01-01T00:00:00Z",
    "action": "BUY",
    "confidence": 87.25,
    "price_ref": "94401.12345678",
    "indicators": {"ema_12": 94400.5},
    "meta": {"strategy_version": "1.3.0"},
}


# -- what it does -----------------------------------------------------------------------------------------------------


def test_a_signal_is_written_once(start_app: StartApp, migrated: str) -> None:
    """A signal is 201 the first time and 200 whenever it comes again; a different one is another row."""
    url = start_app(migrated).serving()
    assert request(f"{url}/health") == (200, {"status": "ok", "revision": recorded(migrated)[0]})
    assert request(f"{url}/signals", SIGNAL) == (201, {"written": True})
    assert request(f"{url}/signals", {**SIGNAL, "confidence": 1}) == (200, {"written": False})
    assert request(f"{url}/signals", {**SIGNAL, "timeframe": "4h"}) == (201, {"written": True})
    rows = psql(migrated, "select timeframe, confidence::text, price_ref::text, indicators->>'ema_12' from signals")
    assert sorted(rows) == [("1h", "87.25", "94401.12345678", "94400.5"), ("4h", "87.25", "94401.12345678", "94400.5")]


def test_many_senders_at_once(start_app: StartApp, migrated: str) -> None:
    """Of many who send the same signal at the same time exactly one is told that it was written."""
    url = start_app(migrated).serving()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: request(f"{url}/signals", SIGNAL), range(24)))
    assert sorted(answer.status for answer in answers) == [200] * 23 + [201]
    assert psql(migrated, "select count(*) from signals") == [(1,)]


@pytest.mark.parametrize(
    "body",
    [
        {key: value for key, value in SIGNAL.items() if key != "strategy"},
        {**SIGNAL, "action": "SHORT"},
        {**SIGNAL, "timestamp": "2025-01-01T00:00:00"},
        {**SIGNAL, "confidence": 101},
        {**SIGNAL, "confidence": "NaN"},
        {**SIGNAL, "price_ref": 10**30},
        {**SIGNAL, "symbol": "A\0B"},
        {**SIGNAL, "meta": {"text": "\0"}},
        {**SIGNAL, "more": 1},
        [SIGNAL],
        b"{",
        b"",
        b"\xff",
    ],
    ids=range(13),
)
def test_what_is_no_signal(start_app: StartApp, migrated: str, body: object) -> None:
    """What the table cannot hold is the sender's error, and nothing is written."""
    url = start_app(migrated).serving()
    assert request(f"{url}/signals", body).status == 422
    assert request(f"{url}/signals", SIGNAL).status == 201
    assert psql(migrated, "select count(*) from signals") == [(1,)]


def test_a_body_without_end(start_app: StartApp, migrated: str) -> None:
    """A body is read only as far as a signal can be long."""
    assert request(f"{start_app(migrated).serving()}/signals", b" " * (1 << 20)).status == 413


def test_it_creates_nothing(start_app: StartApp, migrated: str) -> None:
    """Starting, serving and stopping change nothing in the database."""
    before = fingerprint(migrated)
    app = start_app(migrated)
    request(f"{app.serving()}/health")
    app.send(signal.SIGTERM)
    assert app.ended() == 0, app.stderr
    assert fingerprint(migrated) == before


def test_a_role_that_may_only_write_rows(start_app: StartApp, migrated: str, any_server: Postgres) -> None:
    """The app needs no right to create anything: a role that may read and insert is enough."""
    if not psql(migrated, "select from pg_roles where rolname = 'sample_app'"):
        script(migrated, "create role sample_app login password 'p@ss:/w%'")
    script(migrated, "grant select, insert on signals to sample_app; grant select on alembic_version to sample_app")
    name = migrated.rpartition("/")[2]
    url = start_app(any_server.url(name, user="sample_app", password="p@ss:/w%")).serving()
    assert request(f"{url}/signals", SIGNAL).status == 201


# -- when it does not start -------------------------------------------------------------------------------------------


def refusal(stderr: str) -> str:
    """The last line, which says why; there is no traceback."""
    assert "Traceback" not in stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("sample-app: not started: "), stderr
    return last


def test_an_empty_database(start_app: StartApp, any_database: str) -> None:
    """A service that is started before the migration says so in one line, and creates nothing."""
    before = fingerprint(any_database)
    app = start_app(any_database, HEADSTART_WAIT_TIMEOUT="0")
    assert app.ended() == 20
    assert f"the database is at base, not at head: {len(history())} revisions are pending" in refusal(app.stderr)
    assert fingerprint(any_database) == before


def test_a_database_that_is_behind(start_app: StartApp, run_headstart: RunHeadstart, migrated: str) -> None:
    """One revision is enough: after a downgrade the app does not start, after the upgrade it does."""
    backup = {"HEADSTART_BACKUP": "off"}
    assert run_headstart("downgrade", "-1", url=migrated, cwd=ROOT, env=backup).code == 0
    app = start_app(migrated, HEADSTART_WAIT_TIMEOUT="0")
    assert app.ended() == 20
    assert "1 revision is pending" in refusal(app.stderr)
    assert run_headstart("up", url=migrated, cwd=ROOT, env=backup).code == 0
    assert request(f"{start_app(migrated).serving()}/health").status == 200


def test_a_database_that_is_ahead(start_app: StartApp, migrated: str) -> None:
    """A revision that the app's image does not know is refused with 72, at once."""
    script(migrated, "update alembic_version set version_num = 'from_the_future'")
    app = start_app(migrated)
    assert app.ended() == 72
    assert "from_the_future" in refusal(app.stderr)


def test_it_waits_for_the_migration(start_app: StartApp, run_headstart: RunHeadstart, any_database: str) -> None:
    """Within its time it waits for a migration that runs elsewhere, and then serves."""
    app = start_app(any_database, HEADSTART_WAIT_TIMEOUT="60s")
    eventually(lambda: "revision_waiting" in app.stderr, "the app waits")
    assert run_headstart("up", url=any_database, cwd=ROOT, env={"HEADSTART_BACKUP": "off"}).code == 0
    assert request(f"{app.serving()}/health").status == 200


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ({}, 10, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "PORT": "http"}, 10, "PORT"),
        ({"DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "HEADSTART_WAIT_TIMEOUT": "0"}, 20, "no connection"),
    ],
    ids=["no address", "no port", "no server"],
)
def test_a_set_up_that_cannot_work(start_app: StartApp, env: dict[str, str], code: int, said: str) -> None:
    """What is wrong with the set-up is one line and an exit code."""
    app = start_app(None, cwd=ROOT, **env)
    assert app.ended() == code
    assert said in refusal(app.stderr)


def test_a_wrong_password(start_app: StartApp, any_server: Postgres, migrated: str) -> None:
    """A wrong password ends it at once with 21, and is not shown."""
    app = start_app(migrated.replace(any_server.password, "Wr0ngSecret"), HEADSTART_WAIT_TIMEOUT="60s")
    assert app.ended() == 21
    refusal(app.stderr)
    assert "Wr0ngSecret" not in app.stderr


# -- when the database goes away --------------------------------------------------------------------------------------


def test_a_restart_of_the_database(start_app: StartApp, run_headstart: RunHeadstart, start_server: StartServer) -> None:
    """While the database is away /health and writing are 503; when it is back they work, without a restart."""
    server = start_server()
    database = server.create_database()
    assert run_headstart("up", url=database, cwd=ROOT, env={"HEADSTART_BACKUP": "off"}).code == 0
    url = start_app(database).serving()
    assert request(f"{url}/signals", SIGNAL).status == 201
    server.shut_down()
    health = request(f"{url}/health")
    assert (health.status, health.body["status"]) == (503, "unavailable")
    assert request(f"{url}/signals", SIGNAL).status == 503
    server.start_up()
    assert request(f"{url}/health").status == 200
    assert request(f"{url}/signals", SIGNAL) == (200, {"written": False})


def test_health_without_a_revision(start_app: StartApp, migrated: str) -> None:
    """/health is 503 where no revision is recorded any more."""
    url = start_app(migrated).serving()
    script(migrated, "delete from alembic_version")
    assert request(f"{url}/health").status == 503
    script(migrated, "drop table alembic_version")
    assert request(f"{url}/health").status == 503


def test_health_does_not_hang(start_app: StartApp, migrated: str) -> None:
    """/health is 503 within seconds where the database does not answer in time, and 200 once it does."""
    url = start_app(migrated).serving()
    with bystander(migrated, "lock table alembic_version in access exclusive mode") as leave:
        assert request(f"{url}/health", seconds=8) == (503, {"status": "unavailable", "error": "TimeoutError"})
        leave()
        assert request(f"{url}/health").status == 200


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "code"), [("serving", 0), ("waiting", 143)])
def test_sigterm(start_app: StartApp, any_database: str, migrated: str, when: str, code: int) -> None:
    """SIGTERM ends it cleanly, leaving no session: 0 after serving, 143 while it still waits."""
    database = migrated if when == "serving" else any_database
    app = start_app(database, HEADSTART_WAIT_TIMEOUT="60s")
    if when == "serving":
        assert request(f"{app.serving()}/signals", SIGNAL).status == 201
    else:
        eventually(lambda: "revision_waiting" in app.stderr, "the app waits")
    app.send(signal.SIGTERM)
    assert app.ended() == code, app.stderr
    assert "Traceback" not in app.stderr
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    eventually(lambda: psql(database, others) == [(0,)], "its sessions are gone")


def test_the_lock_of_the_image_is_the_one_that_is_tested() -> None:
    """The versions in the app's lock are those of the tests' environment, and of Headstart's own lock."""

    def pinned(lock: Path) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))

    app = pinned(ROOT / "compose/app/requirements.lock")
    assert app <= pinned(ROOT / "requirements-dev.lock")
    assert pinned(ROOT / "requirements.lock") - app == set()
