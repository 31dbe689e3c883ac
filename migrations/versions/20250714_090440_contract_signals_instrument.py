"""Give signals an instrument, step 3 of 3: NOT NULL.

Foreign key and CHECK of step 1 are validated; with the CHECK's proof SET NOT NULL does not scan the table again
(PostgreSQL manual, 'ALTER TABLE'), and the CHECK has done its work. If a row is not as it should be, nothing has
changed: correct that row and run again.

Locks: first SHARE UPDATE EXCLUSIVE on signals while it is read twice, and ROW SHARE on ref.instruments: reading and
writing go on. Then ACCESS EXCLUSIVE for a change of the catalog only. Milliseconds once the lock is there.
Going down allows NULL again, and puts foreign key and CHECK back as step 1 left them.

Revision ID: 20250714_090440375
Revises: 20250707_083946213
Create Date: 2025-07-14 09:04:40.375+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250714_090440375"
down_revision: str | Sequence[str] | None = "20250707_083946213"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Validate, then make the column NOT NULL, then drop what proved it."""
    op.execute(
        """
        ALTER TABLE public.signals VALIDATE CONSTRAINT fk_signals_instrument_id_instruments;
        ALTER TABLE public.signals VALIDATE CONSTRAINT ck_signals_instrument_id_not_null;
        ALTER TABLE public.signals ALTER COLUMN instrument_id SET NOT NULL;
        ALTER TABLE public.signals DROP CONSTRAINT ck_signals_instrument_id_not_null;
        """
    )


def downgrade() -> None:
    """Put the CHECK back, then drop NOT NULL, so that no NULL can come in between."""
    op.execute(
        """
        ALTER TABLE public.signals
            ADD CONSTRAINT ck_signals_instrument_id_not_null CHECK (instrument_id IS NOT NULL) NOT VALID;
        ALTER TABLE public.signals ALTER COLUMN instrument_id DROP NOT NULL;
        ALTER TABLE public.signals DROP CONSTRAINT fk_signals_instrument_id_instruments;
        ALTER TABLE public.signals
            ADD CONSTRAINT fk_signals_instrument_id_instruments FOREIGN KEY (instrument_id)
            REFERENCES ref.instruments (id) ON DELETE RESTRICT NOT VALID;
        """
    )
