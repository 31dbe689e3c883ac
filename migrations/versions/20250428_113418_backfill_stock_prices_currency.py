"""Add stock_prices.currency, step 2 of 4: fill it in batches.

Each price gets the currency of its company, a range of ids at a time with a commit after each: no row stays locked for
longer than a batch takes, and an interrupted run goes on where it stopped, because filled rows are left alone.
Committing on the way is possible outside a transaction only, so that this is the only content of its revision.

Locks: ROW EXCLUSIVE on stock_prices, and the rows of one batch of 10,000 ids. Readers and other writers go on. A few
seconds per 100,000 rows.
Going down changes nothing: a filled column does no harm, and step 1 drops it.

Revision ID: 20250428_113418046
Revises: 20250428_112939702
Create Date: 2025-04-28 11:34:18.046+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250428_113418046"
down_revision: str | Sequence[str] | None = "20250428_112939702"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Fill the column in batches, inside the server."""
    with op.get_context().autocommit_block():
        op.execute(
            """
            DO $backfill$
            DECLARE
                batch CONSTANT bigint := 10000;
                first bigint;
                last bigint;
            BEGIN
                SELECT min(id), max(id) INTO first, last FROM stock_prices;
                WHILE first <= last LOOP
                    UPDATE stock_prices AS price
                       SET currency = company.currency
                      FROM companies AS company
                     WHERE company.id = price.company_id
                       AND price.currency IS NULL
                       AND price.id >= first
                       AND price.id < first + batch;
                    COMMIT;
                    first := first + batch;
                END LOOP;
            END
            $backfill$
            """
        )


def downgrade() -> None:
    """Keep the values."""
