"""Which INVALID indexes a revision file may have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headstart.postgres.indexes import InvalidIndex
from headstart.steps.indexes import mended, named_in, source_of

if TYPE_CHECKING:
    from pathlib import Path

INDEX = InvalidIndex("public.orders_state", "public", "orders_state", "orders")


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("create index concurrently orders_state on other (state)", True),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS Orders_State ON Other (state)", True),
        ("create index concurrently on orders (state)", True),
        ("op.create_index(None, 'orders', ['state'], postgresql_concurrently=True)", True),
        ("for t in ['orders']: op.execute(f'create index concurrently {t}_state on {t} (state)')", True),
        ("create index orders_state on orders (state)", False),
        ("create index concurrently orders_state_2 on old_orders (state)", False),
        ("op.execute(read('index.sql'))", True),
        ("op.execute(read('nowhere.sql'))", False),
    ],
)
def test_left_by(source: str, left: bool, tmp_path: Path) -> None:
    """It builds something concurrently, and names the index or its table; the SQL files that it names count."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "index.sql").write_text("create index concurrently orders_state on orders (state)", encoding="utf-8")
    file = tmp_path / "versions" / "a1.py"
    file.write_text(source, encoding="utf-8")
    assert named_in([source_of(str(file))], {INDEX}) == ({INDEX} if left else set())


def test_a_name_that_sql_quotes() -> None:
    """A name with other characters than letters is looked for as it is."""
    odd = InvalidIndex('public."by state"', "public", "by state", "orders")
    assert named_in(['create index concurrently "By State" on o (state)'], {odd}) == {odd}


def test_mended() -> None:
    """An index is built anew; the copy that REINDEX has left is dropped."""
    assert mended(INDEX) == "reindex index concurrently public.orders_state"
    copy = InvalidIndex("public.orders_state_ccnew", "public", "orders_state_ccnew", "orders")
    assert mended(copy) == "drop index concurrently public.orders_state_ccnew"
