"""The reference project by stock Alembic: what a user has before Headstart must work without it too."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).resolve().parents[2]
INI = ROOT / "alembic.ini"

# What makes up a schema, each object as Postgres itself writes it, without object ids and without Alembic's own table.
CATALOG = """
WITH own AS (
    SELECT oid, relname, relkind FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
)
SELECT 'column', concat_ws(' ', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                           pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
  FROM own JOIN pg_attribute ON attrelid = own.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
 WHERE attnum > 0 AND NOT attisdropped AND relkind = 'r'
UNION ALL SELECT 'relation', concat_ws(' ', relkind, relname, obj_description(oid, 'pg_class')) FROM own
UNION ALL SELECT 'constraint', concat_ws(' ', relname, conname, convalidated, pg_get_constraintdef(c.oid))
  FROM own JOIN pg_constraint c ON conrelid = own.oid
UNION ALL SELECT 'index', concat_ws(' ', indisvalid, pg_get_indexdef(indexrelid)) FROM own JOIN pg_index ON indrelid =
oid UNION ALL SELECT 'trigger', pg_get_triggerdef(t.oid) FROM own JOIN pg_trigger t ON tgrelid = own.oid
 WHERE NOT tgisinternal
UNION ALL SELECT 'function', concat_ws(' ', pg_get_functiondef(oid), obj_description(oid, 'pg_proc'))
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2
"""

CANDLE: dict[str, Any] = {
    "exchange": "binance",
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "timestamp": datetime(2025, 1, 1, tzinfo=UTC),
    "open": Decimal("94591.78000000"),
    "high": Decimal("94696.00000001"),
    "low": Decimal("94300.00000000"),
    "close": Decimal("94401.12345678"),
    "volume": Decimal("514.00000001"),
}
SIGNAL: dict[str, Any] = {
    "strategy": "ema_cross",
    "exchange": "binance",
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "timestamp": datetime(2025, 1, 1, tzinfo=UTC),
    "action": "BUY",
    "confidence": Decimal("87.25"),
    "price_ref": Decimal("94401.12345678"),
    "indicators": {"ema_12": 94400.5},
    "meta": {"strategy_version": "1.3.0"},
}


def alembic(url: str | None, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the stock command in an empty folder of nobody's, with the project's ini."""
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {} if url is None else {"DATABASE_URL": url}
    argv = [sys.executable, "-m", "alembic", "-c", str(INI), *args]
    return subprocess.run(argv, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=120)


def on(url: str, work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
    """Do the work in one transaction, as a service would: SQLAlchemy Core over asyncpg."""

    async def run() -> Any:
        engine = create_async_engine(re.sub(r"^postgresql:", "postgresql+asyncpg:", url), poolclass=NullPool)
        async with engine.begin() as connection:
            return await work(connection)

    return asyncio.run(run())


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    """Give the rows of a query."""

    async def work(connection: AsyncConnection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.exec_driver_sql(query)]

    return cast("list[tuple[Any, ...]]", on(url, work))


def catalog(url: str) -> list[tuple[Any, ...]]:
    """Give the schema as comparable rows."""
    return fetch(url, CATALOG)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, sa.Table]:
    """The tables as services import them."""
    monkeypatch.syspath_prepend(ROOT)
    return dict(importlib.import_module("migrations.schema").metadata.tables)


@pytest.fixture
def at_head(database: str) -> str:
    """The URL of a database at head."""
    done = alembic(database, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return database


def test_head_base_head(database: str) -> None:
    """The stock command takes an empty database to head, back to nothing, and to the very same schema again."""
    empty = catalog(database)
    seen = []
    for args in (("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head")):
        done = alembic(database, *args)
        assert done.returncode == 0, done.stderr
        seen.append(catalog(database))
    assert len(seen[0]) > 150
    assert seen == [seen[0], empty, seen[0]]


def test_each_revision_is_reversible(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each revision on its own, taken back and applied again, leaves the schema that was there before and after it."""
    monkeypatch.setenv("DATABASE_URL", database)
    config = Config(INI)
    history = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    assert len(history) >= 8
    before, parent = catalog(database), "base"
    for revision in history:
        command.upgrade(config, revision)
        after = catalog(database)
        command.downgrade(config, parent)
        assert catalog(database) == before, f"after downgrade of {revision}"
        command.upgrade(config, revision)
        assert catalog(database) == after, f"after the second upgrade to {revision}"
        before, parent = after, revision


def test_revision_ids_are_timestamps() -> None:
    """Ids are YYYYMMDD_HHMMSSmmm, rise along the history, and name the files; each revision tells of its locks."""
    scripts = list(ScriptDirectory.from_config(Config(INI)).walk_revisions())[::-1]
    ids = [script.revision for script in scripts]
    assert ids == sorted(ids)
    for script in scripts:
        assert datetime.strptime(script.revision, "%Y%m%d_%H%M%S%f").replace(tzinfo=UTC).year >= 2025
        assert Path(script.path).name.startswith(script.revision[:15])
        assert "\nLocks: " in script.longdoc


def test_metadata_is_what_the_revisions_build(at_head: str) -> None:
    """`alembic check` finds no difference at head, and finds a dropped CHECK and a dropped column."""
    done = alembic(at_head, "check")
    assert (done.returncode, done.stdout.strip()) == (0, "No new upgrade operations detected."), done.stderr

    for change in ("DROP CONSTRAINT ck_ohlcv_price_range", "DROP COLUMN industry"):
        table = "ohlcv" if "ohlcv" in change else "companies"
        fetch_nothing(at_head, f"ALTER TABLE {table} {change}")
        assert alembic(at_head, "check").returncode != 0, change
        assert alembic(at_head, "downgrade", "base").returncode == 0
        assert alembic(at_head, "upgrade", "head").returncode == 0


def fetch_nothing(url: str, statement: str) -> None:
    """Run a statement that gives no rows."""
    on(url, lambda connection: connection.exec_driver_sql(statement))


def test_offline_sql_builds_the_same_schema(at_head: str, database: str) -> None:
    """The SQL that `alembic upgrade head --sql` prints, without an address, names everything that the online run built."""
    done = alembic(None, "upgrade", "head", "--sql")
    assert done.returncode == 0, done.stderr
    names = [
        row[0] for row in fetch(at_head, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    ]
    missing = [name for name in names if name not in done.stdout and not name.endswith(("_id_seq", "_pkc"))]
    assert missing == []


def test_url_is_mandatory() -> None:
    """Without DATABASE_URL nothing is assumed: the error says what to set."""
    done = alembic(None, "current")
    assert done.returncode != 0
    assert "DATABASE_URL is not set" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_url_in_any_spelling(any_database: str, scheme: str) -> None:
    """DATABASE_URL may have the scheme of any driver."""
    done = alembic(any_database.replace("postgresql", scheme, 1), "upgrade", "head")
    assert done.returncode == 0, done.stderr


def test_ohlcv_is_as_required(at_head: str) -> None:
    """Table ohlcv has R1.2's columns as NUMERIC(20,8), is unique on its first four, and indexes time descending."""
    types = dict(fetch(at_head, _TYPES.format("ohlcv")))
    assert {types[name] for name in ("open", "high", "low", "close", "volume")} == {"numeric(20,8) NOT NULL"}
    assert types["timestamp"] == "timestamp with time zone NOT NULL"
    assert {types[name].split("(")[0] for name in ("exchange", "symbol", "timeframe")} == {"character varying"}
    assert _constraints(at_head, "ohlcv", "u") == ['UNIQUE (exchange, symbol, timeframe, "timestamp")']
    assert _indexes(at_head, "ohlcv") >= {'("timestamp" DESC)', '(symbol, timeframe, "timestamp" DESC)'}


def test_signals_is_as_required(at_head: str) -> None:
    """Table signals has R1.2's columns and types, and indexes time descending."""
    types = dict(fetch(at_head, _TYPES.format("signals")))
    assert types["strategy"].startswith("character varying")
    assert types["action"].startswith("character varying")
    assert types["confidence"] == "numeric(5,2) NOT NULL"
    assert types["price_ref"] == "numeric(20,8)"
    assert (types["indicators"], types["meta"]) == ("jsonb NOT NULL", "jsonb NOT NULL")
    assert '("timestamp" DESC)' in _indexes(at_head, "signals")


def test_foreign_keys_cross_services(at_head: str) -> None:
    """Orders point at signals, executions at orders and positions."""
    assert _constraints(at_head, "orders", "f") == ["FOREIGN KEY (signal_id) REFERENCES signals(id) ON DELETE RESTRICT"]
    assert _constraints(at_head, "executions", "f") == [
        "FOREIGN KEY (order_id) REFERENCES orders(id) ON DELETE RESTRICT",
        "FOREIGN KEY (position_id) REFERENCES positions(id) ON DELETE RESTRICT",
    ]


def test_writes_are_idempotent(at_head: str, tables: dict[str, sa.Table]) -> None:
    """A candle or signal written twice with on_conflict_do_nothing is there once, to the last digit."""
    keys = {
        "ohlcv": ["exchange", "symbol", "timeframe", "timestamp"],
        "signals": ["strategy", "exchange", "symbol", "timeframe", "timestamp"],
    }
    for name, row in (("ohlcv", CANDLE), ("signals", SIGNAL)):
        statement = insert(tables[name]).values(row).on_conflict_do_nothing(index_elements=keys[name])
        counts = [on(at_head, lambda connection, do=statement: connection.execute(do)).rowcount for _ in range(2)]
        assert counts == [1, 0]
        query = sa.select(*(tables[name].c[column] for column in row))
        rows = on(at_head, lambda connection, do=query: connection.execute(do)).mappings().all()
        assert [dict(found) for found in rows] == [row]


@pytest.mark.parametrize(
    ("name", "wrong", "constraint"),
    [
        ("ohlcv", {"high": Decimal(1)}, "ck_ohlcv_price_range"),
        ("ohlcv", {"volume": Decimal(-1)}, "ck_ohlcv_volume_not_negative"),
        ("signals", {"action": "PANIC"}, "ck_signals_action_known"),
        ("signals", {"confidence": Decimal("100.01")}, "ck_signals_confidence_per_cent"),
    ],
)
def test_implausible_rows_are_refused(
    at_head: str, tables: dict[str, sa.Table], name: str, wrong: dict[str, Any], constraint: str
) -> None:
    """A row that cannot be true is refused by a CHECK whose name says why."""
    row = {"ohlcv": CANDLE, "signals": SIGNAL}[name] | wrong
    with pytest.raises(IntegrityError, match=constraint):
        on(at_head, lambda connection: connection.execute(insert(tables[name]).values(row)))


def test_updated_at_follows_real_changes(at_head: str) -> None:
    """An update that changes something moves updated_at; one that changes nothing does not."""
    company = (
        "INSERT INTO companies (ticker_symbol, name, market, updated_at) VALUES ('7203', 'A', 'Prime', '2025-01-01')"
    )
    fetch_nothing(at_head, company)
    moved = []
    for name in ("A", "B"):
        fetch_nothing(at_head, f"UPDATE companies SET name = '{name}'")
        moved += fetch(at_head, "SELECT updated_at > '2025-01-02' FROM companies")
    assert moved == [(False,), (True,)]


def test_backfill_can_be_interrupted(database: str) -> None:
    """The batches fill what is empty, leave what is filled alone, and end in a column that refuses NULL."""
    assert alembic(database, "upgrade", "20250428_112939702").returncode == 0
    fetch_nothing(
        database,
        "INSERT INTO companies (ticker_symbol, name, market, currency)"
        " VALUES ('7203', 'A', 'Prime', 'JPY'), ('HRBR', 'B', 'NASDAQ', 'USD')",
    )
    fetch_nothing(
        database,
        "INSERT INTO stock_prices (company_id, trade_date, open, high, low, close, volume, currency)"
        " SELECT id, date '2000-01-01' + day, 1, 1, 1, 1, 1, CASE WHEN day < 3 THEN 'XXX' END"
        " FROM companies, generate_series(0, 11999) AS day",
    )
    done = alembic(database, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    counts = fetch(database, "SELECT currency, count(*) FROM stock_prices GROUP BY 1 ORDER BY 1")
    assert counts == [("JPY", 11997), ("USD", 11997), ("XXX", 6)]
    with pytest.raises(IntegrityError, match="currency"):
        fetch_nothing(database, "UPDATE stock_prices SET currency = NULL")


_TYPES = """
SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
  FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped
"""


def _constraints(url: str, table: str, kind: str) -> list[str]:
    """Give a table's constraints of one kind (`contype`) as Postgres writes them."""
    where = f"conrelid = '{table}'::regclass AND contype = '{kind}'"
    return [
        row[0] for row in fetch(url, f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE {where} ORDER BY 1")
    ]


def _indexes(url: str, table: str) -> set[str]:
    """Give the column lists of a table's valid btree indexes as Postgres writes them."""
    query = f"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '{table}'::regclass AND indisvalid"
    return {row[0].partition(" USING btree ")[2] for row in fetch(url, query)}
