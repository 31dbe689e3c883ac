"""Figures that are computed ahead: materialised views, read only. `kpi.refresh()` brings them up to date."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema.base import views

SCHEMA = "kpi"

market_daily = sa.Table(
    "market_daily",
    views,
    sa.Column("trade_date", sa.Date),
    sa.Column("currency", sa.String(3)),
    sa.Column("companies", sa.BigInteger),
    sa.Column("advancers", sa.BigInteger),
    sa.Column("decliners", sa.BigInteger),
    sa.Column("turnover", sa.Numeric),
    schema=SCHEMA,
)

strategy_daily = sa.Table(
    "strategy_daily",
    views,
    sa.Column("strategy", sa.String(100)),
    sa.Column("day", sa.Date),
    sa.Column("signals", sa.BigInteger),
    sa.Column("acted_upon", sa.BigInteger),
    sa.Column("filled", sa.BigInteger),
    sa.Column("average_confidence", sa.Numeric),
    schema=SCHEMA,
)
