"""Add companies.listing_code, step 2 of 3: one company per listing.

A unique index, built while services go on writing, which Postgres does outside a transaction only: it is the only
content of its revision.

Locks: SHARE UPDATE EXCLUSIVE on companies: reading and writing go on, other DDL and VACUUM on the table wait.
If it fails: Postgres leaves an index that is INVALID. `DROP INDEX CONCURRENTLY uq_companies_listing_code`, then run
again.
Going down drops the index concurrently.

Revision ID: 20250811_084502967
Revises: 20250811_083729154
Create Date: 2025-08-11 08:45:02.967+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250811_084502967"
down_revision: str | Sequence[str] | None = "20250811_083729154"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Build the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.create_index(
            "uq_companies_listing_code", "companies", ["listing_code"], unique=True, postgresql_concurrently=True
        )


def downgrade() -> None:
    """Drop the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.drop_index("uq_companies_listing_code", "companies", postgresql_concurrently=True)
