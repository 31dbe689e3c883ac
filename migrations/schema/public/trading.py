"""What was done about a signal: orders, their executions, and the positions that result."""

from __future__ import annotations

import sqlalchemy as sa

from migrations.schema.base import AMOUNT, created_at, id_column, metadata, updated_at
from migrations.schema.public.market import signals

orders = sa.Table(
    "orders",
    metadata,
    id_column(),
    # RESTRICT: a signal that money was moved on is evidence, and stays.
    sa.Column(
        "signal_id",
        sa.BigInteger,
        sa.ForeignKey(signals.c.id, ondelete="RESTRICT"),
        comment="The signal it acts on; none for an order placed by hand",
    ),
    sa.Column("client_order_id", sa.Uuid, nullable=False, comment="Ours, sent along, so that a retry is recognised"),
    sa.Column("exchange_order_id", sa.String(100), comment="Theirs, once they have accepted it"),
    sa.Column("exchange", sa.String(50), nullable=False),
    sa.Column("symbol", sa.String(50), nullable=False),
    sa.Column("side", sa.String(4), nullable=False),
    sa.Column("order_type", sa.String(10), nullable=False),
    sa.Column("status", sa.String(20), nullable=False, server_default="NEW"),
    sa.Column("quantity", AMOUNT, nullable=False),
    sa.Column("limit_price", AMOUNT, comment="Only for LIMIT"),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("client_order_id"),
    sa.UniqueConstraint("exchange", "exchange_order_id"),
    sa.CheckConstraint("side IN ('BUY', 'SELL')", name="side_known"),
    sa.CheckConstraint("order_type IN ('MARKET', 'LIMIT')", name="order_type_known"),
    sa.CheckConstraint(
        "status IN ('NEW', 'ACCEPTED', 'PARTIALLY_FILLED', 'FILLED', 'CANCELLED', 'REJECTED')", name="status_known"
    ),
    sa.CheckConstraint("quantity > 0", name="quantity_positive"),
    sa.CheckConstraint("(order_type = 'LIMIT') = (limit_price IS NOT NULL)", name="limit_price_if_limit"),
    comment="Orders sent to exchanges",
)
sa.Index(None, orders.c.signal_id)
sa.Index(None, orders.c.symbol, orders.c.created_at.desc())
sa.Index(
    "ix_orders_open",
    orders.c.created_at,
    postgresql_where=orders.c.status.in_(["NEW", "ACCEPTED", "PARTIALLY_FILLED"]),
)

order_events = sa.Table(
    "order_events",
    metadata,
    id_column(),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey(orders.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("status_before", sa.String(20), comment="None when the order was new"),
    sa.Column("status_after", sa.String(20), nullable=False),
    created_at(),
    sa.CheckConstraint("status_before IS DISTINCT FROM status_after", name="status_changes"),
    comment="Each status that an order came to, written by a trigger",
)
sa.Index(None, order_events.c.order_id, order_events.c.created_at)

positions = sa.Table(
    "positions",
    metadata,
    id_column(),
    sa.Column("strategy", sa.String(100), nullable=False),
    sa.Column("exchange", sa.String(50), nullable=False),
    sa.Column("symbol", sa.String(50), nullable=False),
    sa.Column("quantity", AMOUNT, nullable=False, comment="Negative when short"),
    sa.Column("average_price", AMOUNT, nullable=False),
    sa.Column("realised_profit", AMOUNT, nullable=False, server_default="0"),
    sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("closed_at", sa.DateTime(timezone=True)),
    created_at(),
    updated_at(),
    sa.CheckConstraint("closed_at >= opened_at", name="closed_after_opened"),
    sa.CheckConstraint("closed_at IS NULL OR quantity = 0", name="closed_is_flat"),
    comment="What is held, and was held, one row per strategy and symbol from opening to closing",
)
# At most one open position per strategy and symbol; any number of closed ones.
sa.Index(
    "uq_positions_open",
    positions.c.strategy,
    positions.c.exchange,
    positions.c.symbol,
    unique=True,
    postgresql_where=positions.c.closed_at.is_(None),
)

executions = sa.Table(
    "executions",
    metadata,
    id_column(),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey(orders.c.id, ondelete="RESTRICT"), nullable=False),
    sa.Column("position_id", sa.BigInteger, sa.ForeignKey(positions.c.id, ondelete="RESTRICT"), nullable=False),
    sa.Column("exchange_trade_id", sa.String(100), nullable=False),
    sa.Column("price", AMOUNT, nullable=False),
    sa.Column("quantity", AMOUNT, nullable=False),
    sa.Column("fee", AMOUNT, nullable=False, server_default="0"),
    sa.Column("fee_currency", sa.String(10)),
    sa.Column("executed_at", sa.DateTime(timezone=True), nullable=False),
    created_at(),
    sa.UniqueConstraint("order_id", "exchange_trade_id"),
    sa.CheckConstraint("price > 0 AND quantity > 0", name="price_and_quantity_positive"),
    comment="Fills, as the exchange reports them",
)
sa.Index(None, executions.c.position_id)
sa.Index(None, executions.c.executed_at.desc())
