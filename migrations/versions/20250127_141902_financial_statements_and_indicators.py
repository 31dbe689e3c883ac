"""Create financial_statements and financial_indicators.

What companies report (profit and loss, balance sheet, cash flow) and the ratios computed from it. Deleting a company
deletes both; deleting a statement keeps the indicators, which then no longer say what they were computed from.

Locks: the foreign keys take SHARE ROW EXCLUSIVE on companies, which makes its writers wait until the transaction
commits; readers are not disturbed. The new tables are empty, so that nothing is scanned. Milliseconds.
Going down drops both tables with all their rows.

Revision ID: 20250127_141902055
Revises: 20250113_092114387
Create Date: 2025-01-27 14:19:02.055+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250127_141902055"
down_revision: str | Sequence[str] | None = "20250113_092114387"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both tables with their constraints and indexes."""
    op.create_table(
        "financial_statements",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("company_id", sa.BigInteger, nullable=False),
        sa.Column("fiscal_year", sa.SmallInteger, nullable=False),
        sa.Column("period", sa.String(2), nullable=False, comment="Q1 to Q4, or FY for the whole year"),
        sa.Column("period_end", sa.Date, nullable=False),
        sa.Column("filed_on", sa.Date, nullable=True),
        sa.Column("revenue", sa.Numeric(20, 2), nullable=True),
        sa.Column("operating_income", sa.Numeric(20, 2), nullable=True),
        sa.Column("ordinary_income", sa.Numeric(20, 2), nullable=True),
        sa.Column("net_income", sa.Numeric(20, 2), nullable=True),
        sa.Column("total_assets", sa.Numeric(20, 2), nullable=True),
        sa.Column("total_liabilities", sa.Numeric(20, 2), nullable=True),
        sa.Column("net_assets", sa.Numeric(20, 2), nullable=True),
        sa.Column("operating_cash_flow", sa.Numeric(20, 2), nullable=True),
        sa.Column("investing_cash_flow", sa.Numeric(20, 2), nullable=True),
        sa.Column("financing_cash_flow", sa.Numeric(20, 2), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_financial_statements")),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["companies.id"],
            name=op.f("fk_financial_statements_company_id_companies"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "company_id", "fiscal_year", "period", name=op.f("uq_financial_statements_company_id_fiscal_year_period")
        ),
        sa.CheckConstraint(
            "period IN ('Q1', 'Q2', 'Q3', 'Q4', 'FY')", name=op.f("ck_financial_statements_period_known")
        ),
        sa.CheckConstraint(
            "fiscal_year BETWEEN 1900 AND 2200", name=op.f("ck_financial_statements_fiscal_year_plausible")
        ),
        comment="Profit and loss, balance sheet and cash flow, one row per company and period",
    )
    op.create_index(op.f("ix_financial_statements_period_end"), "financial_statements", [sa.text("period_end DESC")])

    op.create_table(
        "financial_indicators",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("company_id", sa.BigInteger, nullable=False),
        sa.Column("statement_id", sa.BigInteger, nullable=True, comment="The statement it was computed from"),
        sa.Column("calculated_on", sa.Date, nullable=False),
        sa.Column("per", sa.Numeric(12, 4), nullable=True, comment="Price to earnings"),
        sa.Column("pbr", sa.Numeric(12, 4), nullable=True, comment="Price to book value"),
        sa.Column("roe", sa.Numeric(9, 4), nullable=True, comment="Return on equity, per cent"),
        sa.Column("roa", sa.Numeric(9, 4), nullable=True, comment="Return on assets, per cent"),
        sa.Column("equity_ratio", sa.Numeric(9, 4), nullable=True, comment="Per cent"),
        sa.Column("dividend_yield", sa.Numeric(9, 4), nullable=True, comment="Per cent"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_financial_indicators")),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["companies.id"],
            name=op.f("fk_financial_indicators_company_id_companies"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"],
            ["financial_statements.id"],
            name=op.f("fk_financial_indicators_statement_id_financial_statements"),
            ondelete="SET NULL",
        ),
        sa.UniqueConstraint(
            "company_id", "calculated_on", name=op.f("uq_financial_indicators_company_id_calculated_on")
        ),
        comment="Ratios computed from statements and prices",
    )
    op.create_index(op.f("ix_financial_indicators_statement_id"), "financial_indicators", ["statement_id"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("financial_indicators")
    op.drop_table("financial_statements")
