"""Give signals an instrument, step 2 of 3: fill it in batches.

A range of ids at a time, with a commit after each: no row stays locked for longer than a batch takes. What says how far
it got is the data itself: an interrupted run leaves whole batches, and the next one passes over them. Committing on the
way is possible outside a transaction only, so that this is the only content of its revision.

Locks: ROW EXCLUSIVE on signals, and the rows of one batch of 2,000 ids. Readers and other writers go on. A few seconds
per 100,000 rows.
Going down changes nothing: a filled column does no harm, and step 1 drops it.

Revision ID: 20250707_083946213
Revises: 20250707_083105561
Create Date: 2025-07-07 08:39:46.213+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250707_083946213"
down_revision: str | Sequence[str] | None = "20250707_083105561"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Fill the column in batches, inside the server."""
    with op.get_context().autocommit_block():
        op.execute(
            """
            DO $backfill$
            DECLARE
                batch CONSTANT bigint := 2000;
                first bigint;
                last bigint;
            BEGIN
                INSERT INTO ref.instruments (exchange, symbol)
                SELECT DISTINCT signal.exchange, signal.symbol
                  FROM public.signals AS signal
                 WHERE signal.instrument_id IS NULL
                 ORDER BY 1, 2
                ON CONFLICT DO NOTHING;
                SELECT min(id), max(id) INTO first, last FROM public.signals WHERE instrument_id IS NULL;
                COMMIT;
                WHILE first <= last LOOP
                    UPDATE public.signals AS signal
                       SET instrument_id = instrument.id
                      FROM ref.instruments AS instrument
                     WHERE instrument.exchange = signal.exchange
                       AND instrument.symbol = signal.symbol
                       AND signal.instrument_id IS NULL
                       AND signal.id >= first
                       AND signal.id < first + batch;
                    COMMIT;
                    first := first + batch;
                END LOOP;
            END
            $backfill$
            """
        )


def downgrade() -> None:
    """Keep the values."""
