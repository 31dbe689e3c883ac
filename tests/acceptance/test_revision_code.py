"""What people write in revisions, each on the sync and on the async template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.environments import at_head, nothing_to_do
from support.postgres import psql
from support.project import Project, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunHeadstart

GROUND = (
    "create table item (id int primary key, name text, at timestamptz default now())",
    "insert into item select n, 'item ' || n from generate_series(1, 1000) n",
)

# what the revision does in Python -> a query and what it then has to return
BODIES: dict[str, tuple[str, str, list[tuple[object, ...]]]] = {
    "queries on the bind": (
        """
        bind = op.get_bind()
        names = bind.execute(sa.text("select name from item where id = :id"), {"id": 7}).scalars().all()
        assert names == ["item 7"], names
        for row in bind.execute(sa.text("select id from item where id < 4 order by id")).mappings():
            values = {"name": f"x{row['id']}", "id": row["id"]}
            bind.execute(sa.text("update item set name = :name where id = :id"), values)
        """,
        "select name from item where id < 5 order by id",
        [("x1",), ("x2",), ("x3",), ("item 4",)],
    ),
    "bulk_insert": (
        """
        table = sa.table("item", sa.column("id", sa.Integer), sa.column("name", sa.Text))
        op.bulk_insert(table, [{"id": -1, "name": "a:b"}, {"id": -2, "name": "50%"}])
        op.bulk_insert(table, [{"id": -n, "name": None} for n in range(3, 500)], multiinsert=False)
        """,
        "select count(*), min(name) from item where id < 0",
        [(499, "50%")],
    ),
    "batch_alter_table": (
        """
        with op.batch_alter_table("item") as batch:
            batch.add_column(sa.Column("price", sa.Numeric(10, 2), server_default="1.5", nullable=False))
            batch.alter_column("name", type_=sa.String(50), existing_type=sa.Text)
            batch.create_index("item_price", ["price"])
        """,
        "select count(*), sum(price) from item",
        [(1000, 1500)],
    ),
    "inspect": (
        """
        inspector = sa.inspect(op.get_bind())
        assert inspector.has_table("item")
        assert [column["name"] for column in inspector.get_columns("item")] == ["id", "name", "at"]
        if not any(index["name"] == "item_name" for index in inspector.get_indexes("item")):
            op.create_index("item_name", "item", ["name"])
        """,
        "select indexname from pg_indexes where indexname = 'item_name'",
        [("item_name",)],
    ),
    "bound parameters": (
        """
        op.execute(sa.text("insert into item values (:id, :name)").bindparams(id=-1, name="o'clock: 5%"))
        op.execute(sa.text(r"insert into item values (-2, '12\\:30')"))
        op.execute(sa.insert(sa.table("item", sa.column("id"), sa.column("name"))).values(id=-3, name="core"))
        """,
        "select name from item where id < 0 order by id",
        [("core",), ("12:30",), ("o'clock: 5%",)],
    ),
    "several statements": (
        """
        op.execute('''
            create function twice(n int) returns int language sql as 'select n * 2; -- not the end';
            create table doubled as select twice(id) as id from item;
            insert into item values (-1, 'a; b')
        ''')
        """,
        "select max(id), (select name from item where id = -1) from doubled",
        [(2000, "a; b")],
    ),
    "autocommit_block": (
        """
        with op.get_context().autocommit_block():
            op.execute("create index concurrently item_name on item (name)")
            op.execute("vacuum item")
        """,
        "select indisvalid from pg_index where indexrelid = 'item_name'::regclass",
        [(True,)],
    ),
    "COMMIT before a concurrent index": (
        """
        op.execute("COMMIT")
        op.execute("CREATE INDEX CONCURRENTLY item_name ON item (name)")
        """,
        "select indisvalid from pg_index where indexrelid = 'item_name'::regclass",
        [(True,)],
    ),
    "postgresql_concurrently": (
        """
        with op.get_context().autocommit_block():
            op.create_index("item_name", "item", ["name"], postgresql_concurrently=True, if_not_exists=True)
        """,
        "select indisvalid from pg_index where indexrelid = 'item_name'::regclass",
        [(True,)],
    ),
    "an enum's new value": (
        """
        op.execute("create type mood as enum ('calm')")
        with op.get_context().autocommit_block():
            op.execute("alter type mood add value 'lively'")
        op.execute("create table felt as select 'lively'::mood as how")
        """,
        "select how::text from felt",
        [("lively",)],
    ),
    "streaming": (
        """
        bind = op.get_bind()
        seen = 0
        query = sa.text("select id from item order by id")
        with bind.execute(query, execution_options={"yield_per": 100}) as rows:
            for part in rows.partitions():
                seen += len(part)
        assert seen == 1000
        op.execute(f"insert into item values (-1, '{seen}')")
        """,
        "select name from item where id = -1",
        [("1000",)],
    ),
    "a server-side cursor": (
        """
        query = sa.text("select id from item order by id")
        rows = op.get_bind().execute(query, execution_options={"stream_results": True})
        first = rows.fetchmany(3)
        rows.close()
        op.execute(f"insert into item values (-1, '{[row.id for row in first]}')")
        """,
        "select name from item where id = -1",
        [("[1, 2, 3]",)],
    ),
    "the ORM": (
        """
        from sqlalchemy.orm import Session, declarative_base
        class Item(declarative_base()):
            __tablename__ = "item"
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(sa.Text)
        session = Session(bind=op.get_bind())
        session.get(Item, 5).name = "five"
        session.add(Item(id=-1, name="new"))
        session.commit()
        """,
        "select name from item where id in (-1, 5) order by id",
        [("new",), ("five",)],
    ),
    "a savepoint": (
        """
        bind = op.get_bind()
        try:
            with bind.begin_nested():
                op.execute("insert into item values (1, 'twice')")
        except sa.exc.IntegrityError:
            op.execute("insert into item values (-1, 'was there')")
        """,
        "select name from item where id < 0",
        [("was there",)],
    ),
    "types with a codec of their own": (
        """
        op.execute("create table odd (j jsonb, u uuid, a int[], n numeric, i inet, r int4range)")
        from sqlalchemy.dialects import postgresql as pg
        import decimal, uuid
        odd = sa.table("odd", sa.column("j", pg.JSONB), sa.column("u", pg.UUID(as_uuid=True)),
                       sa.column("a", pg.ARRAY(sa.Integer)), sa.column("n", sa.Numeric))
        op.bulk_insert(odd, [{"j": {"a": [1]}, "u": uuid.UUID(int=7), "a": [1, 2], "n": decimal.Decimal("1.10")}])
        [row] = op.get_bind().execute(sa.select(odd)).all()
        assert row == ({"a": [1]}, uuid.UUID(int=7), [1, 2], decimal.Decimal("1.10")), row
        """,
        "select j->'a'->>0 from odd",
        [("1",)],
    ),
}


@pytest.mark.parametrize("template", ["generic", "async"])
@pytest.mark.parametrize("name", BODIES)
def test_what_a_revision_does(
    name: str, template: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """A revision does under Headstart what it does under Alembic, and is recorded."""
    if template == "generic" and name == "COMMIT before a concurrent index":
        pytest.skip("psycopg begins a transaction for the statement that follows: Alembic fails of it, too")
    body, query, expected = BODIES[name]
    project = Project(tmp_path / "app", template=template)
    project.revision("a1", *GROUND)
    project.revision("b2", body=body)
    project.revision("c3", "comment on table item is 'after it'")
    run = at_head(run_headstart, any_database, project.folder, ["c3"])
    assert run.last["applied"] == ["a1", "b2", "c3"]
    assert psql(any_database, query) == expected


@pytest.mark.parametrize("template", ["generic", "async"])
def test_what_a_revision_says(template: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """print, warnings and logging, set up as the revision likes, become lines of the log; stdout stays empty."""
    project = Project(tmp_path / "app", template=template)
    project.revision(
        "a1",
        body="""
        import logging, sys, warnings
        logging.basicConfig(force=True, level=logging.DEBUG, format="garbled %(message)s", stream=sys.stdout)
        print("one line\\nand another")
        print("without an end", end="")
        print("to stderr", file=sys.stderr)
        sys.stdout.write("written\\n")
        warnings.warn("have a care", stacklevel=1)
        logging.getLogger("app.migrations").warning("a %s", "warning")
        logging.getLogger("app.migrations").error("an error with {braces} and %", extra={"event": "mine"})
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("caught")
        op.execute("create table a ()")
        """,
    )
    run = at_head(run_headstart, any_database, project.folder, ["a1"])
    assert run.stdout == ""
    said = {line["message"] for line in run.events("script_output")}
    assert {"one line", "and another", "to stderr", "without an endwritten"} <= said, run
    for text in ("have a care", "garbled a warning", "garbled an error with {braces} and %", "garbled caught"):
        assert text in " ".join(said), run
    nothing_to_do(run_headstart, any_database, project.folder)


def test_a_revision_that_leaves(any_database: str, tmp_path: Path, run_headstart: RunHeadstart) -> None:
    """A revision that calls sys.exit(0) has failed: it does not decide that the run is done."""
    project = Project(tmp_path / "app")
    project.revision("a1", "create table a ()")
    project.revision("b2", body="op.execute('create table b ()')\nimport sys\nsys.exit(0)")
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 60, run
    assert (run.last["failed"], run.last["revision_after"]) == ("b2", "a1")
    assert recorded(any_database) == ["a1"]
    assert psql(any_database, "select to_regclass('b')") == [(None,)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (r'raise ValueError("caf\udce9")', r"ValueError: caf\udce9"),
        (
            """
            class Silent(Exception):
                def __str__(self):
                    raise RuntimeError
            raise Silent
            """,
            "Silent: its text cannot be had: RuntimeError",
        ),
    ],
    ids=["no text", "no __str__"],
)
def test_an_exception_without_a_proper_text(
    body: str, said: str, any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """The revision and its line are named all the same."""
    project = Project(tmp_path)
    project.revision("a1", body=body)
    run = run_headstart("up", url=any_database, cwd=project.folder, env={"HEADSTART_BACKUP": "off"})
    assert run.code == 60, str(run)
    assert said in run.last["error"]
    assert "a1.py:" in run.last["location"]
