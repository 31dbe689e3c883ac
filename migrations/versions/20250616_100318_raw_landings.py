"""Create raw.landings, by month.

Every answer of a source is kept as it came, so that a mistake in reading it can be made good later. Months that nobody
needs any more are detached and dropped whole, which costs nothing; deleting their rows would cost days of vacuum.
raw.add_month makes the partition of a month ahead of it. What comes without one goes to the default partition.

Locks: ACCESS EXCLUSIVE on the new tables only, until the transaction commits. Milliseconds.
Going down drops the table with all its partitions and rows.

Revision ID: 20250616_100318452
Revises: 20250609_082644720
Create Date: 2025-06-16 10:03:18.452+00:00
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence

revision: str = "20250616_100318452"
down_revision: str | Sequence[str] | None = "20250609_082644720"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table, its default partition, the function, and three months."""
    op.execute(
        """
        CREATE TABLE raw.landings (
            source varchar(50) NOT NULL,
            dataset varchar(50) NOT NULL,
            object_key varchar(200) NOT NULL,
            fetched_at timestamp with time zone NOT NULL,
            sha256 bytea NOT NULL,
            payload jsonb NOT NULL,
            CONSTRAINT pk_landings PRIMARY KEY (source, dataset, object_key, fetched_at),
            CONSTRAINT ck_landings_sha256_length CHECK (octet_length(sha256) = 32)
        ) PARTITION BY RANGE (fetched_at);
        COMMENT ON TABLE raw.landings IS 'Answers of sources as they came, one row per request, by month';
        COMMENT ON COLUMN raw.landings.dataset IS 'Kind of answer, such as daily_quotes';
        COMMENT ON COLUMN raw.landings.object_key IS 'What was asked for, such as 72030/2025-06-02';
        COMMENT ON COLUMN raw.landings.sha256 IS 'Of the answer''s bytes, before they were parsed';

        CREATE INDEX ix_landings_dataset_fetched_at ON raw.landings (dataset, fetched_at DESC);

        CREATE TABLE raw.landings_default PARTITION OF raw.landings DEFAULT;

        CREATE FUNCTION raw.add_month(month date) RETURNS text
        LANGUAGE plpgsql
        AS $function$
        DECLARE
            first CONSTANT timestamp with time zone := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
            past CONSTANT timestamp with time zone :=
                (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
            name CONSTANT text := 'landings_' || to_char(month, 'YYYYMM');
        BEGIN
            IF to_regclass('raw.' || name) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE raw.%I PARTITION OF raw.landings FOR VALUES FROM (%L) TO (%L)', name, first, past
                );
            END IF;
            RETURN 'raw.' || name;
        END
        $function$;
        COMMENT ON FUNCTION raw.add_month(date) IS 'Makes the partition of a month (UTC), unless it is there';

        SELECT raw.add_month('2025-06-01');
        SELECT raw.add_month('2025-07-01');
        SELECT raw.add_month('2025-08-01');
        """
    )


def downgrade() -> None:
    """Drop the function, then the table with its partitions."""
    op.execute(
        """
        DROP FUNCTION raw.add_month(date);
        DROP TABLE raw.landings;
        """
    )
