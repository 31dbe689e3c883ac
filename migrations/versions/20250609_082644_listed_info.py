"""Create ref.listed_info, and what it refers to.

What the exchange says about each listing. Codes have five characters: the fifth tells share classes apart, and since
2024 some have letters, such as 130A0. The status is an enum, because every reader has to know each of its values.

Locks: SHARE ROW EXCLUSIVE on ref.exchanges for the foreign key, which keeps its writers waiting until the transaction
commits; otherwise new tables only. Milliseconds.
Going down drops both tables with all their rows, and the enum.

Revision ID: 20250609_082644720
Revises: 20250602_094207385
Create Date: 2025-06-09 08:26:44.720+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250609_082644720"
down_revision: str | Sequence[str] | None = "20250602_094207385"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the enum, the segments with their rows, and the listings."""
    op.execute(
        """
        CREATE TYPE ref.listing_status AS ENUM ('LISTED', 'SUPERVISION', 'DELISTED');
        COMMENT ON TYPE ref.listing_status IS 'How a listing stands with its exchange';

        CREATE TABLE ref.market_segments (
            code varchar(4) NOT NULL,
            name varchar(50) NOT NULL,
            CONSTRAINT pk_market_segments PRIMARY KEY (code)
        );
        COMMENT ON TABLE ref.market_segments IS 'Parts of the Tokyo market';

        INSERT INTO ref.market_segments (code, name) VALUES
            ('0111', 'Prime'),
            ('0112', 'Standard'),
            ('0113', 'Growth'),
            ('0105', 'Tokyo Pro'),
            ('0109', 'Others');

        CREATE TABLE ref.listed_info (
            code varchar(5) NOT NULL,
            exchange_code varchar(4) DEFAULT 'XTKS' NOT NULL,
            company_name varchar(255) NOT NULL,
            company_name_english varchar(255),
            sector17_code varchar(2),
            sector33_code varchar(4),
            scale_category varchar(50),
            market_code varchar(4) NOT NULL,
            status ref.listing_status DEFAULT 'LISTED' NOT NULL,
            as_of date NOT NULL,
            created_at timestamp with time zone DEFAULT now() NOT NULL,
            updated_at timestamp with time zone DEFAULT now() NOT NULL,
            CONSTRAINT pk_listed_info PRIMARY KEY (code),
            CONSTRAINT fk_listed_info_exchange_code_exchanges FOREIGN KEY (exchange_code)
                REFERENCES ref.exchanges (code) ON DELETE RESTRICT,
            CONSTRAINT fk_listed_info_market_code_market_segments FOREIGN KEY (market_code)
                REFERENCES ref.market_segments (code) ON DELETE RESTRICT,
            CONSTRAINT ck_listed_info_code_form CHECK (code ~ '^[0-9][0-9A-Z]{4}$')
        );
        COMMENT ON TABLE ref.listed_info IS 'What the exchange says about each listing, one row per code';
        COMMENT ON COLUMN ref.listed_info.code IS 'Five characters, such as 72030 or 130A0';
        COMMENT ON COLUMN ref.listed_info.as_of IS 'The day that the exchange said it on';

        CREATE INDEX ix_listed_info_market_code_sector33_code ON ref.listed_info (market_code, sector33_code);

        CREATE TRIGGER listed_info_set_updated_at
            BEFORE UPDATE ON ref.listed_info
            FOR EACH ROW
            WHEN (OLD.* IS DISTINCT FROM NEW.*)
            EXECUTE FUNCTION public.set_updated_at();
        """
    )


def downgrade() -> None:
    """Drop the tables, then the enum that one of them uses."""
    op.execute(
        """
        DROP TABLE ref.listed_info;
        DROP TABLE ref.market_segments;
        DROP TYPE ref.listing_status;
        """
    )
