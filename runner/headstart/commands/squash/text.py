"""The text of a baseline: an ordinary revision file that holds its SQL, for Headstart and for Alembic alone.

The SQL is what is dumped of a scratch database, made fit for the transaction of a revision.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from headstart.history.baseline import DIGITS

if TYPE_CHECKING:
    from headstart.commands.schema.script import Entry

# pg_dump writes every name with its schema, and means it. Alembic's own statement, which follows in the same
# transaction, does not: it gets the search_path back. All other settings end with the transaction.
_BEFORE: Final = (
    "SELECT pg_catalog.set_config('headstart.search_path', pg_catalog.current_setting('search_path'), true)",
    "SELECT pg_catalog.set_config('search_path', '', true)",
    "SET LOCAL check_function_bodies = false",
    "SET LOCAL xmloption = content",
    "SET LOCAL default_table_access_method = heap",
)
_AFTER: Final = (
    "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('headstart.search_path'), true)",
)
CONTENT: Final = frozenset({"TABLE DATA", "SEQUENCE SET", "MATERIALIZED VIEW DATA", "BLOB", "BLOBS", "BLOB METADATA"})
"""Kinds of entries that are no part of the catalog."""

_FILE = '''"""{message}

Revision ID: {revision}
Revises:
Create Date: {moment}

The schema that {count} files made one after the other, up to {revision}. They are kept in
{archive}.
"""

import sqlalchemy as sa
from alembic import op

# revision identifiers, used by Alembic.
revision = {ident}
down_revision = None
branch_labels = {labels}
depends_on = None

# What this file replaces, with the beginnings of each file's SHA-256 and fingerprint: a database that was built by
# those very files has all of this already. `headstart up` reads it; it is not to be edited.
archive = {place}
squashed = (
{squashed}
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(sa.DDL(statement.replace("%", "%%")))


def downgrade() -> None:
    raise NotImplementedError("a baseline cannot be reverted: what it has replaced is in " + archive)


STATEMENTS = (
{statements}
)
'''


def statements(entries: Iterable[Entry], *, version_table: str, schema: str) -> list[str]:
    """What the baseline executes: all but the version table, which is there before the first revision runs.

    Args:
        entries: of the database that the revisions have made.
        version_table: Alembic's.
        schema: the schema in which it is.
    """
    made = [
        f"SET LOCAL {each.removeprefix('SET ')}" if each.startswith("SET ") else each
        for entry in entries
        if entry.schema != schema or not _is_of(entry, version_table)
        for each in entry.statements
    ]
    return [*_BEFORE, *made, *_AFTER]


def content(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """The rows and other content, by table or sequence."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        if entry.kind in CONTENT:
            found[entry.label] = (*found.get(entry.label, ()), *entry.statements)
    return found


def _is_of(entry: Entry, table: str) -> bool:
    return entry.name in {table, f"TABLE {table}"} or entry.name.startswith(f"{table} ")


def baseline_text(
    revision: str,
    *,
    message: str,
    labels: Sequence[str],
    archive: str,
    squashed: Iterable[tuple[str, ...]],
    statements: Iterable[str],
    count: int,
    moment: datetime.datetime,
) -> str:
    """The text of the file.

    Args:
        revision: the id of the last revision that it replaces, which becomes its own.
        message: its first line.
        labels: names of the branch that starts here.
        archive: where the old files are kept, for people.
        squashed: of each file that it replaces, the revision and its digests.
        statements: the SQL, in order.
        count: how many files it replaces.
        moment: now.
    """
    lines = [_tuple(one, *(digest[:DIGITS] for digest in digests)) for one, *digests in squashed]
    return _FILE.format(
        message=message.replace("\\", "/").replace('"', "'"),
        revision=revision,
        ident=_plain(revision),
        labels=_tuple(*labels) if labels else None,
        archive=archive,
        place=_plain(archive),
        squashed="\n".join(f"    {line}," for line in lines),
        statements="\n".join(f"    {_quoted(statement)}," for statement in statements),
        count=count,
        moment=moment,
    )


def _tuple(*texts: str) -> str:
    return f"({', '.join(map(_plain, texts))}{',' if len(texts) == 1 else ''})"


def _plain(text: str) -> str:
    """As formatters have it."""
    return json.dumps(text, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A Python string, as readable as its content allows."""
    odd = "\r" in text or "\0" in text or '"""' in text or text.endswith(('"', "\\"))
    return repr(text) if odd else f'r"""{text}"""'
