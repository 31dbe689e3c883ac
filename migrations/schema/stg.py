"""What arrived, typed and without duplicates. `stg.load_daily_quotes()` fills `daily_quotes` from the views."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.base import AMOUNT, metadata, views

SCHEMA = "stg"

daily_quotes = sa.Table(
    "daily_quotes",
    metadata,
    sa.Column("code", sa.String(5), primary_key=True),
    sa.Column("trade_date", sa.Date, primary_key=True),
    sa.Column("open", AMOUNT, comment="Like the other prices NULL on a day without a trade"),
    sa.Column("high", AMOUNT),
    sa.Column("low", AMOUNT),
    sa.Column("close", AMOUNT),
    sa.Column("volume", sa.BigInteger),
    sa.Column("turnover", sa.Numeric(24, 2)),
    sa.Column(
        "adjustment_factor",
        sa.Numeric(12, 6),
        nullable=False,
        server_default=sa.text("1"),
        comment="Of a split on this day, such as 0.5; otherwise 1",
    ),
    sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("code ~ '^[0-9][0-9A-Z]{4}$'", name="code_form"),
    sa.CheckConstraint("low <= LEAST(open, close) AND high >= GREATEST(open, close)", name="price_range"),
    sa.CheckConstraint("volume >= 0", name="volume_not_negative"),
    schema=SCHEMA,
    comment="Daily quotes as the exchange gives them, one row per code and day",
)
sa.Index(None, daily_quotes.c.trade_date)

latest_landings = sa.Table(
    "latest_landings",
    views,
    sa.Column("source", sa.String(50)),
    sa.Column("dataset", sa.String(50)),
    sa.Column("object_key", sa.String(200)),
    sa.Column("fetched_at", sa.DateTime(timezone=True)),
    sa.Column("payload", JSONB),
    schema=SCHEMA,
)

landed_daily_quotes = sa.Table(
    "landed_daily_quotes",
    views,
    sa.Column("source", sa.String(50)),
    sa.Column("fetched_at", sa.DateTime(timezone=True)),
    sa.Column("code", sa.Text),
    sa.Column("trade_date", sa.Date),
    sa.Column("open", sa.Numeric),
    sa.Column("high", sa.Numeric),
    sa.Column("low", sa.Numeric),
    sa.Column("close", sa.Numeric),
    sa.Column("volume", sa.BigInteger),
    sa.Column("turnover", sa.Numeric),
    sa.Column("adjustment_factor", sa.Numeric),
    schema=SCHEMA,
)
