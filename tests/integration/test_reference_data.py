"""The reference project's batched data migrations, killed in the middle and resumed by the next run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import pytest

from support.faults import at_work, bystander, nothing_left
from support.postgres import psql, script
from support.project import recorded
from support.reference import ROOT, clone, parent_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import RunHeadstart, StartHeadstart
    from support.postgres import Postgres
    from support.process import Run

COMPANIES = """
INSERT INTO companies (ticker_symbol, name, market, currency)
VALUES ('7203', 'A', 'Prime', 'JPY'), ('HRBR', 'B', 'NASDAQ', 'USD')
"""
PRICES = """
INSERT INTO stock_prices (company_id, trade_date, open, high, low, close, volume)
SELECT company.id, date '1990-01-01' + day, 1, 1, 1, 1, 1 FROM companies AS company, generate_series(1, 20000) AS day
"""
SIGNALS = """
INSERT INTO signals (strategy, exchange, symbol, timeframe, "timestamp", action, confidence)
SELECT 'ema_cross', CASE n % 2 WHEN 0 THEN 'binance' ELSE 'kraken' END, 'COIN' || n % 7, '1h',
       timestamptz '2025-01-01' + n * interval '1 hour', 'BUY', 50
  FROM generate_series(1, 9000) AS n
"""


class Backfill(NamedTuple):
    """A data migration, a database that needs it, and where it is stopped."""

    revision: str
    table: str
    column: str
    before: str
    """The last revision before the table gets the column."""
    rows: tuple[str, ...]
    total: int
    batch: int
    obstacle: int
    """The id of a row that somebody else has locked."""


BACKFILLS = [
    Backfill(
        "20250428_113418046",
        "stock_prices",
        "currency",
        "20250414_081206519",
        (COMPANIES, PRICES),
        total=40_000,
        batch=10_000,
        obstacle=25_000,
    ),
    Backfill(
        "20250707_083946213",
        "signals",
        "instrument_id",
        "20250630_091222037",
        (SIGNALS,),
        total=9_000,
        batch=2_000,
        obstacle=5_000,
    ),
]


@pytest.fixture(params=BACKFILLS, ids=lambda one: one.table)
def backfill(request: pytest.FixtureRequest) -> Backfill:
    """Each of the data migrations."""
    found: Backfill = request.param
    return found


@pytest.fixture
def database_before(any_server: Postgres, backfill: Backfill, run_headstart: RunHeadstart) -> Iterator[str]:
    """The URL of a database in which the column is there, and empty."""
    with clone(any_server, backfill.before) as url:
        for statement in backfill.rows:
            script(url, statement)
        up(run_headstart, url, "--target", parent_of(backfill.revision))
        assert filled(url, backfill) == {}
        yield url


def up(run_headstart: RunHeadstart, url: str, *args: str) -> Run:
    """Run `headstart up` to its good end."""
    run = run_headstart("up", *args, url=url, cwd=ROOT, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 0, run
    return run


def filled(url: str, backfill: Backfill) -> dict[int, str]:
    """The rows that have a value, each with the transaction that wrote it last."""
    query = f"SELECT id, xmin::text FROM {backfill.table} WHERE {backfill.column} IS NOT NULL"
    return {row[0]: row[1] for row in psql(url, query)}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_interrupted_and_resumed(
    backfill: Backfill,
    database_before: str,
    start_headstart: StartHeadstart,
    run_headstart: RunHeadstart,
    how: signal.Signals,
) -> None:
    """Whole batches stay, the rest is untouched; the next run fills what is empty and writes no row twice."""
    url = database_before
    lock = f"SELECT FROM {backfill.table} WHERE id = {backfill.obstacle} FOR UPDATE"
    with bystander(url, lock) as leave:
        process = start_headstart("up", url=url, cwd=ROOT, env={"HEADSTART_BACKUP": "off"})
        at_work(url, r"DO \$backfill\$", on="Lock")
        process.send(how)
        run = process.finish()
        assert run.code == (143 if how is signal.SIGTERM else -signal.SIGKILL), run
        nothing_left(url)
        done = filled(url, backfill)
        assert sorted(done) == list(range(1, backfill.batch * 2 + 1))
        assert recorded(url) == [parent_of(backfill.revision)]
        leave()
    resumed = up(run_headstart, url, "--target", backfill.revision)
    assert resumed.last["applied"] == [backfill.revision]
    after = filled(url, backfill)
    assert len(after) == backfill.total
    assert {key: after[key] for key in done} == done
    assert up(run_headstart, url).last["applied"]
    ledger = "SELECT action, count(*) FROM headstart.ledger WHERE revision = $1 GROUP BY 1"
    assert psql(url, ledger, backfill.revision) == [("applied", 1)]


RIGHT = """
SELECT count(*) FROM signals AS signal JOIN ref.instruments AS instrument
    ON (instrument.id, instrument.exchange, instrument.symbol) = (signal.instrument_id, signal.exchange, signal.symbol)
"""


def test_the_values_are_right(any_server: Postgres, run_headstart: RunHeadstart) -> None:
    """A price gets its company's currency and a signal its own instrument; what had a value keeps it."""
    with clone(any_server, "20250414_081206519") as url:
        for statement in (COMPANIES, PRICES, SIGNALS):
            script(url, statement)
        up(run_headstart, url, "--target", "20250428_112939702")
        script(url, "UPDATE stock_prices SET currency = 'XXX' WHERE id <= 6")
        up(run_headstart, url)
        found = psql(
            url,
            "SELECT company.currency, price.currency, count(*) FROM stock_prices AS price"
            " JOIN companies AS company ON company.id = company_id GROUP BY 1, 2 ORDER BY 1, 2",
        )
        others = [row for row in found if row[1] != "XXX"]
        assert [row[:2] for row in others] == [("JPY", "JPY"), ("USD", "USD")]
        assert sum(row[2] for row in others) == 40_000 - 6
        pairs = psql(url, "SELECT exchange, symbol FROM ref.instruments ORDER BY 1, 2")
        assert pairs == psql(url, "SELECT DISTINCT exchange, symbol FROM signals ORDER BY 1, 2")
        assert (len(pairs), psql(url, RIGHT)) == (14, [(9000,)])
        with pytest.raises(asyncpg.NotNullViolationError):
            script(url, "UPDATE stock_prices SET currency = NULL")


@pytest.mark.parametrize("revision", ["20250707_083105561", "20250707_083946213", "20250714_090440375"])
def test_writers_go_on_meanwhile(any_server: Postgres, run_headstart: RunHeadstart, revision: str) -> None:
    """After each of the three steps services that do not know the new column write and correct signals as before."""
    with clone(any_server, "20250630_091222037") as url:
        script(url, SIGNALS)
        up(run_headstart, url, "--target", revision)
        script(url, SIGNALS.replace("ema_cross", "breakout"))
        script(url, "UPDATE signals SET confidence = 60 WHERE id <= 10")
        script(url, "UPDATE signals SET exchange = 'bitflyer' WHERE id > 17995")
        up(run_headstart, url)
        assert psql(url, RIGHT) == [(18_000,)]
        assert psql(url, "SELECT count(*) FROM ref.instruments WHERE exchange = 'bitflyer'") == [(5,)]
