"""Create order_events, which a trigger on orders fills.

An order's row says how it stands, not how it came there. From here on each change of its status is kept, with its time;
what happened before is not known. Services write orders as before, and need no right on the new table.

Locks: SHARE ROW EXCLUSIVE on orders for foreign key and trigger: its writers wait until the transaction commits,
readers do not. Nothing is scanned. Milliseconds once the lock is there.
Going down drops the trigger, its function, and the table with all its rows.

Revision ID: 20250728_101533298
Revises: 20250721_082917640
Create Date: 2025-07-28 10:15:33.298+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250728_101533298"
down_revision: str | Sequence[str] | None = "20250721_082917640"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table, the function, and the trigger that calls it."""
    op.execute(
        """
        CREATE TABLE public.order_events (
            id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
            order_id bigint NOT NULL,
            status_before varchar(20),
            status_after varchar(20) NOT NULL,
            created_at timestamp with time zone DEFAULT now() NOT NULL,
            CONSTRAINT pk_order_events PRIMARY KEY (id),
            CONSTRAINT fk_order_events_order_id_orders FOREIGN KEY (order_id)
                REFERENCES public.orders (id) ON DELETE CASCADE,
            CONSTRAINT ck_order_events_status_changes CHECK (status_before IS DISTINCT FROM status_after)
        );
        COMMENT ON TABLE public.order_events IS 'Each status that an order came to, written by a trigger';
        COMMENT ON COLUMN public.order_events.status_before IS 'None when the order was new';

        CREATE INDEX ix_order_events_order_id_created_at ON public.order_events (order_id, created_at);

        CREATE FUNCTION public.log_order_event() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
        AS $function$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO public.order_events (order_id, status_after) VALUES (NEW.id, NEW.status);
            ELSIF OLD.status IS DISTINCT FROM NEW.status THEN
                INSERT INTO public.order_events (order_id, status_before, status_after)
                VALUES (NEW.id, OLD.status, NEW.status);
            END IF;
            RETURN NULL;
        END
        $function$;
        COMMENT ON FUNCTION public.log_order_event() IS 'Keeps order_events; attach AFTER INSERT OR UPDATE OF status';

        CREATE TRIGGER orders_log_event
            AFTER INSERT OR UPDATE OF status ON public.orders
            FOR EACH ROW
            EXECUTE FUNCTION public.log_order_event();
        """
    )


def downgrade() -> None:
    """Drop trigger, function and table."""
    op.execute(
        """
        DROP TRIGGER orders_log_event ON public.orders;
        DROP FUNCTION public.log_order_event();
        DROP TABLE public.order_events;
        """
    )
