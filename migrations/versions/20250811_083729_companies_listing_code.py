"""Add companies.listing_code, step 1 of 3: a column that points at ref.listed_info.

A ticker has four characters, the exchange's own code five; with it a company finds its listing. Foreign companies have
none, so that the column stays nullable. The foreign key holds for what is written from now on; what exists is NULL, and
step 3 looks at it without keeping writers out.

Locks: SHARE ROW EXCLUSIVE on ref.listed_info and ACCESS EXCLUSIVE on companies for changes of the catalog only.
Milliseconds once the locks are there.
Going down drops the column with its values.

Revision ID: 20250811_083729154
Revises: 20250804_090012871
Create Date: 2025-08-11 08:37:29.154+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250811_083729154"
down_revision: str | Sequence[str] | None = "20250804_090012871"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column and its foreign key, which is not validated."""
    op.execute(
        """
        ALTER TABLE public.companies ADD COLUMN listing_code varchar(5);
        COMMENT ON COLUMN public.companies.listing_code IS 'Such as 72030; foreign companies have none';
        ALTER TABLE public.companies
            ADD CONSTRAINT fk_companies_listing_code_listed_info FOREIGN KEY (listing_code)
            REFERENCES ref.listed_info (code) ON DELETE RESTRICT NOT VALID;
        """
    )


def downgrade() -> None:
    """Drop the column, and the foreign key with it."""
    op.execute(
        """
        ALTER TABLE public.companies DROP COLUMN listing_code;
        """
    )
