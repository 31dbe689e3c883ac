"""Create the warehouse's schemas.

What arrives (raw) is typed (stg), joined with what is known about listings (ref), and read as views (mart) and as
precomputed figures (kpi). The tables of the services stay in public.

Locks: none that anybody could wait for. Milliseconds.
Going down drops the schemas, which have to be empty: the revisions after this one see to that.

Revision ID: 20250602_081530114
Revises: 20250512_093811930
Create Date: 2025-06-02 08:15:30.114+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250602_081530114"
down_revision: str | Sequence[str] | None = "20250512_093811930"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the schemas, each with what it is for."""
    op.execute(
        """
        CREATE SCHEMA raw;
        COMMENT ON SCHEMA raw IS 'What arrived, as it arrived';
        CREATE SCHEMA stg;
        COMMENT ON SCHEMA stg IS 'What arrived, typed and without duplicates';
        CREATE SCHEMA ref;
        COMMENT ON SCHEMA ref IS 'What everybody refers to: exchanges, holidays, listings, instruments';
        CREATE SCHEMA mart;
        COMMENT ON SCHEMA mart IS 'Views for people and reports';
        CREATE SCHEMA kpi;
        COMMENT ON SCHEMA kpi IS 'Figures that are computed ahead: kpi.refresh() brings them up to date';
        """
    )


def downgrade() -> None:
    """Drop the schemas, the last one first."""
    op.execute(
        """
        DROP SCHEMA kpi;
        DROP SCHEMA mart;
        DROP SCHEMA ref;
        DROP SCHEMA stg;
        DROP SCHEMA raw;
        """
    )
