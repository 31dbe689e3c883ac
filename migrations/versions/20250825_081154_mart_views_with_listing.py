"""Rebuild mart's price views, with the day's change and the listing.

The new columns stand where a reader expects them, in the middle, and CREATE OR REPLACE VIEW only adds at the end: the
three views are dropped from the top down and created from the ground up, in one transaction, so that nobody ever finds
one missing.

Locks: ACCESS EXCLUSIVE on the three views: their readers wait until the transaction commits. Milliseconds once the
locks are there.
Going down builds them as they were; they hold no data.

Revision ID: 20250825_081154709
Revises: 20250818_092618433
Create Date: 2025-08-25 08:11:54.709+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250825_081154709"
down_revision: str | Sequence[str] | None = "20250818_092618433"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Drop the three, and create them anew."""
    op.execute(
        """
        DROP VIEW mart.company_overview;
        DROP VIEW mart.latest_prices;
        DROP VIEW mart.daily_prices;

        CREATE VIEW mart.daily_prices AS
        SELECT price.company_id,
               company.ticker_symbol,
               price.trade_date,
               price.close,
               coalesce(price.adjusted_close, price.close) AS adjusted_close,
               lag(coalesce(price.adjusted_close, price.close)) OVER (
                   PARTITION BY price.company_id ORDER BY price.trade_date
               ) AS previous_adjusted_close,
               price.volume,
               price.currency,
               price.close * price.volume AS turnover
          FROM public.stock_prices AS price
          JOIN public.companies AS company ON company.id = price.company_id;
        COMMENT ON VIEW mart.daily_prices IS 'Each closing price, with ticker, turnover and the close before it';

        CREATE VIEW mart.latest_prices AS
        SELECT DISTINCT ON (price.company_id)
               price.company_id,
               price.ticker_symbol,
               price.trade_date,
               price.close,
               price.adjusted_close / nullif(price.previous_adjusted_close, 0) - 1 AS change,
               price.currency
          FROM mart.daily_prices AS price
         ORDER BY price.company_id, price.trade_date DESC;
        COMMENT ON VIEW mart.latest_prices IS 'The newest closing price of each company, and its change';

        CREATE VIEW mart.company_overview AS
        SELECT company.id AS company_id,
               company.ticker_symbol,
               company.name,
               company.industry,
               listing.code AS listing_code,
               segment.name AS market_segment,
               price.trade_date,
               price.close,
               price.change,
               price.currency,
               indicator.per,
               indicator.pbr,
               indicator.roe,
               indicator.equity_ratio
          FROM public.companies AS company
          LEFT JOIN ref.listed_info AS listing ON listing.code = company.listing_code
          LEFT JOIN ref.market_segments AS segment ON segment.code = listing.market_code
          LEFT JOIN mart.latest_prices AS price ON price.company_id = company.id
          LEFT JOIN LATERAL (
               SELECT newest.per, newest.pbr, newest.roe, newest.equity_ratio
                 FROM public.financial_indicators AS newest
                WHERE newest.company_id = company.id
                ORDER BY newest.calculated_on DESC
                LIMIT 1
          ) AS indicator ON true
         WHERE company.is_active;
        COMMENT ON VIEW mart.company_overview IS 'Each active company with its listing, its newest price and ratios';
        """
    )


def downgrade() -> None:
    """The same, with what they were before."""
    op.execute(
        """
        DROP VIEW mart.company_overview;
        DROP VIEW mart.latest_prices;
        DROP VIEW mart.daily_prices;

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
        """
    )
