"""The one MetaData of the database, and every table in it.

Services import their tables from here and write with SQLAlchemy Core; none of them creates a table. Importing this
package gathers all areas, so `metadata` is whole wherever it is imported from.
"""

from __future__ import annotations

from migrations.schema.base import metadata
from migrations.schema.companies import companies, stock_prices
from migrations.schema.financials import financial_indicators, financial_statements
from migrations.schema.market import ohlcv, signals
from migrations.schema.trading import executions, orders, positions

__all__ = [
    "companies",
    "executions",
    "financial_indicators",
    "financial_statements",
    "metadata",
    "ohlcv",
    "orders",
    "positions",
    "signals",
    "stock_prices",
]
