"""Candles as exchanges publish them, and the signals that strategies derive from them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.base import AMOUNT, created_at, id_column, metadata
from migrations.schema.ref import instruments

ohlcv = sa.Table(
    "ohlcv",
    metadata,
    id_column(),
    sa.Column("exchange", sa.String(50), nullable=False),
    sa.Column("symbol", sa.String(50), nullable=False, comment="As the exchange writes it, such as BTC/USDT"),
    sa.Column("timeframe", sa.String(10), nullable=False, comment="Length of the candle, such as 1m, 1h, 1d"),
    sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False, comment="When the candle opened"),
    sa.Column("open", AMOUNT, nullable=False),
    sa.Column("high", AMOUNT, nullable=False),
    sa.Column("low", AMOUNT, nullable=False),
    sa.Column("close", AMOUNT, nullable=False),
    sa.Column("volume", AMOUNT, nullable=False),
    created_at(),
    sa.UniqueConstraint("exchange", "symbol", "timeframe", "timestamp"),
    sa.CheckConstraint("low <= LEAST(open, close) AND high >= GREATEST(open, close)", name="price_range"),
    sa.CheckConstraint("volume >= 0", name="volume_not_negative"),
    comment="Candles, one row per exchange, symbol, timeframe and opening time",
)
# Readers ask for the newest first: descending indexes give LIMIT n without a sort.
sa.Index(None, ohlcv.c.timestamp.desc())
sa.Index(None, ohlcv.c.symbol, ohlcv.c.timeframe, ohlcv.c.timestamp.desc())

signals = sa.Table(
    "signals",
    metadata,
    id_column(),
    sa.Column("strategy", sa.String(100), nullable=False),
    sa.Column("exchange", sa.String(50), nullable=False),
    sa.Column("symbol", sa.String(50), nullable=False),
    sa.Column("timeframe", sa.String(10), nullable=False),
    sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False, comment="Of the candle that gave the signal"),
    sa.Column("action", sa.String(10), nullable=False),
    sa.Column("confidence", sa.Numeric(5, 2), nullable=False, comment="Per cent"),
    sa.Column("price_ref", AMOUNT, comment="Price that the strategy saw"),
    sa.Column("indicators", JSONB, nullable=False, server_default=sa.text("'{}'"), comment="Values that led to it"),
    sa.Column("meta", JSONB, nullable=False, server_default=sa.text("'{}'"), comment="Strategy version, parameters"),
    created_at(),
    # Strategies leave it out: a trigger looks the instrument up, or makes it.
    sa.Column(
        "instrument_id",
        sa.BigInteger,
        sa.ForeignKey(instruments.c.id, ondelete="RESTRICT"),
        nullable=False,
        comment="Of exchange and symbol; a trigger fills it",
    ),
    # A strategy says one thing about one candle, so that a rerun writes nothing twice.
    sa.UniqueConstraint("strategy", "exchange", "symbol", "timeframe", "timestamp"),
    sa.CheckConstraint("action IN ('BUY', 'SELL', 'HOLD')", name="action_known"),
    sa.CheckConstraint("confidence BETWEEN 0 AND 100", name="confidence_per_cent"),
    comment="What strategies concluded, one row per strategy and candle",
)
sa.Index(None, signals.c.timestamp.desc())
sa.Index(None, signals.c.symbol, signals.c.timestamp.desc())
sa.Index(None, signals.c.instrument_id, signals.c.timestamp.desc())
