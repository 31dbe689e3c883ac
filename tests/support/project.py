"""Small Alembic projects on disk, and a fingerprint of what must not change in a database.

    project = Project(tmp_path)                           # alembic.ini and env.py as `alembic init` makes them
    project.revision("a1", "create table a (id int)")     # SQL: an op.execute for each statement given
    project.revision("b2", "create table b (id int)", undo=["drop table b"])  # follows a1 by itself
    project.revision("c3", body="op.create_table('c', sa.Column('id', sa.Integer))")  # or Python

headstart runs it with `cwd=project.folder`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import alembic

from support.postgres import psql

if TYPE_CHECKING:
    from collections.abc import Sequence

# The sections for logging are there because Alembic's own env.py calls fileConfig, which must not matter.
INI = """\
[alembic]
script_location = %(here)s/migrations
path_separator = os
sqlalchemy.url = driver://user:pass@localhost/dbname

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)s %(message)s
"""

REVISION = '''"""{doc}

Revision ID: {ident}
Revises: {down}
Create Date: 2025-01-02 03:04:05.060708

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa

revision: str = {ident!r}
down_revision: Union[str, Sequence[str], None] = {down!r}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''


class Project:
    """An Alembic project, with the configuration and the env.py that `alembic init` writes.

    Args:
        folder: holds alembic.ini and migrations/.
        template: of Alembic's: generic or async.
    """

    def __init__(self, folder: Path, *, template: str = "async") -> None:
        self.folder = folder
        self.ini = folder / "alembic.ini"
        self.env = folder / "migrations" / "env.py"
        self.versions = folder / "migrations" / "versions"
        self.head: str | None = None
        self.versions.mkdir(parents=True)
        self.ini.write_text(INI, encoding="utf-8")
        for name in ("env.py", "script.py.mako"):
            shutil.copy(Path(alembic.__file__).parent / "templates" / template / name, folder / "migrations" / name)

    def revision(
        self,
        ident: str,
        *statements: str,
        body: str | None = None,
        undo: Sequence[str] = (),
        down: str | tuple[str, ...] | None = "",
        doc: str = "",
    ) -> Path:
        """Write a revision file, and return its path.

        Args:
            ident: the revision's id.
            statements: SQL, each an `op.execute` of its own.
            body: what `upgrade` does instead, in Python.
            undo: SQL for `downgrade`, likewise.
            down: what it follows; the revision that was written last, when left out.
            doc: its message; one that names it, when left out.
        """
        if down == "":
            down = self.head
        text = REVISION.format(
            ident=ident,
            down=down,
            doc=doc or f"the change {ident}",
            upgrade=_indented(_executes(statements) if body is None else body),
            downgrade=_indented(_executes(undo)),
        )
        self.head = ident
        return self.write(f"{ident}.py", text)

    def write(self, name: str, text: str) -> Path:
        """Write any text as a file among the revisions."""
        path = self.versions / name
        path.write_text(text, encoding="utf-8")
        return path

    def in_env(self, code: str) -> None:
        """Put Python code at the end of env.py's imports: it runs whenever env.py does, before the migrations."""
        text = self.env.read_text(encoding="utf-8")
        before, marker, after = text.partition("config = context.config\n")
        assert marker, "Alembic's template has changed"
        self.env.write_text(f"{before}{marker}\n{textwrap.dedent(code)}\n{after}", encoding="utf-8")


def recorded(url: str, table: str = "alembic_version") -> list[str]:
    """What the version table holds; nothing where it does not exist."""
    if psql(url, "select to_regclass($1)", table) == [(None,)]:
        return []
    return [row[0] for row in psql(url, f"select version_num from {table} order by 1")]


def fingerprint(url: str) -> str:
    """A hash of everything of the user's in a database: relations, columns, indexes, constraints, and every row.

    Take it before and after, with the superuser's URL: equal means untouched.
    """
    [(catalog, tables)] = psql(url, _CATALOG)
    rows: list[object] = []
    if tables:
        each = (
            f"select {at} as at, t.xmin::text, md5(t::text) as row from {table} t" for at, table in enumerate(tables)
        )
        rows = list(psql(url, " union all ".join(each) + " order by 1, 3"))
    return hashlib.sha256(json.dumps([catalog, tables, rows]).encode()).hexdigest()


_CATALOG = """
with mine as (
    select c.oid, n.nspname, c.relname, c.relkind, c.relfilenode from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
)
select json_build_array(
    (select json_agg(mine order by nspname, relname) from mine),
    (select json_agg(array[attrelid::text, attname, format_type(atttypid, atttypmod), attnotnull::text]
                     order by attrelid, attnum) from pg_attribute where attrelid in (select oid from mine)),
    (select json_agg(array[pg_get_indexdef(indexrelid), indisvalid::text] order by indexrelid)
       from pg_index where indexrelid in (select oid from mine)),
    (select json_agg(array[conname, pg_get_constraintdef(oid)] order by oid)
       from pg_constraint where conrelid in (select oid from mine)),
    (select json_agg(array[nspname, nspowner::regrole::text] order by oid) from pg_namespace
       where oid >= 16384 and nspname not like 'pg\\_%')  -- of temporary tables: they stay when these are gone
)::text, array(select oid::regclass::text from mine where relkind = 'r' order by oid)
"""


def _executes(statements: Sequence[str]) -> str:
    return "\n".join(f"op.execute({statement!r})" for statement in statements) or "pass"


def _indented(code: str) -> str:
    return textwrap.indent(textwrap.dedent(code).strip("\n"), "    ")
