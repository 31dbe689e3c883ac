"""The services' own tables."""

from __future__ import annotations

from migrations.schema.public.companies import companies, stock_prices
from migrations.schema.public.financials import financial_indicators, financial_statements
from migrations.schema.public.market import ohlcv, signals
from migrations.schema.public.trading import executions, order_events, orders, positions

__all__ = [
    "companies",
    "executions",
    "financial_indicators",
    "financial_statements",
    "ohlcv",
    "order_events",
    "orders",
    "positions",
    "signals",
    "stock_prices",
]
