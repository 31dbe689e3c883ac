"""What the text of an env.py says for certain, and what makes it Alembic's to tell."""

from __future__ import annotations

from pathlib import Path

import alembic
import pytest

from headstart.errors import ConfigurationError
from headstart.history.environment import Environment, read_environment
from support.revisions import write

HEAD = """\
import asyncio, functools, os
import sqlalchemy as sa
from alembic import context
from shop import db
from sqlalchemy import create_engine
from sqlalchemy import engine_from_config, pool, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_engine_from_config, create_async_engine

config = context.config
section = config.get_section(config.config_ini_section, {})
URL = os.environ["DATABASE_URL"]
"""
RUN = "def run(connection):\n    context.configure(connection=connection)"
THREAD = f"""{HEAD}
{RUN}

async def main():
    connection = await create_async_engine(URL).connect()
    await connection.run_sync(run)

try:
    asyncio.get_running_loop()
except RuntimeError:
    asyncio.run(main())
else:
    import threading
    threading.Thread(target=lambda: asyncio.run(main())).start()
"""
AUTOGENERATE = """
def include_name(name, type_, parents):
    return name != 'spatial'

def process(context, revision, directives):
    if directives[0].upgrade_ops.is_empty():
        directives[:] = []
"""
ASYNC = f"""{HEAD}
{RUN}

async def main():
    async with create_async_engine(URL).connect() as c:
        await c.run_sync(db.prepare)
        await c.run_sync(run)
"""
OPTIONS = "env.py gives options of its own to its engine or connection"
NO_ENGINE = "env.py does not make its engine itself"
ELSEWHERE = "env.py gives its engine or connection to code that is not in it"
TEMPLATES = Path(alembic.__file__).with_name("templates")
ROOT = Path(__file__).parents[2]


def read(root: Path, env: str) -> Environment:
    """What this text says."""
    return read_environment(str(write(root, "env.py", env)))


def configure(before: str = "", arguments: str = "") -> str:
    """An env.py that configures Alembic with these arguments, after these lines."""
    return f"{HEAD}{before}\ncontext.configure(connection=engine_from_config(section).connect(){arguments})\n"


def migrate(function: str, call: str) -> str:
    """An env.py that has this function and makes this call while it is connected."""
    return f"{HEAD}{function}\nwith create_engine(URL).connect() as connection:\n    {call}\n"


def connected(before: str) -> str:
    """An env.py that does this on its connection before Alembic is configured with it."""
    return migrate(RUN, f"{before}\n    run(connection)")


def engine(call: str) -> str:
    """An env.py that makes its engine with this call."""
    return f"{HEAD}with {call}.connect() as connection:\n    context.configure(connection=connection)\n"


@pytest.mark.parametrize("path", [*TEMPLATES.glob("*/env.py"), ROOT / "migrations/env.py"], ids=lambda p: p.parent.name)
def test_each_template_and_the_reference_project_are_certain(path: Path) -> None:
    """What `alembic init` writes and what the reference project has leave no doubt."""
    assert read_environment(str(path)) == Environment("alembic_version", None, "")


@pytest.mark.parametrize(
    ("env", "table", "schema"),
    [
        (configure(), "alembic_version", None),
        (configure(arguments=", version_table='v'"), "v", None),
        (configure(arguments=", version_table_schema='s'"), "alembic_version", "s"),
        (configure(arguments=", version_table='v', version_table_schema='s'"), "v", "s"),
        (configure(arguments=", version_table_schema=None"), "alembic_version", None),
        (configure("# version_table='no'"), "alembic_version", None),
        (configure("context.configure(url='x')", ", version_table='v'"), "v", None),
        (configure("import structlog\nstructlog.configure(**{})"), "alembic_version", None),
        (
            configure().replace("import context", "import context as c").replace("context.conf", "c.conf"),
            "alembic_version",
            None,
        ),
        (
            "import alembic\n" + configure(arguments=", version_table='v'").replace("context.c", "alembic.context.c"),
            "v",
            None,
        ),
        (
            "from alembic.context import configure\n" + configure().replace("context.configure(", "configure("),
            "alembic_version",
            None,
        ),
        ("from headstart import environment\nenvironment.configure(None, version_table='v')\n", "v", None),
        ("from headstart.environment import configure as run\nrun(None)\n", "alembic_version", None),
        ("import headstart.environment\nheadstart.environment.configure(None)\n", "alembic_version", None),
    ],
)
def test_a_version_table_that_is_written_out_is_found(tmp_path: Path, env: str, table: str, schema: str | None) -> None:
    """version_table and version_table_schema are read from env.py without running it."""
    assert read(tmp_path, env) == Environment(table, schema, "")


@pytest.mark.parametrize(
    "env",
    [
        engine("create_engine(URL.replace('postgres:', 'postgresql:'), poolclass=pool.NullPool, echo=True)"),
        engine("sa.create_engine(db.settings.url)"),
        engine("engine_from_config({'sqlalchemy.url': URL}, prefix='sqlalchemy.')"),
        engine("create_engine(URL)").replace(
            "from sqlalchemy import create_engine", "from sqlmodel import create_engine"
        ),
        engine("make(URL)").replace("import create_engine", "import create_engine as make"),
        engine("create_engine(URL)").replace(".connect()", ".begin()"),
        configure("engine = config.attributes.get('e') or AsyncEngine(engine_from_config(section))\nprint(engine)"),
        configure("config.set_main_option('sqlalchemy.url', db.settings.url.replace('%', '%%'))"),
        configure("URL = context.get_x_argument(as_dictionary=True).get('url', URL)"),
        configure("from logging.config import fileConfig\nfileConfig(config.config_file_name)"),
        configure("import sys\nsys.path.append(os.getcwd())"),
        configure(AUTOGENERATE, ", include_name=include_name, process_revision_directives=process"),
        configure(arguments=", target_metadata=db.Base.metadata, compare_type=True"),
        configure('"""Without search_path: connection.execute("set role x")"""', ", transaction_per_migration=True"),
        configure('def shown():\n    """Sets no search_path, no connect_args."""', ", render_as_batch=False"),
        connected("connection.begin()"),
        THREAD,
    ],
)
def test_what_only_reaches_the_database_is_certain(tmp_path: Path, env: str) -> None:
    """Drivers, pools, loops, threads, addresses, logging and autogenerate's options do not move the version table."""
    assert read(tmp_path, env) == Environment("alembic_version", None, "")


@pytest.mark.parametrize(
    "env",
    [
        configure(arguments=", version_table=os.environ['T']"),
        configure(arguments=", version_table=f'{os.name}_v'"),
        configure("T = 'v'", ", version_table=T"),
        configure("from shop import T", ", version_table_schema=T"),
        configure("T = context.get_x_argument(as_dictionary=True)['t']", ", version_table_schema=T"),
        configure("options = {}", ", **options"),
        configure("context.configure(connection=None, version_table='w')", ", version_table='v'"),
        configure().replace("(connection=", "(*db.both, connection="),
        migrate("def run(c, **o):\n    context.configure(connection=c, **o)", "run(connection, version_table='v')"),
    ],
)
def test_a_version_table_that_is_computed_is_in_doubt(tmp_path: Path, env: str) -> None:
    """A version table that only running env.py can tell is Alembic's to tell."""
    assert read(tmp_path, env).doubt.startswith("env.py computes what it gives to context.configure")


@pytest.mark.parametrize(
    "env",
    [
        "",
        "from shop.db import run_migrations\nrun_migrations()\n",
        HEAD + "context.configure(url=URL)\ndb.run_migrations(engine_from_config(section))\n",
        HEAD + "context.configure(url=URL)\nfunctools.partial(context.configure, version_table='v')(connection=None)\n",
        configure("run = context.configure"),
        configure().replace("from alembic import context", "from shop import context"),
        "# -*- coding: latin-1 -*-\nNAME = 'Gr\xf6\xdfe'\n",
    ],
)
def test_an_env_py_that_leaves_the_call_to_others_is_in_doubt(tmp_path: Path, env: str) -> None:
    """Where env.py itself does not call context.configure with its connection, its arguments are not known."""
    path = write(tmp_path, "env.py", env.encode("latin-1"))
    assert "does not call context.configure" in read_environment(str(path)).doubt


@pytest.mark.parametrize(
    ("env", "doubt"),
    [
        (connected("connection.execute(sa.schema.CreateSchema('app', if_not_exists=True))"), "execute"),
        (connected("connection.exec_driver_sql('create schema app')"), "exec_driver_sql"),
        (connected("connection.scalar(db.lock)"), "scalar"),
        (connected("connection.scalars(db.lock).all()"), "scalars"),
        (connected("connection.connection.cursor()"), "cursor"),
        (connected("context.execute('create schema app')"), "execute"),
        (connected("db.Base.metadata.create_all(connection)"), "create_all"),
        (connected("lock = text('select 1')"), "sqlalchemy.text"),
        (connected("lock = sa.text('select 1')"), "sqlalchemy.text"),
        (connected("do = connection.execute"), "execute"),
        (connected("connection.execute(text('SET search_path TO app'))"), "search_path"),
        (connected("connection.dialect.default_schema_name = 'app'"), "default_schema_name"),
        (engine("create_engine(URL + '?options=-csearch_path%3Dapp')"), "search_path"),
        (engine("create_engine(URL)").replace("URL =", "os.environ['PGOPTIONS'] = '-c role=x'\nURL ="), "pgoptions"),
        (engine("create_engine(URL, connect_args={'server_settings': {'search_path': 'app'}})"), "search_path"),
        (connected("connection.execute(text('set role owner'))"), "set role"),
        (connected("connection.execute(text('SET LOCAL ROLE owner'))"), "set role"),
        (connected("connection.execute(text('set session authorization x'))"), "set role"),
        (migrate(RUN, "run(connection.execution_options(schema_translate_map={None: 'app'}))"), "schema_translate_map"),
        (migrate(RUN, "run(connection.execution_options(stream_results=True))"), "execution_options"),
        (engine("create_engine(URL, connect_args={'server_settings': {'role': 'x'}})"), "connect_args"),
        (engine("create_engine(URL, connect_args=db.arguments)"), "connect_args"),
        (engine("create_engine(URL, **{'connect_args': db.arguments})"), "connect_args"),
        (engine("create_engine(URL, **db.options)"), OPTIONS),
        (engine("engine_from_config(db.options)"), OPTIONS),
        (engine("create_engine(URL, **OPTIONS)").replace("URL =", "OPTIONS = {**db.options}\nURL ="), OPTIONS),
        (engine("create_engine(URL, creator=db.connect)"), "creator"),
        (engine("create_async_engine(URL, async_creator=db.connect)"), "async_creator"),
        (engine("create_engine(URL, execution_options={})"), "execution_options"),
        (engine("create_engine(URL, isolation_level='AUTOCOMMIT')"), "isolation_level"),
        (engine("create_engine(sa.URL.create('postgresql', query={'options': db.options}))"), "options"),
        (engine("create_engine(URL + '?options=' + db.options)"), "options"),
        (engine("create_engine(URL + ' -c lock_timeout=1')"), "options"),
        (configure("section['sqlalchemy.connect_args'] = db.arguments"), "connect_args"),
        (
            configure("from sqlalchemy import event\n@event.listens_for(pool.Pool, 'connect')\ndef f(*_): pass"),
            "listens_for",
        ),
        (configure("sa.event.listen(pool.Pool, 'connect', db.prepare)"), "listen"),
        (configure("from sqlalchemy import event as e\ndb.prepare(e)"), "sqlalchemy.event"),
        (configure("context.script.version_locations = ['pg']"), "version_locations"),
        (configure("db.move(context.script)"), "alembic.context.script"),
        (configure("config.set_main_option('version_locations', 'pg')"), "version_locations"),
        (configure("config.set_main_option('script_location', 'pg')"), "script_location"),
        (configure(arguments=", fn=db.steps"), "fn"),
        (configure(arguments=", starting_rev='a1'"), "starting_rev"),
        (configure(arguments=", dont_mutate=True"), "dont_mutate"),
        (configure(arguments=", purge=True"), "purge"),
        (configure(arguments=", as_sql=True"), "as_sql"),
        (configure("from alembic import command\ncommand.stamp(config, 'head')"), "alembic.command"),
        (configure("exec(open('more.py').read())"), "exec"),
        (configure("from sqlalchemy import orm\norm.Session(create_engine(URL)).commit()"), "Session"),
        (connected("connection.connection.dbapi_connection.reset()"), "dbapi_connection"),
        (HEAD + "with db.engine.connect() as connection:\n    context.configure(connection=connection)\n", NO_ENGINE),
        (HEAD + "engine = db.engine\ncontext.configure(connection=engine.connect())\ncreate_engine(URL)\n", NO_ENGINE),
        (
            engine("create_engine(URL)").replace("sqlalchemy import create_engine", "shop.db import create_engine"),
            NO_ENGINE,
        ),
        (engine("(db.engine if URL else create_engine(URL))"), NO_ENGINE),
        ("import headstart\n" + engine("headstart.engine_from(os.environ)"), NO_ENGINE),
        (connected("db.prepare(connection)"), ELSEWHERE),
        (migrate("from .setup import prepare\n" + RUN, "prepare(bind=connection); run(connection)"), ELSEWHERE),
        (configure("engine = create_engine(URL)\ndb.prepare(engine)"), ELSEWHERE),
        (ASYNC, ELSEWHERE),
    ],
)
def test_whatever_may_move_the_version_table_is_in_doubt(tmp_path: Path, env: str, doubt: str) -> None:
    """SQL, options, events, other revision files and other people's engines are doubts, each with its reason."""
    assert read(tmp_path, env).doubt == (doubt if doubt.startswith("env.py") else f"env.py has {doubt!r} in it")


def test_a_password_is_no_doubt(tmp_path: Path) -> None:
    """A password that looks like an option is not shown as the reason."""
    env = configure("URL = 'postgresql+psycopg://app:Zm9v-cGFzc3dvcmQ=@db/app'")
    assert "pgfzc3" not in read(tmp_path, env).doubt.lower()
    assert "'options'" in read(tmp_path, env).doubt


def test_what_is_certain_is_kept_beside_a_doubt(tmp_path: Path) -> None:
    """A version table that is written out is read even where something else is in doubt."""
    found = read(tmp_path, configure("sa.text('')", ", version_table='v', version_table_schema='s'"))
    assert found == Environment("v", "s", "env.py has 'sqlalchemy.text' in it")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("# version_table\ndef (:\n", "env.py, line 2 is not valid Python: "),
        ("a = 1\0\n", "env.py.* is not valid Python: .*null bytes"),
        (b"NAME = '\xff'\n", "env.py.* is not valid Python: "),
        (None, "env.py cannot be read: No such file or directory"),
    ],
)
def test_an_env_py_that_is_not_python_is_refused(tmp_path: Path, env: str | bytes | None, message: str) -> None:
    """A file that Alembic could not run either is an error, not a doubt."""
    if env is not None:
        write(tmp_path, "env.py", env)
    with pytest.raises(ConfigurationError, match=message):
        read_environment(str(tmp_path / "env.py"))
