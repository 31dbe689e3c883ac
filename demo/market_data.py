"""Plausible market data for the demo: random walks, the same on every run, loaded with COPY.

It is written for the reference project at the revision `HALF_WAY`, and columns that later revisions add are not filled.
"""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    import asyncpg

HALF_WAY = "20250217_101455630"
"""The revision at which all the tables that are filled here exist: the fourth."""

HOURS = 13_128
"""Candles of each pair: a year and a half."""

YEARS = range(2015, 2025)
"""Years of daily prices and of statements."""

SEED = 20_250_217
TIMEFRAME = "1h"
STRATEGY = "ema_cross"
FIRST_HOUR = datetime(2023, 1, 1, tzinfo=UTC)

PAIRS: tuple[tuple[str, str, float, float], ...] = (
    # exchange, symbol, first price, hourly volatility
    ("binance", "BTC/USDT", 16_540.0, 0.0055),
    ("binance", "ETH/USDT", 1_195.0, 0.0068),
    ("binance", "SOL/USDT", 9.96, 0.0102),
    ("binance", "XRP/USDT", 0.3388, 0.0079),
    ("binance", "ADA/USDT", 0.2462, 0.0081),
    ("binance", "DOGE/USDT", 0.0702, 0.0089),
    ("binance", "AVAX/USDT", 10.9, 0.0093),
    ("binance", "DOT/USDT", 4.32, 0.0078),
    ("binance", "LINK/USDT", 5.56, 0.0082),
    ("binance", "LTC/USDT", 70.1, 0.0070),
    ("kraken", "BTC/EUR", 15_440.0, 0.0055),
    ("kraken", "ETH/EUR", 1_117.0, 0.0068),
    ("kraken", "SOL/EUR", 9.31, 0.0102),
    ("kraken", "XRP/EUR", 0.3169, 0.0079),
    ("kraken", "ADA/EUR", 0.2303, 0.0081),
    ("bitflyer", "BTC/JPY", 2_170_000.0, 0.0055),
    ("bitflyer", "ETH/JPY", 156_900.0, 0.0068),
    ("bitflyer", "XRP/JPY", 44.6, 0.0079),
    ("bitflyer", "LTC/JPY", 9_210.0, 0.0070),
    ("bitflyer", "BCH/JPY", 12_740.0, 0.0076),
)

COMPANIES: tuple[tuple[str, str | None, str, str, str, str, float], ...] = (
    # ticker, EDINET code, name, market, industry, currency, first price
    ("2101", "E90001", "Akane Foods", "Prime", "Foods", "JPY", 1_820.0),
    ("2107", "E90002", "Hinode Beverages", "Prime", "Foods", "JPY", 3_140.0),
    ("3312", "E90003", "Kawabe Textiles", "Standard", "Textiles", "JPY", 412.0),
    ("4108", "E90004", "Minato Chemical", "Prime", "Chemicals", "JPY", 2_255.0),
    ("4123", "E90005", "Shirakaba Pharma", "Prime", "Pharmaceuticals", "JPY", 5_480.0),
    ("5206", "E90006", "Tokiwa Glass", "Prime", "Glass and Ceramics", "JPY", 980.0),
    ("5414", "E90007", "Oku Steel", "Prime", "Iron and Steel", "JPY", 1_310.0),
    ("6113", "E90008", "Sumire Machine Works", "Prime", "Machinery", "JPY", 2_690.0),
    ("6127", "E90009", "Hayate Robotics", "Growth", "Machinery", "JPY", 1_105.0),
    ("6707", "E90010", "Nagisa Electric", "Prime", "Electric Appliances", "JPY", 4_020.0),
    ("6719", "E90011", "Asagiri Semiconductor", "Prime", "Electric Appliances", "JPY", 7_730.0),
    ("7208", "E90012", "Kitakaze Motors", "Prime", "Transportation Equipment", "JPY", 1_540.0),
    ("7715", "E90013", "Tsukimi Optical", "Standard", "Precision Instruments", "JPY", 866.0),
    ("8008", "E90014", "Yamabiko Trading", "Prime", "Wholesale Trade", "JPY", 1_990.0),
    ("8217", "E90015", "Komorebi Stores", "Standard", "Retail Trade", "JPY", 1_273.0),
    ("8309", "E90016", "Daichi Trust", "Prime", "Banks", "JPY", 742.0),
    ("9011", "E90017", "Setouchi Railway", "Prime", "Land Transportation", "JPY", 3_365.0),
    ("9104", "E90018", "Kuroshio Lines", "Prime", "Marine Transportation", "JPY", 2_810.0),
    ("9417", "E90019", "Hotaru Telecom", "Prime", "Information and Communication", "JPY", 2_475.0),
    ("9505", "E90020", "Inaho Power", "Prime", "Electric Power and Gas", "JPY", 1_066.0),
    ("HRBR", None, "Harbour Software Inc.", "NASDAQ", "Software", "USD", 41.2),
    ("PLNS", None, "Plains Energy Corp.", "NYSE", "Energy", "USD", 63.5),
    ("CDRW", None, "Cedarwood Health Inc.", "NYSE", "Health Care", "USD", 88.9),
    ("ALPN", None, "Alpenrand AG", "XETRA", "Machinery", "EUR", 54.7),
)


async def load(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Fill the tables of a database at `HALF_WAY`.

    Args:
        connection: to that database, whose tables are empty.

    Returns:
        The number of rows of each table.
    """
    signals: list[str] = []

    async def copy(table: str, columns: str, blocks: Iterable[str]) -> None:
        async def encoded() -> AsyncIterator[bytes]:
            for block in blocks:
                yield block.encode()

        await connection.copy_to_table(table, source=encoded(), columns=columns.split())

    async with connection.transaction():
        await copy("companies", "id ticker_symbol edinet_code name market industry currency listed_on", _companies())
        await copy("stock_prices", "company_id trade_date open high low close adjusted_close volume", _stock_prices())
        await copy(
            "financial_statements",
            "id company_id fiscal_year period period_end filed_on revenue operating_income ordinary_income net_income"
            " total_assets total_liabilities net_assets operating_cash_flow investing_cash_flow financing_cash_flow",
            _statements(),
        )
        await connection.execute(_INDICATORS)
        await copy("ohlcv", "exchange symbol timeframe timestamp open high low close volume", _candles(signals))
        await copy(
            "signals",
            "strategy exchange symbol timeframe timestamp action confidence price_ref indicators meta",
            ["".join(signals)],
        )
        # COPY takes the ids that are given, and the sequences do not notice.
        for table in ("companies", "financial_statements"):
            await connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            )
    await connection.execute("ANALYZE")
    return await count_rows(connection)


async def count_rows(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Count the rows of each table that `load` fills."""
    tables = ("companies", "stock_prices", "financial_statements", "financial_indicators", "ohlcv", "signals")
    return {table: int(await connection.fetchval(f"SELECT count(*) FROM {table}")) for table in tables}


def _row(*values: object) -> str:
    r"""One line of COPY's text format; no value here has a tab, a backslash or a newline."""
    return "\t".join("\\N" if value is None else str(value) for value in values) + "\n"


def _companies() -> Iterator[str]:
    for number, (ticker, edinet, name, market, industry, currency, _) in enumerate(COMPANIES, start=1):
        listed = date(1950 + number * 2, 1 + number % 12, 1 + number)
        yield _row(number, ticker, edinet, name, market, industry, currency, listed)


def _stock_prices() -> Iterator[str]:
    days = [
        day
        for day in (date(YEARS.start, 1, 5) + timedelta(n) for n in range(366 * len(YEARS)))
        if day.weekday() < 5 and day.year in YEARS
    ]
    for number, (ticker, *_, first) in enumerate(COMPANIES, start=1):
        random_ = random.Random(f"{SEED}/{ticker}")
        gauss, close, lines = random_.gauss, first, []
        for day in days:
            opened = close * math.exp(gauss(0, 0.006))
            close = opened * math.exp(gauss(0.0002, 0.014))
            high = max(opened, close) * (1 + abs(gauss(0, 0.005)))
            low = min(opened, close) * (1 - abs(gauss(0, 0.005)))
            volume = int(random_.lognormvariate(13, 0.6))
            lines.append(f"{number}\t{day}\t{opened:.2f}\t{high:.2f}\t{low:.2f}\t{close:.2f}\t{close:.2f}\t{volume}\n")
        yield "".join(lines)


def _statements() -> Iterator[str]:
    key = 0
    for number, (ticker, *_) in enumerate(COMPANIES, start=1):
        random_ = random.Random(f"{SEED}/statements/{ticker}")
        revenue = random_.lognormvariate(25.5, 1.0)
        for year in YEARS:
            key += 1
            revenue *= 1 + random_.gauss(0.03, 0.06)
            operating = revenue * random_.gauss(0.09, 0.03)
            ordinary = operating * random_.gauss(1.02, 0.03)
            net = ordinary * 0.69
            assets = revenue * random_.uniform(0.9, 1.6)
            liabilities = assets * random_.uniform(0.35, 0.65)
            cash = (operating * random_.gauss(1.1, 0.1), -operating * random_.uniform(0.3, 0.9), -net * 0.35)
            money = (revenue, operating, ordinary, net, assets, liabilities, assets - liabilities, *cash)
            end = date(year + 1, 3, 31)
            yield _row(key, number, year, "FY", end, end + timedelta(85), *(f"{amount:.2f}" for amount in money))


_INDICATORS = """
INSERT INTO financial_indicators (company_id, statement_id, calculated_on, roe, roa, equity_ratio)
SELECT company_id, id, filed_on,
       round(100 * net_income / net_assets, 4),
       round(100 * net_income / total_assets, 4),
       round(100 * net_assets / total_assets, 4)
  FROM financial_statements
 ORDER BY id
"""


def _candles(signals: list[str]) -> Iterator[str]:
    """Give the candles of one pair after the other; note a signal whenever the quick average crosses the slow one."""
    hours = [(FIRST_HOUR + timedelta(hours=hour)).isoformat() for hour in range(HOURS)]
    busy = [1.0 + 0.45 * math.sin((hour - 8) / 24 * 2 * math.pi) for hour in range(24)]
    for exchange, symbol, first, volatility in PAIRS:
        # The same walk for a coin in every currency: arbitrage keeps exchanges together.
        random_ = random.Random(f"{SEED}/{symbol.partition('/')[0]}")
        gauss = random_.gauss
        close = quick = slow = first
        turnover = 2_500_000.0 / first
        lines = []
        for hour, moment in enumerate(hours):
            opened = close
            change = gauss(0.00002, volatility)
            close = opened * math.exp(change)
            high = max(opened, close) * (1 + abs(gauss(0, volatility / 3)))
            low = min(opened, close) * (1 - abs(gauss(0, volatility / 3)))
            # More is traded by day than by night, and when the price moves.
            volume = turnover * busy[hour % 24] * (0.6 + 40 * abs(change))
            lines.append(
                f"{exchange}\t{symbol}\t{TIMEFRAME}\t{moment}"
                f"\t{opened:.8f}\t{high:.8f}\t{low:.8f}\t{close:.8f}\t{volume:.8f}\n"
            )
            was_above = quick > slow
            quick += (close - quick) * 2 / 13
            slow += (close - slow) * 2 / 27
            if (quick > slow) is not was_above:
                action = "SELL" if was_above else "BUY"
                confidence = f"{min(99.0, 50 + 4000 * abs(quick - slow) / slow):.2f}"
                values = json.dumps({"ema_12": round(quick, 8), "ema_26": round(slow, 8)})
                meta = json.dumps({"strategy_version": "1.3.0", "quick": 12, "slow": 26})
                price = f"{close:.8f}"
                signals.append(
                    _row(STRATEGY, exchange, symbol, TIMEFRAME, moment, action, confidence, price, values, meta)
                )
        yield "".join(lines)
