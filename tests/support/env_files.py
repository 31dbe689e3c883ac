"""Ways to write env.py, each of which `alembic upgrade head` takes to head, and a project and a database for them.

    project = built(tmp_path, ENV_FILES["psycopg2"])         # three revisions, and that env.py
    url = server.create_database(template=prepared(server))  # schemas app and boot, and a role, OWNER
    seen = left_behind(url)                                  # everything of the user's that is in it

Each env.py takes its address from DATABASE_URL, postgresql://...; the two templates of Alembic's own, from alembic.ini.
"""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any, NamedTuple

from support.postgres import psql, script
from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.postgres import Postgres

OWNER = "env_files_owner"
"""A role that may make tables in public."""


class EnvFile(NamedTuple):
    """An env.py.

    Args:
        text: of the file; Alembic's own template where there is none.
        template: that template.
        driver: SQLAlchemy's name of the driver that a URL in alembic.ini has for Alembic.
        schema: the one that the revisions' tables are made in.
        owner: of these tables.
        versions: the folder of the revision files.
        files: others that the project has, by their path.
        prints: lines that it puts on stdout or stderr.
    """

    text: str = ""
    template: str = "generic"
    driver: str = "psycopg2"
    schema: str = "public"
    owner: str = "postgres"
    versions: str = "versions"
    files: Mapping[str, str] = {}
    prints: tuple[str, ...] = ()


HEAD = """\
import asyncio
import os

from alembic import context
from sqlalchemy import create_engine, event, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

URL = os.environ["DATABASE_URL"]


def address(driver):
    return URL.replace("postgresql:", f"postgresql+{driver}:", 1)


def migrate(connection, **options):
    context.configure(connection=connection, target_metadata=None, **options)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_over(engine):
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


"""


def _env(code: str, **others: Any) -> EnvFile:
    return EnvFile(HEAD + dedent(code).lstrip("\n"), **others)


ENV_FILES: Mapping[str, EnvFile] = {
    "the generic template": EnvFile(),
    "the async template": EnvFile(template="async", driver="asyncpg"),
    "psycopg2": _env(
        """
        engine = create_engine(address("psycopg2"))
        with engine.connect() as connection:
            migrate(connection)
        """
    ),
    "psycopg": _env(
        """
        engine = create_engine(address("psycopg"), poolclass=pool.NullPool, connect_args={"prepare_threshold": None})
        with engine.connect() as connection:
            migrate(connection)
        """
    ),
    "psycopg, asynchronous": _env(
        """
        asyncio.run(migrate_over(create_async_engine(address("psycopg"), poolclass=pool.NullPool)))
        """
    ),
    "asyncpg": _env(
        """
        asyncio.run(migrate_over(create_async_engine(address("asyncpg"))))
        """
    ),
    "a running loop is looked for": _env(
        """
        from concurrent.futures import ThreadPoolExecutor

        def in_a_loop_of_its_own():
            asyncio.run(migrate_over(create_async_engine(address("asyncpg"), poolclass=pool.NullPool)))

        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is None:
            in_a_loop_of_its_own()
        else:
            with ThreadPoolExecutor(max_workers=1) as executor:
                executor.submit(in_a_loop_of_its_own).result()
        """
    ),
    "in a thread": _env(
        """
        import threading

        failures = []

        def work():
            try:
                with create_engine(address("psycopg2"), poolclass=pool.NullPool).connect() as connection:
                    migrate(connection)
            except Exception as failure:
                failures.append(failure)

        worker = threading.Thread(target=work, name="migrations")
        worker.start()
        worker.join()
        if failures:
            raise failures[0]
        """
    ),
    "an asynchronous one in a thread": _env(
        """
        import threading

        def work():
            asyncio.run(migrate_over(create_async_engine(address("asyncpg"), poolclass=pool.NullPool)))

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        """
    ),
    "uvloop": _env(
        """
        import uvloop

        uvloop.run(migrate_over(create_async_engine(address("asyncpg"), poolclass=pool.NullPool)))
        """
    ),
    "anyio": _env(
        """
        import anyio

        async def main():
            async with anyio.create_task_group() as group:
                group.start_soon(migrate_over, create_async_engine(address("asyncpg"), poolclass=pool.NullPool))

        anyio.run(main)
        """
    ),
    "server_settings": _env(
        """
        settings = {"search_path": "app,public", "application_name": "the app"}
        engine = create_async_engine(address("asyncpg"), connect_args={"server_settings": settings})
        asyncio.run(migrate_over(engine))
        """,
        schema="app",
    ),
    "options of libpq": _env(
        """
        engine = create_engine(address("psycopg"), connect_args={"options": "-c search_path=app -c lock_timeout=3s"})
        with engine.connect() as connection:
            migrate(connection)
        """,
        schema="app",
    ),
    "SET search_path and a commit": _env(
        """
        with create_engine(address("psycopg"), poolclass=pool.NullPool).connect() as connection:
            connection.exec_driver_sql("set search_path to app, public")
            connection.commit()
            connection.dialect.default_schema_name = "app"
            migrate(connection)
        """,
        schema="app",
    ),
    "SET LOCAL search_path": _env(
        """
        def migrate_in_app(connection):
            context.configure(connection=connection, version_table_schema="app", include_schemas=True)
            with context.begin_transaction():
                context.execute("set local search_path to app, public")
                context.run_migrations()

        async def main():
            engine = create_async_engine(address("asyncpg"), poolclass=pool.NullPool)
            async with engine.connect() as connection:
                await connection.run_sync(migrate_in_app)
            await engine.dispose()

        asyncio.run(main())
        """,
        schema="app",
    ),
    "never closed": _env(
        """
        engine = create_engine(address("psycopg2"))
        connection = engine.connect()
        migrate(connection)
        """
    ),
    "never closed, asynchronous": _env(
        """
        kept = []

        async def main():
            connection = await create_async_engine(address("asyncpg")).connect()
            kept.append(connection)
            await connection.run_sync(migrate)

        asyncio.run(main())
        """
    ),
    "engine.begin": _env(
        """
        with create_engine(address("psycopg")).begin() as connection:
            migrate(connection)
        """
    ),
    "engine.begin, asynchronous": _env(
        """
        async def main():
            engine = create_async_engine(address("asyncpg"))
            async with engine.begin() as connection:
                await connection.execute(text("select pg_advisory_xact_lock(1234)"))
                await connection.run_sync(migrate)
            await engine.dispose()

        asyncio.run(main())
        """
    ),
    "AUTOCOMMIT": _env(
        """
        engine = create_engine(address("psycopg2"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            migrate(connection)
        """
    ),
    "async_creator": _env(
        """
        import asyncpg

        async def connect():
            return await asyncpg.connect(URL, server_settings={"search_path": "app"}, statement_cache_size=0)

        asyncio.run(migrate_over(create_async_engine("postgresql+asyncpg://", async_creator=connect)))
        """,
        schema="app",
    ),
    "creator": _env(
        """
        import psycopg2

        def connect():
            return psycopg2.connect(URL, options="-c search_path=app", application_name="the app")

        engine = create_engine("postgresql+psycopg2://", creator=connect, poolclass=pool.StaticPool)
        with engine.connect() as connection:
            migrate(connection)
        """,
        schema="app",
    ),
    "SET ROLE": _env(
        f"""
        with create_engine(address("psycopg"), poolclass=pool.NullPool).connect() as connection:
            connection.execute(text("set role {OWNER}"))
            connection.commit()
            migrate(connection)
        """,
        owner=OWNER,
    ),
    "a boot connection before": _env(
        """
        boot = create_engine(address("psycopg2"), connect_args={"options": "-c search_path=boot"})
        with boot.connect() as connection:
            assert connection.scalar(text("select current_schema()")) == "boot"
        with create_engine(address("psycopg2"), poolclass=pool.NullPool).connect() as connection:
            assert connection.scalar(text("select current_schema()")) == "public"
            connection.rollback()
            migrate(connection)
        """
    ),
    "its own logging": _env(
        """
        import logging
        import logging.config
        import sys

        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": True,
                "formatters": {"plain": {"format": "%(levelname)s from the app: %(message)s"}},
                "handlers": {"out": {"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "plain"}},
                "root": {"handlers": ["out"], "level": "INFO"},
            }
        )
        logging.getLogger("app").info("logged to stdout")
        print("printed to stdout")
        print("printed to stderr", file=sys.stderr)
        with create_engine(address("psycopg2")).connect() as connection:
            migrate(connection)
        """,
        prints=("INFO from the app: logged to stdout", "printed to stdout", "printed to stderr"),
    ),
    "version_locations": _env(
        """
        context.script.version_locations = [os.path.join(os.path.dirname(__file__), "postgres")]
        with create_engine(address("psycopg")).connect() as connection:
            migrate(connection)
        """,
        versions="postgres",
    ),
    "schema_translate_map": _env(
        """
        with create_engine(address("psycopg2")).connect() as connection:
            migrate(
                connection.execution_options(schema_translate_map={None: "app"}), version_table_schema="app"
            )
        """,
        schema="app",
    ),
    "a connect listener": _env(
        """
        engine = create_engine(address("psycopg2"))

        @event.listens_for(engine, "connect", insert=True)
        def choose_schema(dbapi_connection, connection_record):
            before = dbapi_connection.autocommit
            dbapi_connection.autocommit = True
            with dbapi_connection.cursor() as cursor:
                cursor.execute("set session search_path to app, public")
            dbapi_connection.autocommit = before

        with engine.connect() as connection:
            migrate(connection)
        """,
        schema="app",
    ),
    "transaction_per_migration": _env(
        """
        with create_engine(address("psycopg"), poolclass=pool.NullPool).connect() as connection:
            migrate(connection, transaction_per_migration=True)
        """
    ),
    "more in its transaction": _env(
        """
        with create_engine(address("psycopg2")).connect() as connection:
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()
                connection.execute(text("insert into account values (3, 'more') on conflict do nothing"))
        """
    ),
    "looks at what it has made": _env(
        """
        with create_engine(address("psycopg")).connect() as connection:
            migrate(connection)
            print(connection.execute(text("select count(*) from account")).scalar())
        """
    ),
    "SET LOCAL by the driver": _env(
        """
        with create_engine(address("psycopg2")).connect() as connection:
            context.configure(connection=connection, version_table_schema="app")
            with context.begin_transaction():
                connection.connection.cursor().execute("set local search_path to app, public")
                context.run_migrations()
        """,
        schema="app",
    ),
    "a state that it uses up": _env(
        """
        from app.state import schemas

        schema = schemas.pop()
        options = {"options": f"-csearch_path={schema}"}
        with create_engine(address("psycopg2"), connect_args=options).connect() as connection:
            migrate(connection, version_table_schema=schema)
        """,
        schema="app",
        files={"app/__init__.py": "", "app/state.py": 'schemas = ["boot", "app"]\n'},
    ),
    "a table of its own in the app's metadata": _env(
        """
        import sqlalchemy
        from app.models import metadata

        sqlalchemy.Table("audit", metadata, sqlalchemy.Column("a", sqlalchemy.Integer))
        with create_engine(address("psycopg2")).connect() as connection:
            migrate(connection)
        """,
        files={
            "app/__init__.py": "",
            "app/models.py": "import sqlalchemy\n\nmetadata = sqlalchemy.MetaData()\n",
        },
    ),
    "a connection class of its own": _env(
        """
        import psycopg2.extensions

        class Connection(psycopg2.extensions.connection):
            pass

        engine = create_engine(address("psycopg2"), connect_args={"connection_factory": Connection})
        with engine.connect() as connection:
            migrate(connection)
        """
    ),
    "what it was called for": _env(
        """
        import sys

        if "upgrade" in sys.argv:
            assert context.config.cmd_opts.cmd[0].__name__ == "upgrade"
            assert "c3" in context.get_revision_argument()
        with create_engine(address("psycopg2")).connect() as connection:
            migrate(connection)
        """
    ),
    "sys.exit(0) at its end": _env(
        """
        import sys

        with create_engine(address("psycopg2")).connect() as connection:
            migrate(connection)
        sys.exit(0)
        """
    ),
    "its own transaction, after configure": _env(
        """
        with create_engine(address("psycopg2")).connect() as connection:
            context.configure(connection=connection)
            with connection.begin():
                context.run_migrations()
        """
    ),
    "its own commit": _env(
        """
        async def main():
            engine = create_async_engine(address("asyncpg"))
            async with engine.connect() as connection:
                await connection.run_sync(lambda sync: (context.configure(connection=sync), context.run_migrations()))
                await connection.commit()
            await engine.dispose()

        asyncio.run(main())
        """
    ),
    "counts its runs": _env(
        """
        engine = create_engine(address("psycopg"))
        with engine.begin() as connection:
            connection.execute(text("create table if not exists runs (n int)"))
            connection.execute(text("insert into runs select count(*) from runs"))
        with engine.connect() as connection:
            migrate(connection)
        with engine.begin() as connection:
            connection.execute(text("insert into runs values (-1)"))
        """
    ),
    "counts its runs, asynchronous": _env(
        """
        async def main():
            engine = create_async_engine(address("asyncpg"))
            async with engine.connect() as connection:
                await connection.execute(text("create table if not exists runs (n int)"))
                await connection.execute(text("insert into runs select count(*) from runs"))
                await connection.commit()
                await connection.run_sync(migrate)
            await engine.dispose()

        asyncio.run(main())
        """
    ),
    "makes its schema on another connection": _env(
        """
        with create_engine(address("psycopg2")).begin() as connection:
            connection.execute(text("create schema if not exists made"))
        options = {"options": "-c search_path=made"}
        with create_engine(address("psycopg2"), connect_args=options).connect() as connection:
            migrate(connection)
        """,
        schema="made",
    ),
    "makes its schema, and goes there": _env(
        """
        with create_engine(address("psycopg2")).connect() as connection:
            connection.execute(text("create schema if not exists made"))
            connection.execute(text("set search_path to made"))
            connection.commit()
            connection.dialect.default_schema_name = "made"
            migrate(connection)
        """,
        schema="made",
    ),
    "makes its schema by AUTOCOMMIT": _env(
        """
        with create_engine(address("psycopg2"), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("create schema if not exists made"))
        with create_engine(address("psycopg2")).connect() as connection:
            connection.execute(text("set search_path to made"))
            connection.commit()
            migrate(connection, version_table_schema="made")
        """,
        schema="made",
    ),
    "the app's engine": _env(
        """
        from app.database import Base, engine

        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
            with context.begin_transaction():
                context.run_migrations()
        """,
        files={
            "app/__init__.py": "",
            "app/database.py": dedent(
                """
                import os

                from sqlalchemy import create_engine
                from sqlalchemy.orm import DeclarativeBase, sessionmaker

                engine = create_engine(
                    os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1),
                    pool_size=2,
                    pool_pre_ping=True,
                )
                Session = sessionmaker(engine)


                class Base(DeclarativeBase):
                    pass
                """
            ).lstrip("\n"),
        },
    ),
}
"""By what is particular to each."""

_REVISIONS = {
    "a1": (
        """
        op.create_table("account", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
        """,
        """
        op.drop_table("account")
        """,
    ),
    "b2": (
        """
        account = sa.Table("account", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.Text))
        op.bulk_insert(account, [{"id": 1, "name": "first"}, {"id": 2, "name": "50% & 'quoted'"}])
        op.create_index("account_name", "account", ["name"])
        """,
        """
        op.drop_index("account_name", table_name="account")
        op.execute(sa.delete(sa.Table("account", sa.MetaData(), sa.Column("id", sa.Integer))))
        """,
    ),
    "c3": (
        """
        op.create_table(
            "entry",
            sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
            sa.Column("account", sa.Integer, sa.ForeignKey("account.id"), nullable=False),
        )
        """,
        """
        op.drop_table("entry")
        """,
    ),
}


def built(folder: Path, env_file: EnvFile) -> Project:
    """A project of three revisions, a1, b2 and c3, with an env.py.

    Its alembic.ini has the placeholder that Alembic's template has, where a URL may be.
    """
    project = Project(folder, template=env_file.template)
    ini = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(ini.replace("\n\n", "\nprepend_sys_path = %(here)s\n\n", 1), encoding="utf-8")
    if env_file.text:
        project.env.write_text(env_file.text, encoding="utf-8")
    for name, content in env_file.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    project.versions = project.env.parent / env_file.versions
    project.versions.mkdir(exist_ok=True)
    for ident, (upgrade, downgrade) in _REVISIONS.items():
        path = project.revision(ident, body=upgrade)
        text = path.read_text(encoding="utf-8")
        before, _, _ = text.rpartition("    pass\n")
        path.write_text(before + _indented(downgrade), encoding="utf-8")
    return project


def prepared(server: Postgres) -> str:
    """The name of a template database with the schemas app and boot, in which the role OWNER may make tables."""

    def fill(url: str) -> None:
        script(
            url,
            f"create role {OWNER}; create schema app; create schema boot; grant all on schema public, app to {OWNER}",
        )

    return server.template("env_files", fill)


class Left(NamedTuple):
    """What is in a database, Headstart's own apart.

    Args:
        relations: each one's schema, name, kind, owner and columns.
        rows: each table's, after its schema and name.
    """

    relations: list[tuple[Any, ...]]
    rows: list[tuple[Any, ...]]


def left_behind(url: str) -> Left:
    """Look what is in a database; with the superuser's URL."""
    relations = psql(url, _RELATIONS)
    tables = [(schema, name) for schema, name, kind, *_ in relations if kind == "r"]
    rows = " union all ".join(f"select {schema!r}, {name!r}, t::text from {schema}.{name} t" for schema, name in tables)
    return Left(relations, psql(url, f"{rows} order by 1, 2, 3") if rows else [])


_RELATIONS = """
select n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner),
    (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull::text, ', '
                       order by a.attnum)
       from pg_attribute a where a.attrelid = c.oid and a.attnum > 0)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname <> all ('{pg_catalog,pg_toast,information_schema,headstart}')
order by 1, 2
"""


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in dedent(code).strip("\n").splitlines())
