"""Add stock_prices.currency, step 3 of 4: refuse NULL in new rows.

A CHECK that is NOT VALID holds for every row written from now on and does not look at those that exist. Looking at them
is the next revision's work, in a transaction of its own: here it would keep readers waiting for the whole scan.

Locks: ACCESS EXCLUSIVE on stock_prices for a change of the catalog only. Milliseconds once the lock is there.
Going down drops the CHECK.

Revision ID: 20250512_093547185
Revises: 20250428_113418046
Create Date: 2025-05-12 09:35:47.185+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250512_093547185"
down_revision: str | Sequence[str] | None = "20250428_113418046"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the CHECK without validating it."""
    op.create_check_constraint(
        op.f("ck_stock_prices_currency_not_null"),
        "stock_prices",
        "currency IS NOT NULL",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    """Drop the CHECK."""
    op.drop_constraint(op.f("ck_stock_prices_currency_not_null"), "stock_prices", type_="check")
