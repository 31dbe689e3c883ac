"""Create orders.

What was sent to exchanges, and why: signal_id points at the signal acted upon, which from then on cannot be deleted.
The client_order_id is ours and is sent along, so that a retry after a lost answer is recognised and not executed twice.

Locks: the foreign key takes SHARE ROW EXCLUSIVE on signals, which makes its writers wait until the transaction commits;
readers are not disturbed. The new table is empty, so that nothing is scanned. Milliseconds.
Going down drops the table with all its rows.

Revision ID: 20250317_090733261
Revises: 20250303_154021478
Create Date: 2025-03-17 09:07:33.261+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250317_090733261"
down_revision: str | Sequence[str] | None = "20250303_154021478"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table with its constraints, indexes and the updated_at trigger."""
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column(
            "signal_id",
            sa.BigInteger,
            nullable=True,
            comment="The signal it acts on; none for an order placed by hand",
        ),
        sa.Column(
            "client_order_id", sa.Uuid, nullable=False, comment="Ours, sent along, so that a retry is recognised"
        ),
        sa.Column("exchange_order_id", sa.String(100), nullable=True, comment="Theirs, once they have accepted it"),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("order_type", sa.String(10), nullable=False),
        sa.Column("status", sa.String(20), nullable=False, server_default="NEW"),
        sa.Column("quantity", sa.Numeric(20, 8), nullable=False),
        sa.Column("limit_price", sa.Numeric(20, 8), nullable=True, comment="Only for LIMIT"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.ForeignKeyConstraint(
            ["signal_id"], ["signals.id"], name=op.f("fk_orders_signal_id_signals"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("client_order_id", name=op.f("uq_orders_client_order_id")),
        sa.UniqueConstraint("exchange", "exchange_order_id", name=op.f("uq_orders_exchange_exchange_order_id")),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_orders_side_known")),
        sa.CheckConstraint("order_type IN ('MARKET', 'LIMIT')", name=op.f("ck_orders_order_type_known")),
        sa.CheckConstraint(
            "status IN ('NEW', 'ACCEPTED', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')",
            name=op.f("ck_orders_status_known"),
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_orders_quantity_positive")),
        sa.CheckConstraint(
            "(order_type = 'LIMIT') = (limit_price IS NOT NULL)", name=op.f("ck_orders_limit_price_if_limit")
        ),
        comment="Orders sent to exchanges",
    )
    # Without it, deleting a signal would scan all orders.
    op.create_index(op.f("ix_orders_signal_id"), "orders", ["signal_id"])
    op.create_index(op.f("ix_orders_symbol_created_at"), "orders", ["symbol", sa.text("created_at DESC")])
    op.create_index(
        "ix_orders_open",
        "orders",
        ["created_at"],
        postgresql_where=sa.text("status IN ('NEW', 'ACCEPTED', 'PARTIALLY_FILLED')"),
    )
    op.execute(
        "CREATE TRIGGER orders_set_updated_at BEFORE UPDATE ON orders FOR EACH ROW "
        "WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at()"
    )


def downgrade() -> None:
    """Drop the table, and its trigger with it."""
    op.drop_table("orders")
