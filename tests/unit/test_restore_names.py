"""The names of databases that a restore makes, and the quoting of what is copied from one to the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.backup.restoring.beside import LONGEST, is_ours, key, names
from headstart.backup.restoring.shape import Property, Shape, read
from headstart.postgres.server import literal

MOMENT = datetime(2026, 1, 31, 12, 0, 0, 999999, tzinfo=UTC)
DATABASES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= LONGEST
)


def test_they_say_what_they_are() -> None:
    """Each name is the live one's with a suffix that says what it is and when it was made, in UTC."""
    assert names("app", MOMENT) == (
        "app_restoring_20260131T120000Z",
        "app_restored_20260131T120000Z",
        "app_before_restore_20260131T120000Z",
    )
    assert names("app", MOMENT.astimezone(timezone(timedelta(hours=5)))) == names("app", MOMENT)


@given(DATABASES)
def test_they_fit(live: str) -> None:
    """No name is longer than Postgres takes, and all of one restore differ."""
    made = names(live, MOMENT)
    assert all(len(name.encode()) <= LONGEST for name in made)
    assert len({*made, live}) == 4
    assert is_ours(made.restoring, live)
    assert not is_ours(made.restored, live)
    assert not is_ours(made.before, live)


@pytest.mark.parametrize(
    "name",
    [
        "app",
        "app_restoring",
        "app_restoring_notes",
        "app_restoring_20260131T120000Z_old",
        "my_app_restoring_20260131T120000Z",
        "app2_restoring_20260131T120000Z",
        "app_restored_20260131T120000Z",
    ],
)
def test_what_is_not_ours(name: str) -> None:
    """A name that only resembles one of ours is somebody else's."""
    assert not is_ours(name, "app")


@given(DATABASES, DATABASES)
def test_who_may_drop_it_holds_its_lock(one: str, other: str) -> None:
    """Two databases whose partial ones could be taken for each other's share a lock."""
    if is_ours(names(one, MOMENT).restoring, other):
        assert key(one) == key(other)


def test_literals() -> None:
    """Quotes and backslashes reach the server as they are."""
    assert literal("it's") == "'it''s'"
    assert literal("a\\'b") == " E'a\\\\''b'"


def test_a_shape_from_text() -> None:
    """What pg_restore writes of a database is found, whatever its name and its comment are."""
    text = (
        "\\restrict abc\nSET lock_timeout = 0;\n"
        "CREATE DATABASE \"a b\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n"
        'ALTER DATABASE "a b" OWNER TO "the owner";\n\\unrestrict abc\n\\connect -reuse-previous=on "dbname=\'a b\'"\n'
        "COMMENT ON DATABASE \"a b\" IS 'x; y\n\\z';\nALTER DATABASE \"a b\" SET work_mem TO '7MB';\n"
        'REVOKE CONNECT,TEMPORARY ON DATABASE "a b" FROM PUBLIC;\n'
    )
    assert read(text, "a b") == Shape(
        options="TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C'",
        properties=(
            Property(label="the owner", before="ALTER DATABASE ", after=' OWNER TO "the owner"', early=True),
            Property(label="COMMENT ON DATABASE", before="COMMENT ON DATABASE ", after=" IS 'x; y\n\\z'"),
            Property(label="the setting work_mem", before="ALTER DATABASE ", after=" SET work_mem TO '7MB'"),
            Property(
                label="REVOKE CONNECT,TEMPORARY ON DATABASE",
                before="REVOKE CONNECT,TEMPORARY ON DATABASE ",
                after=" FROM PUBLIC",
                early=True,
            ),
        ),
    )


def test_text_that_cannot_be_read() -> None:
    """Where pg_restore writes something unknown, the content can be restored all the same."""
    assert read("\\gexec\nCREATE DATABASE app WITH TEMPLATE = template0;", "app") == Shape(options="template template0")
