"""Create signals.

What strategies conclude from candles, with the values that led there as JSONB, because each strategy has other ones.
One row per strategy and candle: a strategy that runs again over the same candles writes nothing twice.

Locks: ACCESS EXCLUSIVE on the new table only, until the transaction commits. Milliseconds.
Going down drops the table with all its rows.

Revision ID: 20250217_101455630
Revises: 20250210_083347912
Create Date: 2025-02-17 10:14:55.630+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250217_101455630"
down_revision: str | Sequence[str] | None = "20250210_083347912"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table with its constraints and descending indexes."""
    op.create_table(
        "signals",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("strategy", sa.String(100), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("timeframe", sa.String(10), nullable=False),
        sa.Column(
            "timestamp", sa.DateTime(timezone=True), nullable=False, comment="Of the candle that gave the signal"
        ),
        sa.Column("action", sa.String(10), nullable=False),
        sa.Column("confidence", sa.Numeric(5, 2), nullable=False, comment="Per cent"),
        sa.Column("price_ref", sa.Numeric(20, 8), nullable=True, comment="Price that the strategy saw"),
        sa.Column("indicators", JSONB, nullable=False, server_default=sa.text("'{}'"), comment="Values that led to it"),
        sa.Column(
            "meta", JSONB, nullable=False, server_default=sa.text("'{}'"), comment="Strategy version, parameters"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signals")),
        sa.UniqueConstraint(
            "strategy",
            "exchange",
            "symbol",
            "timeframe",
            "timestamp",
            name=op.f("uq_signals_strategy_exchange_symbol_timeframe_timestamp"),
        ),
        sa.CheckConstraint("action IN ('BUY', 'SELL', 'HOLD')", name=op.f("ck_signals_action_known")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 100", name=op.f("ck_signals_confidence_per_cent")),
        comment="What strategies concluded, one row per strategy and candle",
    )
    op.create_index(op.f("ix_signals_timestamp"), "signals", [sa.text('"timestamp" DESC')])
    op.create_index(op.f("ix_signals_symbol_timestamp"), "signals", ["symbol", sa.text('"timestamp" DESC')])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("signals")
