"""Create stg.daily_quotes, and the way there from raw.landings.

Two views read the landed JSON: the newest answer to each request, and the quotes in it, typed. stg.load_daily_quotes
writes what is new or different, so that it can be run at any time, as often as one likes.

Locks: ACCESS SHARE on raw.landings; otherwise new objects only. Milliseconds.
Going down drops the function, the views, and the table with all its rows, which raw.landings can fill again.

Revision ID: 20250623_075911806
Revises: 20250616_100318452
Create Date: 2025-06-23 07:59:11.806+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250623_075911806"
down_revision: str | Sequence[str] | None = "20250616_100318452"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table, the views, the one after the other, and the function."""
    op.execute(
        """
        CREATE TABLE stg.daily_quotes (
            code varchar(5) NOT NULL,
            trade_date date NOT NULL,
            open numeric(20,8),
            high numeric(20,8),
            low numeric(20,8),
            close numeric(20,8),
            volume bigint,
            turnover numeric(24,2),
            adjustment_factor numeric(12,6) DEFAULT 1 NOT NULL,
            loaded_at timestamp with time zone DEFAULT now() NOT NULL,
            CONSTRAINT pk_daily_quotes PRIMARY KEY (code, trade_date),
            CONSTRAINT ck_daily_quotes_code_form CHECK (code ~ '^[0-9][0-9A-Z]{4}$'),
            CONSTRAINT ck_daily_quotes_price_range CHECK (low <= LEAST(open, close) AND high >= GREATEST(open, close)),
            CONSTRAINT ck_daily_quotes_volume_not_negative CHECK (volume >= 0)
        );
        COMMENT ON TABLE stg.daily_quotes IS 'Daily quotes as the exchange gives them, one row per code and day';
        COMMENT ON COLUMN stg.daily_quotes.open IS 'Like the other prices NULL on a day without a trade';
        COMMENT ON COLUMN stg.daily_quotes.adjustment_factor IS 'Of a split on this day, such as 0.5; otherwise 1';

        CREATE INDEX ix_daily_quotes_trade_date ON stg.daily_quotes (trade_date);

        CREATE VIEW stg.latest_landings AS
        SELECT DISTINCT ON (landing.source, landing.dataset, landing.object_key)
               landing.source,
               landing.dataset,
               landing.object_key,
               landing.fetched_at,
               landing.payload
          FROM raw.landings AS landing
         ORDER BY landing.source, landing.dataset, landing.object_key, landing.fetched_at DESC;
        COMMENT ON VIEW stg.latest_landings IS 'The newest answer to each request';

        CREATE VIEW stg.landed_daily_quotes AS
        SELECT landing.source,
               landing.fetched_at,
               quote.value ->> 'Code' AS code,
               (quote.value ->> 'Date')::date AS trade_date,
               (quote.value ->> 'Open')::numeric AS open,
               (quote.value ->> 'High')::numeric AS high,
               (quote.value ->> 'Low')::numeric AS low,
               (quote.value ->> 'Close')::numeric AS close,
               (quote.value ->> 'Volume')::numeric::bigint AS volume,
               (quote.value ->> 'TurnoverValue')::numeric AS turnover,
               coalesce((quote.value ->> 'AdjustmentFactor')::numeric, 1) AS adjustment_factor
          FROM stg.latest_landings AS landing
         CROSS JOIN LATERAL jsonb_array_elements(landing.payload -> 'daily_quotes') AS quote (value)
         WHERE landing.dataset = 'daily_quotes';
        COMMENT ON VIEW stg.landed_daily_quotes IS 'The quotes in the newest answers, typed';

        CREATE FUNCTION stg.load_daily_quotes() RETURNS bigint
        LANGUAGE plpgsql
        AS $function$
        DECLARE
            written bigint;
        BEGIN
            INSERT INTO stg.daily_quotes AS quote
                   (code, trade_date, open, high, low, close, volume, turnover, adjustment_factor)
            SELECT DISTINCT ON (landed.code, landed.trade_date)
                   landed.code, landed.trade_date, landed.open, landed.high, landed.low, landed.close,
                   landed.volume, landed.turnover, landed.adjustment_factor
              FROM stg.landed_daily_quotes AS landed
             ORDER BY landed.code, landed.trade_date, landed.fetched_at DESC
            ON CONFLICT (code, trade_date) DO UPDATE
               SET (open, high, low, close, volume, turnover, adjustment_factor, loaded_at) =
                   (excluded.open, excluded.high, excluded.low, excluded.close,
                    excluded.volume, excluded.turnover, excluded.adjustment_factor, now())
             WHERE (quote.open, quote.high, quote.low, quote.close,
                    quote.volume, quote.turnover, quote.adjustment_factor)
                   IS DISTINCT FROM
                   (excluded.open, excluded.high, excluded.low, excluded.close,
                    excluded.volume, excluded.turnover, excluded.adjustment_factor);
            GET DIAGNOSTICS written = ROW_COUNT;
            RETURN written;
        END
        $function$;
        COMMENT ON FUNCTION stg.load_daily_quotes() IS 'Writes what has landed and is new or different, and counts it';
        """
    )


def downgrade() -> None:
    """Drop everything in the opposite order."""
    op.execute(
        """
        DROP FUNCTION stg.load_daily_quotes();
        DROP VIEW stg.landed_daily_quotes;
        DROP VIEW stg.latest_landings;
        DROP TABLE stg.daily_quotes;
        """
    )
