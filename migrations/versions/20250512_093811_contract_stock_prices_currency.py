"""Add stock_prices.currency, step 4 of 4: NOT NULL.

The CHECK of step 3 is validated; with that proof SET NOT NULL does not scan the table again (PostgreSQL manual, 'ALTER
TABLE'), and the CHECK has done its work. If validation finds a NULL, nothing has changed: fill that row and run again.

Locks: first SHARE UPDATE EXCLUSIVE on stock_prices while it is read once: reading and writing go on. Then ACCESS
EXCLUSIVE for a change of the catalog only. Milliseconds once the lock is there.
Going down allows NULL again, and puts the CHECK back as step 3 left it.

Revision ID: 20250512_093811930
Revises: 20250512_093547185
Create Date: 2025-05-12 09:38:11.930+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250512_093811930"
down_revision: str | Sequence[str] | None = "20250512_093547185"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Validate, then make the column NOT NULL, then drop what proved it."""
    op.execute("ALTER TABLE stock_prices VALIDATE CONSTRAINT ck_stock_prices_currency_not_null")
    op.alter_column("stock_prices", "currency", nullable=False)
    op.drop_constraint(op.f("ck_stock_prices_currency_not_null"), "stock_prices", type_="check")


def downgrade() -> None:
    """Put the CHECK back, then drop NOT NULL, so that no NULL can come in between."""
    op.create_check_constraint(
        op.f("ck_stock_prices_currency_not_null"),
        "stock_prices",
        "currency IS NOT NULL",
        postgresql_not_valid=True,
    )
    op.alter_column("stock_prices", "currency", nullable=True)
