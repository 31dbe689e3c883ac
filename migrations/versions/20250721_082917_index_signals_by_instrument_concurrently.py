"""Index signals by instrument, concurrently.

For "the newest signals of this instrument", and so that deleting an instrument does not scan all signals. Built while
strategies go on writing, which Postgres does outside a transaction only: it is the only content of its revision.

Locks: SHARE UPDATE EXCLUSIVE on signals: reading and writing go on, other DDL and VACUUM on the table wait.
If it fails: Postgres leaves an index that is INVALID. `DROP INDEX CONCURRENTLY ix_signals_instrument_id_timestamp`,
then run again; there is no IF NOT EXISTS here, because that would take the INVALID one for good.
Going down drops the index concurrently.

Revision ID: 20250721_082917640
Revises: 20250714_090440375
Create Date: 2025-07-21 08:29:17.640+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250721_082917640"
down_revision: str | Sequence[str] | None = "20250714_090440375"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Build the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_signals_instrument_id_timestamp"),
            "signals",
            ["instrument_id", sa.text('"timestamp" DESC')],
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    """Drop the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.drop_index(op.f("ix_signals_instrument_id_timestamp"), "signals", postgresql_concurrently=True)
