"""Index ohlcv by symbol, concurrently.

"The newest n candles of this symbol" was a scan of every exchange's entries. The index is built while collectors go on
writing, which Postgres does outside a transaction only: so it is the only content of its revision, and nothing else can
be half done when it fails.

Locks: SHARE UPDATE EXCLUSIVE on ohlcv: reading and writing go on, other DDL and VACUUM on the table wait. It reads the
table twice and waits for transactions that are older than itself: minutes on a large table.
If it fails: Postgres leaves an index that is INVALID. `DROP INDEX CONCURRENTLY ix_ohlcv_symbol_timeframe_timestamp`,
then run again; there is no IF NOT EXISTS here, because that would take the INVALID one for good.
Going down drops the index concurrently.

Revision ID: 20250414_081206519
Revises: 20250331_132650894
Create Date: 2025-04-14 08:12:06.519+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250414_081206519"
down_revision: str | Sequence[str] | None = "20250331_132650894"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Build the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_ohlcv_symbol_timeframe_timestamp"),
            "ohlcv",
            ["symbol", "timeframe", sa.text('"timestamp" DESC')],
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    """Drop the index outside a transaction."""
    with op.get_context().autocommit_block():
        op.drop_index(op.f("ix_ohlcv_symbol_timeframe_timestamp"), "ohlcv", postgresql_concurrently=True)
