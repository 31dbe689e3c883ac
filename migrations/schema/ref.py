"""What everybody refers to: exchanges, holidays, listings, instruments. Table `listed_info` is the exchange's own."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ENUM

from migrations.schema.base import created_at, id_column, metadata, updated_at

SCHEMA = "ref"

# Every value that there is: revisions add to it, and an enum that readers know only in part fails on the first new one.
LISTING_STATUS = ENUM(
    "LISTED", "SUPERVISION", "SUSPENDED", "DELISTED", name="listing_status", schema=SCHEMA, create_type=False
)

exchanges = sa.Table(
    "exchanges",
    metadata,
    sa.Column("code", sa.String(4), primary_key=True, comment="ISO 10383, such as XTKS"),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("country", sa.String(2), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("time_zone", sa.String(40), nullable=False, comment="Name in the IANA database, such as Asia/Tokyo"),
    created_at(),
    updated_at(),
    sa.CheckConstraint("code ~ '^[A-Z0-9]{4}$'", name="code_form"),
    sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name="country_form"),
    sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_form"),
    schema=SCHEMA,
    comment="Stock exchanges",
)

holidays = sa.Table(
    "holidays",
    metadata,
    sa.Column("exchange_code", sa.String(4), sa.ForeignKey(exchanges.c.code, ondelete="CASCADE"), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    schema=SCHEMA,
    comment="Weekdays on which an exchange is closed",
)

market_segments = sa.Table(
    "market_segments",
    metadata,
    sa.Column("code", sa.String(4), primary_key=True),
    sa.Column("name", sa.String(50), nullable=False),
    schema=SCHEMA,
    comment="Parts of the Tokyo market",
)

listed_info = sa.Table(
    "listed_info",
    metadata,
    sa.Column("code", sa.String(5), primary_key=True, comment="Five characters, such as 72030 or 130A0"),
    sa.Column(
        "exchange_code",
        sa.String(4),
        sa.ForeignKey(exchanges.c.code, ondelete="RESTRICT"),
        nullable=False,
        server_default="XTKS",
    ),
    sa.Column("company_name", sa.String(255), nullable=False),
    sa.Column("company_name_english", sa.String(255)),
    sa.Column("sector17_code", sa.String(2)),
    sa.Column("sector33_code", sa.String(4)),
    sa.Column("scale_category", sa.String(50)),
    sa.Column("market_code", sa.String(4), sa.ForeignKey(market_segments.c.code, ondelete="RESTRICT"), nullable=False),
    sa.Column("status", LISTING_STATUS, nullable=False, server_default="LISTED"),
    sa.Column("as_of", sa.Date, nullable=False, comment="The day that the exchange said it on"),
    created_at(),
    updated_at(),
    sa.CheckConstraint("code ~ '^[0-9][0-9A-Z]{4}$'", name="code_form"),
    schema=SCHEMA,
    comment="What the exchange says about each listing, one row per code",
)
sa.Index(None, listed_info.c.market_code, listed_info.c.sector33_code)

instruments = sa.Table(
    "instruments",
    metadata,
    id_column(),
    sa.Column("exchange", sa.String(50), nullable=False),
    sa.Column("symbol", sa.String(50), nullable=False),
    created_at(),
    sa.UniqueConstraint("exchange", "symbol"),
    schema=SCHEMA,
    comment="What is traded where, one row per exchange and symbol",
)
