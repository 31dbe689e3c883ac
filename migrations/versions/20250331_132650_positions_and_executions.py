"""Create positions and executions.

Executions are fills as the exchange reports them: each belongs to an order and moves a position. A strategy has at most
one open position per symbol, which a partial unique index enforces, and any number of closed ones.

Locks: the foreign key takes SHARE ROW EXCLUSIVE on orders, which makes its writers wait until the transaction commits;
readers are not disturbed. The new tables are empty, so that nothing is scanned. Milliseconds.
Going down drops both tables with all their rows.

Revision ID: 20250331_132650894
Revises: 20250317_090733261
Create Date: 2025-03-31 13:26:50.894+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250331_132650894"
down_revision: str | Sequence[str] | None = "20250317_090733261"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create both tables with their constraints, indexes and the updated_at trigger."""
    op.create_table(
        "positions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("strategy", sa.String(100), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("quantity", sa.Numeric(20, 8), nullable=False, comment="Negative when short"),
        sa.Column("average_price", sa.Numeric(20, 8), nullable=False),
        sa.Column("realised_profit", sa.Numeric(20, 8), nullable=False, server_default="0"),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_positions")),
        sa.CheckConstraint("closed_at >= opened_at", name=op.f("ck_positions_closed_after_opened")),
        sa.CheckConstraint("closed_at IS NULL OR quantity = 0", name=op.f("ck_positions_closed_is_flat")),
        comment="What is held, and was held, one row per strategy and symbol from opening to closing",
    )
    op.create_index(
        "uq_positions_open",
        "positions",
        ["strategy", "exchange", "symbol"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.execute(
        "CREATE TRIGGER positions_set_updated_at BEFORE UPDATE ON positions FOR EACH ROW "
        "WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION set_updated_at()"
    )

    op.create_table(
        "executions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("position_id", sa.BigInteger, nullable=False),
        sa.Column("exchange_trade_id", sa.String(100), nullable=False),
        sa.Column("price", sa.Numeric(20, 8), nullable=False),
        sa.Column("quantity", sa.Numeric(20, 8), nullable=False),
        sa.Column("fee", sa.Numeric(20, 8), nullable=False, server_default="0"),
        sa.Column("fee_currency", sa.String(10), nullable=True),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_executions_order_id_orders"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["position_id"], ["positions.id"], name=op.f("fk_executions_position_id_positions"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("order_id", "exchange_trade_id", name=op.f("uq_executions_order_id_exchange_trade_id")),
        sa.CheckConstraint("price > 0 AND quantity > 0", name=op.f("ck_executions_price_and_quantity_positive")),
        comment="Fills, as the exchange reports them",
    )
    op.create_index(op.f("ix_executions_position_id"), "executions", ["position_id"])
    op.create_index(op.f("ix_executions_executed_at"), "executions", [sa.text("executed_at DESC")])


def downgrade() -> None:
    """Drop both tables, and their triggers with them."""
    op.drop_table("executions")
    op.drop_table("positions")
