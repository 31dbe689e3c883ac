"""Add companies.listing_code, step 3 of 3: the foreign key holds for every row.

In a transaction of its own, without the locks of step 1: only so do writers go on while the rows are read.

Locks: SHARE UPDATE EXCLUSIVE on companies and ROW SHARE on ref.listed_info while companies is read once: reading and
writing go on.
Going down puts the foreign key back as step 1 left it.

Revision ID: 20250818_092618433
Revises: 20250811_084502967
Create Date: 2025-08-18 09:26:18.433+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250818_092618433"
down_revision: str | Sequence[str] | None = "20250811_084502967"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Validate the foreign key."""
    op.execute(
        """
        ALTER TABLE public.companies VALIDATE CONSTRAINT fk_companies_listing_code_listed_info;
        """
    )


def downgrade() -> None:
    """Make it one that is not validated."""
    op.execute(
        """
        ALTER TABLE public.companies DROP CONSTRAINT fk_companies_listing_code_listed_info;
        ALTER TABLE public.companies
            ADD CONSTRAINT fk_companies_listing_code_listed_info FOREIGN KEY (listing_code)
            REFERENCES ref.listed_info (code) ON DELETE RESTRICT NOT VALID;
        """
    )
