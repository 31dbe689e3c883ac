"""What companies report, and what is computed from it."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema.base import MONEY, created_at, id_column, metadata, updated_at
from migrations.schema.public.companies import companies

financial_statements = sa.Table(
    "financial_statements",
    metadata,
    id_column(),
    sa.Column("company_id", sa.BigInteger, sa.ForeignKey(companies.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("fiscal_year", sa.SmallInteger, nullable=False),
    sa.Column("period", sa.String(2), nullable=False, comment="Q1 to Q4, or FY for the whole year"),
    sa.Column("period_end", sa.Date, nullable=False),
    sa.Column("filed_on", sa.Date),
    # Profit and loss.
    sa.Column("revenue", MONEY),
    sa.Column("operating_income", MONEY),
    sa.Column("ordinary_income", MONEY),
    sa.Column("net_income", MONEY),
    # Balance sheet.
    sa.Column("total_assets", MONEY),
    sa.Column("total_liabilities", MONEY),
    sa.Column("net_assets", MONEY),
    # Cash flow.
    sa.Column("operating_cash_flow", MONEY),
    sa.Column("investing_cash_flow", MONEY),
    sa.Column("financing_cash_flow", MONEY),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("company_id", "fiscal_year", "period"),
    sa.CheckConstraint("period IN ('Q1', 'Q2', 'Q3', 'Q4', 'FY')", name="period_known"),
    sa.CheckConstraint("fiscal_year BETWEEN 1900 AND 2200", name="fiscal_year_plausible"),
    comment="Profit and loss, balance sheet and cash flow, one row per company and period",
)
sa.Index(None, financial_statements.c.period_end.desc())

financial_indicators = sa.Table(
    "financial_indicators",
    metadata,
    id_column(),
    sa.Column("company_id", sa.BigInteger, sa.ForeignKey(companies.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column(
        "statement_id",
        sa.BigInteger,
        sa.ForeignKey(financial_statements.c.id, ondelete="SET NULL"),
        comment="The statement it was computed from",
    ),
    sa.Column("calculated_on", sa.Date, nullable=False),
    sa.Column("per", sa.Numeric(12, 4), comment="Price to earnings"),
    sa.Column("pbr", sa.Numeric(12, 4), comment="Price to book value"),
    sa.Column("roe", sa.Numeric(9, 4), comment="Return on equity, per cent"),
    sa.Column("roa", sa.Numeric(9, 4), comment="Return on assets, per cent"),
    sa.Column("equity_ratio", sa.Numeric(9, 4), comment="Per cent"),
    sa.Column("dividend_yield", sa.Numeric(9, 4), comment="Per cent"),
    created_at(),
    sa.UniqueConstraint("company_id", "calculated_on"),
    comment="Ratios computed from statements and prices",
)
sa.Index(None, financial_indicators.c.statement_id)
