"""Add stock_prices.currency, step 1 of 4: a column without values.

Prices of foreign listings arrive soon. The column starts nullable and without a value for rows that exist; the default
is for new rows of writers that do not know the column yet. The next revisions fill it (step 2) and make it NOT NULL
(steps 3 and 4), so that no step scans or rewrites the table under a lock that stops readers.

Locks: ACCESS EXCLUSIVE on stock_prices, twice, for a change of the catalog only. Milliseconds once the lock is there.
Going down drops the column with its values.

Revision ID: 20250428_112939702
Revises: 20250414_081206519
Create Date: 2025-04-28 11:29:39.702+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250428_112939702"
down_revision: str | Sequence[str] | None = "20250414_081206519"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column without a default, then give it one, which leaves existing rows NULL and unread."""
    op.add_column("stock_prices", sa.Column("currency", sa.String(3), nullable=True, comment="ISO 4217, of this price"))
    op.alter_column("stock_prices", "currency", server_default="JPY")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("stock_prices", "currency")
