"""Keep updated_at by trigger.

Services forgot to set updated_at, each in its own way; from here on the server does it, and only when something really
changed. Function and triggers belong together, so that they are one script in one op.execute.

Locks: CREATE TRIGGER takes SHARE ROW EXCLUSIVE on companies and financial_statements: writers wait until the
transaction commits, readers do not. Nothing is scanned. Milliseconds once the locks are there.
Going down drops triggers and function; the values they wrote stay.

Revision ID: 20250303_154021478
Revises: 20250217_101455630
Create Date: 2025-03-03 15:40:21.478+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250303_154021478"
down_revision: str | Sequence[str] | None = "20250217_101455630"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the function, then a trigger on each table that has the column."""
    op.execute(
        """
        CREATE FUNCTION set_updated_at() RETURNS trigger
        LANGUAGE plpgsql
        AS $function$
        BEGIN
            -- The transaction's own time, as the default of the column has it; so rows changed together agree.
            NEW.updated_at := now();
            RETURN NEW;
        END;
        $function$;

        COMMENT ON FUNCTION set_updated_at() IS 'Keeps updated_at; attach BEFORE UPDATE, FOR EACH ROW';

        CREATE TRIGGER companies_set_updated_at
            BEFORE UPDATE ON companies
            FOR EACH ROW
            WHEN (OLD.* IS DISTINCT FROM NEW.*)
            EXECUTE FUNCTION set_updated_at();

        CREATE TRIGGER financial_statements_set_updated_at
            BEFORE UPDATE ON financial_statements
            FOR EACH ROW
            WHEN (OLD.* IS DISTINCT FROM NEW.*)
            EXECUTE FUNCTION set_updated_at();
        """
    )


def downgrade() -> None:
    """Drop the triggers, then the function that they call."""
    op.execute(
        """
        DROP TRIGGER financial_statements_set_updated_at ON financial_statements;
        DROP TRIGGER companies_set_updated_at ON companies;
        DROP FUNCTION set_updated_at();
        """
    )
