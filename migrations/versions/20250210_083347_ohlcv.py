"""Create ohlcv.

Candles, as every exchange publishes them. The unique constraint is what makes collectors idempotent: they insert with
`ON CONFLICT (exchange, symbol, timeframe, "timestamp") DO NOTHING` and can fetch the same hours again at any time.

Locks: ACCESS EXCLUSIVE on the new table only, until the transaction commits. Milliseconds.
Going down drops the table with all its rows.

Revision ID: 20250210_083347912
Revises: 20250127_141902055
Create Date: 2025-02-10 08:33:47.912+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250210_083347912"
down_revision: str | Sequence[str] | None = "20250127_141902055"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table with its constraints and the descending index."""
    op.create_table(
        "ohlcv",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False, comment="As the exchange writes it, such as BTC/USDT"),
        sa.Column("timeframe", sa.String(10), nullable=False, comment="Length of the candle, such as 1m, 1h, 1d"),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False, comment="When the candle opened"),
        sa.Column("open", sa.Numeric(20, 8), nullable=False),
        sa.Column("high", sa.Numeric(20, 8), nullable=False),
        sa.Column("low", sa.Numeric(20, 8), nullable=False),
        sa.Column("close", sa.Numeric(20, 8), nullable=False),
        sa.Column("volume", sa.Numeric(20, 8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ohlcv")),
        sa.UniqueConstraint(
            "exchange",
            "symbol",
            "timeframe",
            "timestamp",
            name=op.f("uq_ohlcv_exchange_symbol_timeframe_timestamp"),
        ),
        sa.CheckConstraint(
            "low <= LEAST(open, close) AND high >= GREATEST(open, close)", name=op.f("ck_ohlcv_price_range")
        ),
        sa.CheckConstraint("volume >= 0", name=op.f("ck_ohlcv_volume_not_negative")),
        comment="Candles, one row per exchange, symbol, timeframe and opening time",
    )
    op.create_index(op.f("ix_ohlcv_timestamp"), "ohlcv", [sa.text('"timestamp" DESC')])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("ohlcv")
