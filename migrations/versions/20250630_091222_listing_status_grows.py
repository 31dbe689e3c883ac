"""Let ref.listing_status say SUSPENDED.

Trading in a share can be halted without the exchange putting it under supervision. The new value is not used in this
revision: Postgres refuses that until it is committed (PostgreSQL manual, 'ALTER TYPE').

Locks: none on a table. Milliseconds.
Going down makes the enum anew without the value, since Postgres cannot take one away: a listing that is SUSPENDED falls
back to SUPERVISION. ACCESS EXCLUSIVE on ref.listed_info while it is rewritten; it has some thousands of rows.

Revision ID: 20250630_091222037
Revises: 20250623_075911806
Create Date: 2025-06-30 09:12:22.037+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250630_091222037"
down_revision: str | Sequence[str] | None = "20250623_075911806"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the value."""
    op.execute(
        """
        ALTER TYPE ref.listing_status ADD VALUE 'SUSPENDED' AFTER 'SUPERVISION';
        """
    )


def downgrade() -> None:
    """Exchange the type for one without the value."""
    op.execute(
        """
        ALTER TABLE ref.listed_info ALTER COLUMN status DROP DEFAULT;
        ALTER TYPE ref.listing_status RENAME TO listing_status_with_suspended;
        CREATE TYPE ref.listing_status AS ENUM ('LISTED', 'SUPERVISION', 'DELISTED');
        COMMENT ON TYPE ref.listing_status IS 'How a listing stands with its exchange';
        ALTER TABLE ref.listed_info
            ALTER COLUMN status TYPE ref.listing_status
            USING (CASE status WHEN 'SUSPENDED' THEN 'SUPERVISION' ELSE status::text END)::ref.listing_status;
        ALTER TABLE ref.listed_info ALTER COLUMN status SET DEFAULT 'LISTED';
        DROP TYPE ref.listing_status_with_suspended;
        """
    )
