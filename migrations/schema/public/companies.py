"""Who is listed, and what a share of it cost at the end of each day."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema.base import AMOUNT, created_at, id_column, metadata, updated_at
from migrations.schema.ref import listed_info

companies = sa.Table(
    "companies",
    metadata,
    id_column(),
    sa.Column("ticker_symbol", sa.String(10), nullable=False, comment="As the exchange lists it, such as 7203"),
    sa.Column(
        "edinet_code", sa.String(6), comment="Filing code of EDINET, such as E02144; foreign companies have none"
    ),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("market", sa.String(50), nullable=False),
    sa.Column("industry", sa.String(100)),
    sa.Column("currency", sa.String(3), nullable=False, server_default="JPY", comment="ISO 4217, of the listing"),
    sa.Column("listed_on", sa.Date),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    created_at(),
    updated_at(),
    sa.Column(
        "listing_code",
        sa.String(5),
        sa.ForeignKey(listed_info.c.code, ondelete="RESTRICT"),
        comment="Such as 72030; foreign companies have none",
    ),
    sa.UniqueConstraint("ticker_symbol"),
    sa.UniqueConstraint("edinet_code"),
    sa.CheckConstraint("edinet_code ~ '^E[0-9]{5}$'", name="edinet_code_form"),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_form"),
    comment="Listed companies, one row each",
)
sa.Index(None, companies.c.industry)
# An index and no constraint: it was built concurrently.
sa.Index("uq_companies_listing_code", companies.c.listing_code, unique=True)

stock_prices = sa.Table(
    "stock_prices",
    metadata,
    id_column(),
    sa.Column("company_id", sa.BigInteger, sa.ForeignKey(companies.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("trade_date", sa.Date, nullable=False),
    sa.Column("open", AMOUNT, nullable=False),
    sa.Column("high", AMOUNT, nullable=False),
    sa.Column("low", AMOUNT, nullable=False),
    sa.Column("close", AMOUNT, nullable=False),
    sa.Column("adjusted_close", AMOUNT, comment="Close after splits and dividends"),
    sa.Column("volume", sa.BigInteger, nullable=False, comment="Shares traded"),
    sa.Column("currency", sa.String(3), nullable=False, server_default="JPY", comment="ISO 4217, of this price"),
    created_at(),
    sa.UniqueConstraint("company_id", "trade_date"),
    sa.CheckConstraint("low <= LEAST(open, close) AND high >= GREATEST(open, close)", name="price_range"),
    sa.CheckConstraint("volume >= 0", name="volume_not_negative"),
    comment="Daily prices, one row per company and trading day",
)
sa.Index(None, stock_prices.c.trade_date.desc())
