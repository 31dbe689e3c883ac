"""Create ref.exchanges and ref.holidays, with their first rows.

Collectors asked whether a day without prices was a holiday or a failure; ref.is_trading_day answers that.

Locks: ACCESS EXCLUSIVE on the two new tables only, until the transaction commits. Milliseconds.
Going down drops both tables with all their rows.

Revision ID: 20250602_094207385
Revises: 20250602_081530114
Create Date: 2025-06-02 09:42:07.385+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250602_094207385"
down_revision: str | Sequence[str] | None = "20250602_081530114"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both tables, fill them, and create the function that reads them."""
    op.execute(
        """
        CREATE TABLE ref.exchanges (
            code varchar(4) NOT NULL,
            name varchar(100) NOT NULL,
            country varchar(2) NOT NULL,
            currency varchar(3) NOT NULL,
            time_zone varchar(40) NOT NULL,
            created_at timestamp with time zone DEFAULT now() NOT NULL,
            updated_at timestamp with time zone DEFAULT now() NOT NULL,
            CONSTRAINT pk_exchanges PRIMARY KEY (code),
            CONSTRAINT ck_exchanges_code_form CHECK (code ~ '^[A-Z0-9]{4}$'),
            CONSTRAINT ck_exchanges_country_form CHECK (country ~ '^[A-Z]{2}$'),
            CONSTRAINT ck_exchanges_currency_form CHECK (currency ~ '^[A-Z]{3}$')
        );
        COMMENT ON TABLE ref.exchanges IS 'Stock exchanges';
        COMMENT ON COLUMN ref.exchanges.code IS 'ISO 10383, such as XTKS';
        COMMENT ON COLUMN ref.exchanges.time_zone IS 'Name in the IANA database, such as Asia/Tokyo';

        CREATE TRIGGER exchanges_set_updated_at
            BEFORE UPDATE ON ref.exchanges
            FOR EACH ROW
            WHEN (OLD.* IS DISTINCT FROM NEW.*)
            EXECUTE FUNCTION public.set_updated_at();

        CREATE TABLE ref.holidays (
            exchange_code varchar(4) NOT NULL,
            day date NOT NULL,
            name varchar(100) NOT NULL,
            CONSTRAINT pk_holidays PRIMARY KEY (exchange_code, day),
            CONSTRAINT fk_holidays_exchange_code_exchanges FOREIGN KEY (exchange_code)
                REFERENCES ref.exchanges (code) ON DELETE CASCADE
        );
        COMMENT ON TABLE ref.holidays IS 'Weekdays on which an exchange is closed';

        INSERT INTO ref.exchanges (code, name, country, currency, time_zone) VALUES
            ('XTKS', 'Tokyo Stock Exchange', 'JP', 'JPY', 'Asia/Tokyo'),
            ('XNAS', 'Nasdaq', 'US', 'USD', 'America/New_York'),
            ('XNYS', 'New York Stock Exchange', 'US', 'USD', 'America/New_York'),
            ('XETR', 'Xetra', 'DE', 'EUR', 'Europe/Berlin');

        INSERT INTO ref.holidays (exchange_code, day, name) VALUES
            ('XTKS', '2025-01-01', 'New Year''s Day'),
            ('XTKS', '2025-01-02', 'Market holiday'),
            ('XTKS', '2025-01-03', 'Market holiday'),
            ('XTKS', '2025-01-13', 'Coming of Age Day'),
            ('XTKS', '2025-02-11', 'National Foundation Day'),
            ('XTKS', '2025-02-24', 'Emperor''s Birthday, observed'),
            ('XTKS', '2025-03-20', 'Vernal Equinox'),
            ('XTKS', '2025-04-29', 'Showa Day'),
            ('XTKS', '2025-05-05', 'Children''s Day'),
            ('XTKS', '2025-05-06', 'Greenery Day, observed'),
            ('XTKS', '2025-07-21', 'Marine Day'),
            ('XTKS', '2025-08-11', 'Mountain Day'),
            ('XTKS', '2025-09-15', 'Respect for the Aged Day'),
            ('XTKS', '2025-09-23', 'Autumnal Equinox'),
            ('XTKS', '2025-10-13', 'Sports Day'),
            ('XTKS', '2025-11-03', 'Culture Day'),
            ('XTKS', '2025-11-24', 'Labour Thanksgiving Day, observed'),
            ('XTKS', '2025-12-31', 'Market holiday');

        CREATE FUNCTION ref.is_trading_day(exchange character varying, day date) RETURNS boolean
        LANGUAGE sql STABLE PARALLEL SAFE
        AS $function$
            SELECT extract(isodow FROM is_trading_day.day) < 6
               AND NOT EXISTS (
                   SELECT FROM ref.holidays AS holiday
                    WHERE holiday.exchange_code = is_trading_day.exchange
                      AND holiday.day = is_trading_day.day
               )
        $function$;
        COMMENT ON FUNCTION ref.is_trading_day(character varying, date) IS 'Neither a weekend nor one of ref.holidays';
        """
    )


def downgrade() -> None:
    """Drop the function, then the tables."""
    op.execute(
        """
        DROP FUNCTION ref.is_trading_day(character varying, date);
        DROP TABLE ref.holidays;
        DROP TABLE ref.exchanges;
        """
    )
