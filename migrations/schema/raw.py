"""What arrived, as it arrived."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from migrations.schema.base import metadata

SCHEMA = "raw"

# `raw.add_month` makes the partition of a month; partitions are not in this metadata.
landings = sa.Table(
    "landings",
    metadata,
    sa.Column("source", sa.String(50), primary_key=True),
    sa.Column("dataset", sa.String(50), primary_key=True, comment="Kind of answer, such as daily_quotes"),
    sa.Column("object_key", sa.String(200), primary_key=True, comment="What was asked for, such as 72030/2025-06-02"),
    sa.Column("fetched_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("sha256", sa.LargeBinary, nullable=False, comment="Of the answer's bytes, before they were parsed"),
    sa.Column("payload", JSONB, nullable=False),
    sa.CheckConstraint("octet_length(sha256) = 32", name="sha256_length"),
    schema=SCHEMA,
    comment="Answers of sources as they came, one row per request, by month",
    postgresql_partition_by="RANGE (fetched_at)",
)
sa.Index(None, landings.c.dataset, landings.c.fetched_at.desc())
