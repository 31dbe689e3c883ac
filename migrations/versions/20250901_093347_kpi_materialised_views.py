"""Create kpi's materialised views, and kpi.refresh().

Reports asked mart for the same sums again and again. REFRESH MATERIALIZED VIEW CONCURRENTLY keeps readers going while
it works, and wants a unique index and a view that has been filled once (PostgreSQL manual, 'REFRESH MATERIALIZED
VIEW'): each view is created with its data. One that came out of a schema file has none: kpi.refresh() sees that.

Locks: ACCESS SHARE on what the views read, for as long as it takes to compute them: seconds per million prices.
Going down drops the views; mart can compute them again.

Revision ID: 20250901_093347526
Revises: 20250825_081154709
Create Date: 2025-09-01 09:33:47.526+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250901_093347526"
down_revision: str | Sequence[str] | None = "20250825_081154709"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both views with their unique indexes, and the function."""
    op.execute(
        """
        CREATE MATERIALIZED VIEW kpi.market_daily AS
        SELECT price.trade_date,
               price.currency,
               count(*) AS companies,
               count(*) FILTER (WHERE price.adjusted_close > price.previous_adjusted_close) AS advancers,
               count(*) FILTER (WHERE price.adjusted_close < price.previous_adjusted_close) AS decliners,
               sum(price.turnover) AS turnover
          FROM mart.daily_prices AS price
         GROUP BY price.trade_date, price.currency
          WITH DATA;
        COMMENT ON MATERIALIZED VIEW kpi.market_daily IS 'Breadth and turnover of each day and currency';
        CREATE UNIQUE INDEX uq_market_daily_trade_date_currency ON kpi.market_daily (trade_date, currency);

        CREATE MATERIALIZED VIEW kpi.strategy_daily AS
        SELECT outcome.strategy,
               (outcome."timestamp" AT TIME ZONE 'UTC')::date AS day,
               count(*) AS signals,
               count(*) FILTER (WHERE outcome.orders > 0) AS acted_upon,
               count(*) FILTER (WHERE outcome.filled_quantity > 0) AS filled,
               avg(outcome.confidence) AS average_confidence
          FROM mart.signal_outcomes AS outcome
         GROUP BY 1, 2
          WITH DATA;
        COMMENT ON MATERIALIZED VIEW kpi.strategy_daily IS 'What each strategy said on a day (UTC), and its outcome';
        CREATE UNIQUE INDEX uq_strategy_daily_strategy_day ON kpi.strategy_daily (strategy, day);

        CREATE FUNCTION kpi.refresh() RETURNS void
        LANGUAGE plpgsql
        AS $function$
        DECLARE
            found record;
        BEGIN
            FOR found IN
                SELECT matviewname AS name, ispopulated AS populated
                  FROM pg_catalog.pg_matviews
                 WHERE schemaname = 'kpi'
                 ORDER BY matviewname
            LOOP
                EXECUTE format(
                    'REFRESH MATERIALIZED VIEW %s kpi.%I',
                    CASE WHEN found.populated THEN 'CONCURRENTLY' ELSE '' END,
                    found.name
                );
            END LOOP;
        END
        $function$;
        COMMENT ON FUNCTION kpi.refresh() IS 'Brings every materialised view of kpi up to date while it is read';
        """
    )


def downgrade() -> None:
    """Drop the function and both views."""
    op.execute(
        """
        DROP FUNCTION kpi.refresh();
        DROP MATERIALIZED VIEW kpi.strategy_daily;
        DROP MATERIALIZED VIEW kpi.market_daily;
        """
    )
