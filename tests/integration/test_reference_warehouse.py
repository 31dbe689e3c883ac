"""The reference project's warehouse: what lands, what is typed, what is viewed, what is computed ahead."""

from __future__ import annotations

import importlib
import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert

from support.faults import bystander
from support.postgres import psql, script
from support.reference import ROOT, alembic, clone, execute, parent_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from support.postgres import Postgres

LISTING: dict[str, Any] = {
    "code": "130A0",
    "company_name": "Akane Foods",
    "sector33_code": "3050",
    "market_code": "0113",
    "as_of": date(2025, 6, 9),
}
PRICES = """
INSERT INTO ref.listed_info (code, company_name, market_code, as_of) VALUES ('72030', 'Kitakaze', '0111', '2025-06-09');
INSERT INTO companies (ticker_symbol, name, market, listing_code)
VALUES ('7203', 'Kitakaze Motors', 'Prime', '72030'), ('HRBR', 'Harbour', 'NASDAQ', NULL);
INSERT INTO stock_prices (company_id, trade_date, open, high, low, close, volume)
SELECT id, date '2025-06-02' + day, 100, 120, 90, 100 + 10 * day, 5 FROM companies, generate_series(0, 1) AS day;
INSERT INTO signals (strategy, exchange, symbol, timeframe, "timestamp", action, confidence)
VALUES ('ema_cross', 'binance', 'BTC/USDT', '1h', '2025-06-02 23:00+00', 'BUY', 80),
       ('ema_cross', 'binance', 'BTC/USDT', '1h', '2025-06-03 01:00+00', 'SELL', 60);
INSERT INTO positions (strategy, exchange, symbol, quantity, average_price, opened_at)
VALUES ('ema_cross', 'binance', 'BTC/USDT', 3, 10, '2025-06-02 23:01+00');
INSERT INTO orders (signal_id, client_order_id, exchange, symbol, side, order_type, quantity)
SELECT id, gen_random_uuid(), exchange, symbol, 'BUY', 'MARKET', 3 FROM signals WHERE action = 'BUY';
INSERT INTO executions (order_id, position_id, exchange_trade_id, price, quantity, executed_at)
SELECT orders.id, positions.id, 'trade ' || n, n * 10, n, now() FROM orders, positions, generate_series(1, 2) AS n;
"""


@pytest.fixture
def schema(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package that services import their tables from."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("migrations.schema")


@pytest.fixture
def at_head(server: Postgres) -> Iterator[str]:
    """The URL of a database at head; the test runs once on each major version."""
    with clone(server) as url:
        yield url


@pytest.fixture
def any_at_head(any_server: Postgres) -> Iterator[str]:
    """The URL of a database at head on the newest version."""
    with clone(any_server) as url:
        yield url


def test_six_schemas(at_head: str) -> None:
    """There are public, raw, stg, mart, ref and kpi, each with a comment that says what it is for."""
    rows = psql(
        at_head,
        "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    )
    assert [row[0] for row in rows] == ["kpi", "mart", "public", "raw", "ref", "stg"]
    assert all(row[1] for row in rows)


def test_every_name_follows_the_convention(at_head: str) -> None:
    """Each constraint and index of a table is named after its kind and its table."""
    rows = psql(
        at_head,
        "WITH own AS (SELECT c.oid, relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname IN ('public', 'raw', 'stg', 'mart', 'ref', 'kpi') AND NOT relispartition"
        " AND relname <> 'alembic_version')"
        " SELECT contype::text, conname::text, name FROM own JOIN pg_constraint ON conrelid = own.oid"
        " WHERE contype IN ('p', 'u', 'c', 'f')"
        " UNION ALL SELECT 'i', relname::text, name FROM own JOIN pg_index ON indrelid = own.oid"
        " JOIN pg_class i ON i.oid = indexrelid WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid)",
    )
    kinds = {"p": ("pk_",), "u": ("uq_",), "c": ("ck_",), "f": ("fk_",), "i": ("ix_", "uq_")}
    odd = [row for row in rows if not row[1].startswith(tuple(kind + row[2] for kind in kinds[row[0]]))]
    assert len(rows) > 80
    assert odd == []


# -- ref --------------------------------------------------------------------------------------------------------------


def test_reference_rows_are_there(any_at_head: str) -> None:
    """A new database knows the exchanges, the segments and the holidays, and so which days are trading days."""
    exchanges = [("XETR",), ("XNAS",), ("XNYS",), ("XTKS",)]
    assert psql(any_at_head, "SELECT code FROM ref.exchanges ORDER BY 1") == exchanges
    assert psql(any_at_head, "SELECT name FROM ref.market_segments WHERE code = '0111'") == [("Prime",)]
    days = {"2025-05-05": False, "2025-05-07": True, "2025-05-10": False}
    for day, traded in days.items():
        assert psql(any_at_head, f"SELECT ref.is_trading_day('XTKS', '{day}')") == [(traded,)]
    assert psql(any_at_head, "SELECT ref.is_trading_day('XNYS', '2025-05-05')") == [(True,)]


def test_codes_have_five_characters(at_head: str, schema: ModuleType) -> None:
    """A listing's code has five characters, letters among them; a listing is written once, and four are refused."""
    statement = insert(schema.ref.listed_info).values(LISTING).on_conflict_do_nothing(index_elements=["code"])
    assert [execute(at_head, statement).rowcount for _ in range(2)] == [1, 0]
    assert psql(at_head, "SELECT code, exchange_code, status::text FROM ref.listed_info") == [
        ("130A0", "XTKS", "LISTED")
    ]
    with pytest.raises(sa.exc.IntegrityError, match="ck_listed_info_code_form"):
        execute(at_head, insert(schema.ref.listed_info).values({**LISTING, "code": "7203"}))


def test_the_enum_grows_and_shrinks(server: Postgres, schema: ModuleType) -> None:
    """The new value can be written; going down maps it to an old one, and keeps all rows, the default and the order."""
    revision = "20250630_091222037"
    with clone(server, revision) as url:
        values = [{**LISTING, "code": f"1000{at}", "status": each} for at, each in enumerate(labels(url))]
        execute(url, insert(schema.ref.listed_info).values(values))
        assert labels(url) == ["LISTED", "SUPERVISION", "SUSPENDED", "DELISTED"]
        for _ in range(2):
            done = alembic(url, "downgrade", parent_of(revision))
            assert done.returncode == 0, done.stderr
            assert labels(url) == ["LISTED", "SUPERVISION", "DELISTED"]
            found = psql(url, "SELECT code, status::text FROM ref.listed_info ORDER BY code")
            assert [row[1] for row in found] == ["LISTED", "SUPERVISION", "SUPERVISION", "DELISTED"]
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                script(url, "UPDATE ref.listed_info SET status = 'SUSPENDED'")
            done = alembic(url, "upgrade", revision)
            assert done.returncode == 0, done.stderr
        script(
            url,
            "INSERT INTO ref.listed_info (code, company_name, market_code, as_of) VALUES ('99990', 'A', '0111', now())",
        )
        assert psql(url, "SELECT status::text FROM ref.listed_info WHERE code = '99990'") == [("LISTED",)]


def test_models_know_every_label(at_head: str, schema: ModuleType) -> None:
    """The enum of the models has the labels that the database has, in their order."""
    assert labels(at_head) == list(schema.ref.LISTING_STATUS.enums)


def labels(url: str) -> list[str]:
    """Give the labels of ref.listing_status in their order."""
    query = "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'ref.listing_status'::regtype ORDER BY enumsortorder"
    return [row[0] for row in psql(url, query)]


# -- raw and stg ------------------------------------------------------------------------------------------------------


def test_landings_go_to_their_month(at_head: str) -> None:
    """A row lands in its month's partition, one without a month in the default; a month can be added, twice too."""
    moments = ("2025-06-30 23:59:59+00", "2025-07-01 00:00:00+00", "2026-01-01 00:00:00+00")
    for at, moment in enumerate(moments):
        land(at_head, f"key {at}", moment, {})
    months = psql(at_head, "SELECT tableoid::regclass::text FROM raw.landings ORDER BY fetched_at")
    assert months == [("raw.landings_202506",), ("raw.landings_202507",), ("raw.landings_default",)]
    for _ in range(2):
        assert psql(at_head, "SELECT raw.add_month('2025-12-24')") == [("raw.landings_202512",)]
    land(at_head, "key", "2025-12-31 23:59:59+00", {})
    assert psql(at_head, "SELECT count(*) FROM raw.landings_202512") == [(1,)]


def test_quotes_are_loaded_once(at_head: str) -> None:
    """The newest answer counts; loading again writes nothing, and a correction is written over what it corrects."""
    quote = {"Code": "72030", "Date": "2025-06-02", "Open": 1, "High": 3, "Low": 1, "Close": 2, "Volume": 9.0}
    land(at_head, "72030/2025-06-02", "2025-06-02 10:00+00", {"daily_quotes": [{**quote, "Close": 1}]})
    land(at_head, "72030/2025-06-02", "2025-06-02 11:00+00", {"daily_quotes": [quote]})
    loads = [psql(at_head, "SELECT stg.load_daily_quotes()") for _ in range(2)]
    assert loads == [[(1,)], [(0,)]]
    closed = "SELECT close, volume, adjustment_factor FROM stg.daily_quotes"
    assert psql(at_head, closed) == [(Decimal(2), 9, Decimal(1))]
    land(
        at_head, "correction", "2025-06-03 10:00+00", {"daily_quotes": [{**quote, "Close": 3, "AdjustmentFactor": 0.5}]}
    )
    assert psql(at_head, "SELECT stg.load_daily_quotes()") == [(1,)]
    assert psql(at_head, closed) == [(Decimal(3), 9, Decimal("0.5"))]


def land(url: str, key: str, moment: str, payload: dict[str, Any]) -> None:
    """Write an answer as a collector does."""
    psql(
        url,
        "INSERT INTO raw.landings (source, dataset, object_key, fetched_at, sha256, payload)"
        f" VALUES ('jquants', 'daily_quotes', $1, '{moment}', sha256($2::text::bytea), $2::text::jsonb)",
        key,
        json.dumps(payload),
    )


# -- mart and kpi -----------------------------------------------------------------------------------------------------


def test_views_are_what_the_models_say(at_head: str, schema: ModuleType) -> None:
    """Each view and materialised view has the columns that its model has, in their order and of their types."""
    query = (
        "SELECT n.nspname || '.' || c.relname, attname::text, format_type(atttypid, atttypmod)"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('v', 'm') AND attnum > 0 AND n.nspname IN ('stg', 'mart', 'kpi') ORDER BY 1, attnum"
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for view, name, kind in psql(at_head, query):
        found.setdefault(view, []).append((name, kind))
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    spelled = {"VARCHAR": "character varying", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone"}
    wanted = {}
    for name, table in schema.views.tables.items():
        types = [str(column.type.compile(dialect)).replace(", ", ",") for column in table.columns]
        for ours, theirs in spelled.items():
            types = [each.replace(ours, theirs) for each in types]
        wanted[name] = list(zip(table.columns.keys(), [each.lower() for each in types], strict=True))
    assert found == wanted


def test_views_stand_on_one_another(at_head: str) -> None:
    """The overview shows a company's newest price, its change and its listing; a signal shows what came of it."""
    script(at_head, PRICES)
    rows = psql(
        at_head,
        "SELECT ticker_symbol, listing_code, market_segment, close, change FROM mart.company_overview ORDER BY 1",
    )
    assert rows == [
        ("7203", "72030", "Prime", Decimal(110), Decimal("0.1")),
        ("HRBR", None, None, Decimal(110), Decimal("0.1")),
    ]
    outcomes = psql(
        at_head, "SELECT action, orders, filled_quantity, round(average_price, 4) FROM mart.signal_outcomes ORDER BY 1"
    )
    assert outcomes == [("BUY", 1, Decimal(3), Decimal("16.6667")), ("SELL", 0, Decimal(0), None)]
    with pytest.raises(asyncpg.DependentObjectsStillExistError):
        script(at_head, "DROP VIEW mart.daily_prices")


def test_refresh_concurrently(at_head: str) -> None:
    """Each materialised view can be refreshed concurrently, while another transaction has read it and goes on."""
    names = [row[0] for row in psql(at_head, "SELECT 'kpi.' || matviewname FROM pg_matviews WHERE schemaname = 'kpi'")]
    assert sorted(names) == ["kpi.market_daily", "kpi.strategy_daily"]
    script(at_head, PRICES)
    for name in names:
        with bystander(at_head, f"SELECT count(*) FROM {name}"):
            script(at_head, f"SET lock_timeout = '3s'; REFRESH MATERIALIZED VIEW CONCURRENTLY {name}")
            with pytest.raises(asyncpg.LockNotAvailableError):
                script(at_head, f"SET lock_timeout = '100ms'; REFRESH MATERIALIZED VIEW {name}")
    assert psql(at_head, "SELECT trade_date, companies, advancers, decliners, turnover FROM kpi.market_daily") == [
        (date(2025, 6, 2), 2, 0, 0, Decimal(1000)),
        (date(2025, 6, 3), 2, 2, 0, Decimal(1100)),
    ]
    assert psql(at_head, "SELECT day, signals, acted_upon, filled FROM kpi.strategy_daily ORDER BY 1") == [
        (date(2025, 6, 2), 1, 1, 1),
        (date(2025, 6, 3), 1, 0, 0),
    ]


def test_refresh_all(at_head: str) -> None:
    """kpi.refresh() brings every view up to date, concurrently where it can, and fills one that came empty."""
    script(at_head, PRICES)
    script(at_head, "REFRESH MATERIALIZED VIEW kpi.strategy_daily WITH NO DATA")
    with bystander(at_head, "SELECT count(*) FROM kpi.market_daily"):
        script(at_head, "SET lock_timeout = '3s'; SELECT kpi.refresh()")
    counts = "SELECT (SELECT count(*) FROM kpi.market_daily), (SELECT count(*) FROM kpi.strategy_daily)"
    assert psql(at_head, counts) == [(2, 2)]


# -- triggers ---------------------------------------------------------------------------------------------------------


def test_an_orders_life_is_kept(any_at_head: str) -> None:
    """Each status that an order comes to is an event; an update that leaves the status alone is none."""
    script(any_at_head, PRICES)
    for status in ("ACCEPTED", "ACCEPTED", "FILLED"):
        script(any_at_head, f"UPDATE orders SET status = '{status}', exchange_order_id = 'x'")
    events = psql(any_at_head, "SELECT status_before, status_after FROM order_events ORDER BY id")
    assert events == [(None, "NEW"), ("NEW", "ACCEPTED"), ("ACCEPTED", "FILLED")]


def test_a_role_that_may_only_write_signals(any_at_head: str, any_server: Postgres) -> None:
    """A role without any right on ref writes a signal of an instrument that is new; the trigger makes that."""
    if not psql(any_at_head, "SELECT FROM pg_roles WHERE rolname = 'signal_writer'"):
        script(any_at_head, "CREATE ROLE signal_writer LOGIN PASSWORD 'secret'")
    script(any_at_head, "GRANT INSERT ON signals TO signal_writer")
    url = any_server.url(any_at_head.rpartition("/")[2], user="signal_writer", password="secret")
    row = "('ema_cross', 'kraken', 'ETH/EUR', '1h', '2025-06-02', 'BUY', 80)"
    for _ in range(2):
        script(
            url,
            'INSERT INTO signals (strategy, exchange, symbol, timeframe, "timestamp", action, confidence)'
            f" VALUES {row} ON CONFLICT DO NOTHING",
        )
    assert psql(any_at_head, "SELECT exchange, symbol FROM ref.instruments") == [("kraken", "ETH/EUR")]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        script(url, "SELECT * FROM ref.instruments")


def test_writes_are_idempotent(any_at_head: str, schema: ModuleType) -> None:
    """Each table of the warehouse that is written to has a key for on_conflict_do_nothing, and keeps the first row."""
    rows: list[tuple[sa.Table, dict[str, Any]]] = [
        (schema.ref.exchanges, {"code": "XLON", "name": "A", "country": "GB", "currency": "GBP", "time_zone": "A"}),
        (schema.ref.holidays, {"exchange_code": "XTKS", "day": date(2026, 1, 1), "name": "A"}),
        (schema.ref.market_segments, {"code": "0199", "name": "A"}),
        (schema.ref.instruments, {"exchange": "kraken", "symbol": "A"}),
        (schema.stg.daily_quotes, {"code": "72030", "trade_date": date(2025, 6, 2), "close": Decimal(1)}),
    ]
    for table, row in rows:
        keys = next(
            [column.name for column in one.columns]
            for one in sorted(table.constraints, key=lambda each: str(each.name), reverse=True)
            if isinstance(one, sa.UniqueConstraint | sa.PrimaryKeyConstraint)
        )
        statement = insert(table).values(row).on_conflict_do_nothing(index_elements=keys)
        assert [execute(any_at_head, statement).rowcount for _ in range(2)] == [1, 0], table.fullname
