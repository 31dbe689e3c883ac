"""Views for people and reports: read only. Their queries are in the revisions."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema.base import AMOUNT, views

SCHEMA = "mart"

daily_prices = sa.Table(
    "daily_prices",
    views,
    sa.Column("company_id", sa.BigInteger),
    sa.Column("ticker_symbol", sa.String(10)),
    sa.Column("trade_date", sa.Date),
    sa.Column("close", AMOUNT),
    sa.Column("adjusted_close", AMOUNT),
    sa.Column("previous_adjusted_close", sa.Numeric),
    sa.Column("volume", sa.BigInteger),
    sa.Column("currency", sa.String(3)),
    sa.Column("turnover", sa.Numeric),
    schema=SCHEMA,
)

latest_prices = sa.Table(
    "latest_prices",
    views,
    sa.Column("company_id", sa.BigInteger),
    sa.Column("ticker_symbol", sa.String(10)),
    sa.Column("trade_date", sa.Date),
    sa.Column("close", AMOUNT),
    sa.Column("change", sa.Numeric),
    sa.Column("currency", sa.String(3)),
    schema=SCHEMA,
)

company_overview = sa.Table(
    "company_overview",
    views,
    sa.Column("company_id", sa.BigInteger),
    sa.Column("ticker_symbol", sa.String(10)),
    sa.Column("name", sa.String(255)),
    sa.Column("industry", sa.String(100)),
    sa.Column("listing_code", sa.String(5)),
    sa.Column("market_segment", sa.String(50)),
    sa.Column("trade_date", sa.Date),
    sa.Column("close", AMOUNT),
    sa.Column("change", sa.Numeric),
    sa.Column("currency", sa.String(3)),
    sa.Column("per", sa.Numeric(12, 4)),
    sa.Column("pbr", sa.Numeric(12, 4)),
    sa.Column("roe", sa.Numeric(9, 4)),
    sa.Column("equity_ratio", sa.Numeric(9, 4)),
    schema=SCHEMA,
)

signal_outcomes = sa.Table(
    "signal_outcomes",
    views,
    sa.Column("signal_id", sa.BigInteger),
    sa.Column("strategy", sa.String(100)),
    sa.Column("exchange", sa.String(50)),
    sa.Column("symbol", sa.String(50)),
    sa.Column("timestamp", sa.DateTime(timezone=True)),
    sa.Column("action", sa.String(10)),
    sa.Column("confidence", sa.Numeric(5, 2)),
    sa.Column("orders", sa.BigInteger),
    sa.Column("filled_quantity", sa.Numeric),
    sa.Column("average_price", sa.Numeric),
    schema=SCHEMA,
)
