"""Create companies and stock_prices.

The first tables of the shared history: who is listed, and what a share cost at the end of each day. Both are new, so
that nothing can be waiting for them.

Locks: ACCESS EXCLUSIVE on the two new tables only, until the transaction commits. Milliseconds.
Going down drops both tables with all their rows.

Revision ID: 20250113_092114387
Revises:
Create Date: 2025-01-13 09:21:14.387+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250113_092114387"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both tables with their constraints and indexes."""
    op.create_table(
        "companies",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("ticker_symbol", sa.String(10), nullable=False, comment="As the exchange lists it, such as 7203"),
        sa.Column(
            "edinet_code",
            sa.String(6),
            nullable=True,
            comment="Filing code of EDINET, such as E02144; foreign companies have none",
        ),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("market", sa.String(50), nullable=False),
        sa.Column("industry", sa.String(100), nullable=True),
        sa.Column("currency", sa.String(3), nullable=False, server_default="JPY", comment="ISO 4217, of the listing"),
        sa.Column("listed_on", sa.Date, nullable=True),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companies")),
        sa.UniqueConstraint("ticker_symbol", name=op.f("uq_companies_ticker_symbol")),
        sa.UniqueConstraint("edinet_code", name=op.f("uq_companies_edinet_code")),
        sa.CheckConstraint("edinet_code ~ '^E[0-9]{5}$'", name=op.f("ck_companies_edinet_code_form")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_companies_currency_form")),
        comment="Listed companies, one row each",
    )
    op.create_index(op.f("ix_companies_industry"), "companies", ["industry"])

    op.create_table(
        "stock_prices",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("company_id", sa.BigInteger, nullable=False),
        sa.Column("trade_date", sa.Date, nullable=False),
        sa.Column("open", sa.Numeric(20, 8), nullable=False),
        sa.Column("high", sa.Numeric(20, 8), nullable=False),
        sa.Column("low", sa.Numeric(20, 8), nullable=False),
        sa.Column("close", sa.Numeric(20, 8), nullable=False),
        sa.Column("adjusted_close", sa.Numeric(20, 8), nullable=True, comment="Close after splits and dividends"),
        sa.Column("volume", sa.BigInteger, nullable=False, comment="Shares traded"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stock_prices")),
        sa.ForeignKeyConstraint(
            ["company_id"], ["companies.id"], name=op.f("fk_stock_prices_company_id_companies"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("company_id", "trade_date", name=op.f("uq_stock_prices_company_id_trade_date")),
        sa.CheckConstraint(
            "low <= LEAST(open, close) AND high >= GREATEST(open, close)", name=op.f("ck_stock_prices_price_range")
        ),
        sa.CheckConstraint("volume >= 0", name=op.f("ck_stock_prices_volume_not_negative")),
        comment="Daily prices, one row per company and trading day",
    )
    op.create_index(op.f("ix_stock_prices_trade_date"), "stock_prices", [sa.text("trade_date DESC")])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("stock_prices")
    op.drop_table("companies")
