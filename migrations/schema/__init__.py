"""The one MetaData of the database, and every table in it.

Services import their tables from here and write with SQLAlchemy Core; none of them creates a table. Importing this
package gathers all schemas, so `metadata` is whole wherever it is imported from. Tables of `public` are names here;
those of the warehouse are in modules named after their schemas: `ref.listed_info`, `mart.company_overview`. What can be
read and not written, views and materialised views, is in `views`, which Alembic does not compare.
"""

from __future__ import annotations

from migrations.schema import kpi, mart, raw, ref, stg
from migrations.schema.base import metadata, views
from migrations.schema.public import (
    companies,
    executions,
    financial_indicators,
    financial_statements,
    ohlcv,
    order_events,
    orders,
    positions,
    signals,
    stock_prices,
)

__all__ = [
    "companies",
    "executions",
    "financial_indicators",
    "financial_statements",
    "kpi",
    "mart",
    "metadata",
    "ohlcv",
    "order_events",
    "orders",
    "positions",
    "raw",
    "ref",
    "signals",
    "stg",
    "stock_prices",
    "views",
]
