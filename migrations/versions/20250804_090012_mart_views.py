"""Create mart's views.

Three of them stand on one another: daily_prices, latest_prices, company_overview. They are created from the ground up
and dropped from the top down, without CASCADE, which would take along what nobody thought of.

Locks: ACCESS SHARE on the tables that they read, for as long as it takes to look at their columns. Milliseconds.
Going down drops the views; they hold no data.

Revision ID: 20250804_090012871
Revises: 20250728_101533298
Create Date: 2025-08-04 09:00:12.871+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250804_090012871"
down_revision: str | Sequence[str] | None = "20250728_101533298"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the views from the ground up."""
    op.execute(
        """
        CREATE VIEW mart.daily_prices AS
        SELECT price.company_id,
               company.ticker_symbol,
               price.trade_date,
               price.close,
               coalesce(price.adjusted_close, price.close) AS adjusted_close,
               price.volume,
               price.currency,
               price.close * price.volume AS turnover
          FROM public.stock_prices AS price
          JOIN public.companies AS company ON company.id = price.company_id;
        COMMENT ON VIEW mart.daily_prices IS 'Each closing price, with the ticker and the turnover';

        CREATE VIEW mart.latest_prices AS
        SELECT DISTINCT ON (price.company_id)
               price.company_id,
               price.ticker_symbol,
               price.trade_date,
               price.close,
               price.currency
          FROM mart.daily_prices AS price
         ORDER BY price.company_id, price.trade_date DESC;
        COMMENT ON VIEW mart.latest_prices IS 'The newest closing price of each company';

        CREATE VIEW mart.company_overview AS
        SELECT company.id AS company_id,
               company.ticker_symbol,
               company.name,
               company.industry,
               price.trade_date,
               price.close,
               price.currency,
               indicator.per,
               indicator.pbr,
               indicator.roe,
               indicator.equity_ratio
          FROM public.companies AS company
          LEFT JOIN mart.latest_prices AS price ON price.company_id = company.id
          LEFT JOIN LATERAL (
               SELECT newest.per, newest.pbr, newest.roe, newest.equity_ratio
                 FROM public.financial_indicators AS newest
                WHERE newest.company_id = company.id
                ORDER BY newest.calculated_on DESC
                LIMIT 1
          ) AS indicator ON true
         WHERE company.is_active;
        COMMENT ON VIEW mart.company_overview IS 'Each active company with its newest price and ratios';

        CREATE VIEW mart.signal_outcomes AS
        SELECT signal.id AS signal_id,
               signal.strategy,
               signal.exchange,
               signal.symbol,
               signal."timestamp",
               signal.action,
               signal.confidence,
               count(DISTINCT placed.id) AS orders,
               coalesce(sum(execution.quantity), 0) AS filled_quantity,
               sum(execution.quantity * execution.price) / sum(execution.quantity) AS average_price
          FROM public.signals AS signal
          LEFT JOIN public.orders AS placed ON placed.signal_id = signal.id
          LEFT JOIN public.executions AS execution ON execution.order_id = placed.id
         GROUP BY signal.id;
        COMMENT ON VIEW mart.signal_outcomes IS 'Each signal with what was done about it';
        """
    )


def downgrade() -> None:
    """Drop the views from the top down."""
    op.execute(
        """
        DROP VIEW mart.signal_outcomes;
        DROP VIEW mart.company_overview;
        DROP VIEW mart.latest_prices;
        DROP VIEW mart.daily_prices;
        """
    )
