"""The one MetaData, its naming convention, and the columns that many tables share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from datetime import datetime

# Every constraint and index gets a predictable name: a revision can only drop what it can name, and names that Postgres
# makes up differ from those that SQLAlchemy makes up.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Views are read as tables are. They have a MetaData of their own, because Alembic would take them for tables to create.
views = sa.MetaData()

# Exchanges quote to eight decimals (a satoshi), and twelve digits before the point hold any price or volume seen.
AMOUNT = sa.Numeric(20, 8)
# Statements are in currency units: twenty digits hold the largest balance sheets, in yen too.
MONEY = sa.Numeric(20, 2)


def id_column() -> sa.Column[int]:
    """Return a surrogate key. A new Column each time: one belongs to one table."""
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


def created_at() -> sa.Column[datetime]:
    """Return the column that says when the row was written, by the server's clock."""
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def updated_at() -> sa.Column[datetime]:
    """Return the column that a trigger (`set_updated_at`) keeps at the time of the last real change."""
    return sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
