"""Give signals an instrument, step 1 of 3: a column that new rows fill by themselves.

Readers of several tables join on exchange and symbol, two texts; ref.instruments gives each pair one number. Triggers
look it up, or make it, so that services need not know the column. Rows that exist are the next revision's work. Until
step 3 has looked at every row, foreign key and CHECK hold for what is written from now on (NOT VALID).

Locks: SHARE ROW EXCLUSIVE and ACCESS EXCLUSIVE on signals for changes of the catalog only: the column has no default,
and nothing is scanned. Milliseconds once the lock is there.
Going down drops the triggers, the column with its values, and ref.instruments.

Revision ID: 20250707_083105561
Revises: 20250630_091222037
Create Date: 2025-07-07 08:31:05.561+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250707_083105561"
down_revision: str | Sequence[str] | None = "20250630_091222037"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table, the column with its constraints, and the triggers."""
    op.execute(
        """
        CREATE TABLE ref.instruments (
            id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
            exchange varchar(50) NOT NULL,
            symbol varchar(50) NOT NULL,
            created_at timestamp with time zone DEFAULT now() NOT NULL,
            CONSTRAINT pk_instruments PRIMARY KEY (id),
            CONSTRAINT uq_instruments_exchange_symbol UNIQUE (exchange, symbol)
        );
        COMMENT ON TABLE ref.instruments IS 'What is traded where, one row per exchange and symbol';

        ALTER TABLE public.signals ADD COLUMN instrument_id bigint;
        COMMENT ON COLUMN public.signals.instrument_id IS 'Of exchange and symbol; a trigger fills it';
        ALTER TABLE public.signals
            ADD CONSTRAINT fk_signals_instrument_id_instruments FOREIGN KEY (instrument_id)
            REFERENCES ref.instruments (id) ON DELETE RESTRICT NOT VALID;
        ALTER TABLE public.signals
            ADD CONSTRAINT ck_signals_instrument_id_not_null CHECK (instrument_id IS NOT NULL) NOT VALID;

        -- It writes ref.instruments for services that may only write signals: hence SECURITY DEFINER, and hence the
        -- empty search_path, with which nobody can put another table or operator in its way.
        CREATE FUNCTION public.set_signal_instrument() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
        AS $function$
        BEGIN
            LOOP
                SELECT instrument.id INTO NEW.instrument_id
                  FROM ref.instruments AS instrument
                 WHERE instrument.exchange = NEW.exchange AND instrument.symbol = NEW.symbol;
                EXIT WHEN FOUND;
                INSERT INTO ref.instruments (exchange, symbol) VALUES (NEW.exchange, NEW.symbol)
                ON CONFLICT ON CONSTRAINT uq_instruments_exchange_symbol DO NOTHING;
            END LOOP;
            RETURN NEW;
        END
        $function$;
        COMMENT ON FUNCTION public.set_signal_instrument() IS 'Looks the instrument of a signal up, or makes it';

        CREATE TRIGGER signals_set_instrument
            BEFORE INSERT ON public.signals
            FOR EACH ROW
            WHEN (NEW.instrument_id IS NULL)
            EXECUTE FUNCTION public.set_signal_instrument();

        -- Any update of a row that was not filled yet: the CHECK looks at it.
        CREATE TRIGGER signals_correct_instrument
            BEFORE UPDATE ON public.signals
            FOR EACH ROW
            WHEN (NEW.instrument_id IS NULL OR (OLD.exchange, OLD.symbol) IS DISTINCT FROM (NEW.exchange, NEW.symbol))
            EXECUTE FUNCTION public.set_signal_instrument();
        """
    )


def downgrade() -> None:
    """Drop the triggers, the column with its constraints, and the table."""
    op.execute(
        """
        DROP TRIGGER signals_correct_instrument ON public.signals;
        DROP TRIGGER signals_set_instrument ON public.signals;
        DROP FUNCTION public.set_signal_instrument();
        ALTER TABLE public.signals DROP COLUMN instrument_id;
        DROP TABLE ref.instruments;
        """
    )
