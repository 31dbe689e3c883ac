"""Branches, labels and depends_on: `downgrade` and `upgrade` go where Alembic goes, or refuse what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.postgres import psql
from support.process import alembic, environment
from support.project import Project, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run

ENV = """\
import os
from alembic import context
from sqlalchemy import create_engine

with create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


class Revision(NamedTuple):
    """A revision that makes a table of its own name."""

    down: str | tuple[str, ...] | None
    label: str | None = None
    depends_on: str | None = None


HISTORIES: Mapping[str, Mapping[str, Revision]] = {
    "two branches": {
        "a1": Revision(None),
        "b2": Revision("a1", label="left"),
        "b3": Revision("b2"),
        "c2": Revision("a1", label="right"),
    },
    "a merge": {
        "a1": Revision(None),
        "b2": Revision("a1", label="left"),
        "c2": Revision("a1", label="right"),
        "m3": Revision(("b2", "c2")),
    },
    "depends_on": {
        "a1": Revision(None, label="main"),
        "a2": Revision("a1"),
        "x1": Revision(None, label="extra"),
        "x2": Revision("x1", depends_on="a2"),
    },
}
WAYS = [
    ("two branches", ("upgrade", "heads"), ("downgrade", "-1")),
    ("two branches", ("upgrade", "heads"), ("downgrade", "left@-1")),
    ("two branches", ("upgrade", "heads"), ("downgrade", "right@-1"), ("upgrade", "right@+1")),
    ("two branches", ("upgrade", "heads"), ("downgrade", "a1")),
    ("two branches", ("upgrade", "heads"), ("downgrade", "base")),
    ("two branches", ("upgrade", "left@head"), ("downgrade", "-1"), ("downgrade", "-1")),
    ("a merge", ("upgrade", "head"), ("downgrade", "-1")),
    ("a merge", ("upgrade", "head"), ("downgrade", "-1"), ("downgrade", "-1")),
    ("a merge", ("upgrade", "head"), ("downgrade", "b2")),
    ("a merge", ("upgrade", "head"), ("downgrade", "left@-2"), ("upgrade", "head")),
    ("depends_on", ("upgrade", "heads"), ("downgrade", "-1")),
    ("depends_on", ("upgrade", "heads"), ("downgrade", "main@-1")),
    ("depends_on", ("upgrade", "heads"), ("downgrade", "extra@-1"), ("downgrade", "main@base")),
    ("depends_on", ("upgrade", "extra@head"), ("downgrade", "a1")),
    ("depends_on", ("upgrade", "x1"), ("upgrade", "+1"), ("downgrade", "extra@base")),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(["-".join(words) for words in way[1:]]))
def test_as_alembic(
    way: tuple[str, tuple[str, str], tuple[str, str]],
    tmp_path: Path,
    run_headstart: Callable[..., Run],
    any_server: Postgres,
) -> None:
    """Each step ends well where Alembic's does, and leaves the same revisions recorded and the same tables."""
    name, *steps = way
    project = written(tmp_path / "project", HISTORIES[name])
    theirs, ours = any_server.create_database(), any_server.create_database()
    for words in steps:
        expected = alembic(*words, cwd=project.folder, env=environment(project.folder, {"DATABASE_URL": theirs}))
        done = run_headstart(*words, url=ours, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
        assert (done.code == 0) == (expected.code == 0), f"{done}\n{expected.stderr[-500:]}"
        assert recorded(ours) == recorded(theirs), f"{done}\n{expected.stderr[-500:]}"
        assert tables(ours) == tables(theirs)
    for url in (theirs, ours):
        any_server.drop_database(url)


def written(folder: Path, history: Mapping[str, Revision]) -> Project:
    """A project of that history."""
    project = Project(folder)
    project.env.write_text(ENV, encoding="utf-8")
    for ident, revision in history.items():
        undo = f"drop table {ident}"
        path = project.revision(ident, f"create table {ident} (id int)", undo=(undo,), down=revision.down)
        text = path.read_text(encoding="utf-8")
        for field, value in (("branch_labels", revision.label), ("depends_on", revision.depends_on)):
            text = text.replace(f"{field}: Union[str, Sequence[str], None] = None", f"{field} = {value!r}")
        path.write_text(text, encoding="utf-8")
    return project


def tables(url: str) -> list[tuple[object, ...]]:
    """The tables of the schema public."""
    return list(psql(url, "select tablename from pg_tables where schemaname = 'public' order by 1"))
