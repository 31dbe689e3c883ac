"""What a fork of the worker gives for tasks that other commands ask for: comparing, naming, formatting, parsing."""

from __future__ import annotations

import asyncio
import datetime
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import headstart
from headstart import history
from headstart.log import logger as logs
from headstart.postgres import readiness
from headstart.postgres.lock import WORK
from headstart.worker.process import Process
from headstart.worker.supervise import Worker
from headstart.worker.tasks import Access, Compare, Format, Name, Parse
from support.postgres import script
from support.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.worker.messages import Message
    from headstart.worker.tasks import Task

MODELS = """\
import sqlalchemy as sa
target_metadata = sa.MetaData()
sa.Table("a", target_metadata, sa.Column("id", sa.BigInteger, nullable=False), sa.Column("more", sa.Text))
sa.Table("b", target_metadata, sa.Column("id", sa.Integer))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose one revision makes less than its models have."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int not null)")
    return project


def done(project: Project, make: Any, url: str | None = None, heard: list[Message] | None = None) -> Any:
    """Have one task done by a worker; `make` gives the task for a project and an access, if there is a database."""
    log = logs.build(io.StringIO(), json=True, run_id="test", redact=str)

    async def do() -> Any:
        found = history.read("alembic.ini", cwd=str(project.folder)).project
        async with Worker(cwd=str(project.folder), environ=os.environ) as worker, Process(worker, log) as process:
            hear = None if heard is None else heard.append
            if url is None:
                return await process.do(make(found, None), hear)
            dsn = headstart.settings_from({"DATABASE_URL": url}).dsn
            ready = await readiness.wait_until_ready(dsn, timeout=10, application_name="test", log=log)
            try:
                await ready.connection.execute("select pg_catalog.pg_advisory_lock(42)")
                access = Access(
                    dsn=ready.dsn, backend=ready.connection.get_server_pid(), token=42, work_key=WORK, read_only=True
                )
                return await process.do(make(found, access), hear)
            finally:
                await ready.connection.close()

    return asyncio.run(do())


def test_compare(project: Project, any_database: str) -> None:
    """`Compare` gives Alembic's word, the object and a sentence for each difference; what is ours is none."""
    text = project.env.read_text(encoding="utf-8")
    script(
        any_database,
        "create table a (id int not null); create schema headstart; create table headstart.ledger (id int);"
        "create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('a1')",
    )

    def make(found: history.Project, access: Access | None) -> Task:
        return Compare(project=found, access=access)

    assert done(project, make, any_database) is None
    project.env.write_text(text.replace("target_metadata = None\n", MODELS), encoding="utf-8")
    assert done(project, make, any_database) == [
        {"operation": "add_table", "what": "table b", "message": "table b: in the models, not in the revisions"},
        {
            "operation": "add_column",
            "what": "column a.more",
            "message": "column a.more: in the models, not in the revisions",
        },
        {
            "operation": "modify_type",
            "what": "column a.id",
            "message": "column a.id: type is `INTEGER` in the revisions, `BIGINT` in the models",
        },
    ]


def test_name(project: Project) -> None:
    """`Name` gives the name that `file_template` makes."""
    text = project.ini.read_text(encoding="utf-8")
    template = "[alembic]\nfile_template = %%(year)d-%%(rev)s-%%(slug)s\n"
    project.ini.write_text(text.replace("[alembic]\n", template, 1), encoding="utf-8")
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    name = done(project, lambda found, _: Name(project=found, revision="a1", message="All of it", moment=moment))
    assert name == "2026-a1-all_of_it.py"


@pytest.mark.parametrize("code", [0, 3])
def test_format(project: Project, code: int, any_database: str) -> None:
    """`Format` has the project's hooks change the file, and reports the hook that fails."""
    text = project.ini.read_text(encoding="utf-8")
    hook = f"import sys; open(sys.argv[1], 'a').write('# formatted'); sys.exit({code})"
    options = f"hooks = ours\nours.type = exec\nours.executable = {sys.executable}\n"
    options += f'ours.options = -c "{hook}" REVISION_SCRIPT_FILENAME\n'
    project.ini.write_text(f"{text}\n[post_write_hooks]\n{options}", encoding="utf-8")
    path = project.folder / "new.py"
    path.touch()
    heard: list[Any] = []
    done(project, lambda found, access: Format(project=found, access=access, path=str(path)), any_database, heard)
    assert path.read_text(encoding="utf-8") == "# formatted"
    failed = [each.fields for each in heard if getattr(each, "event", "") == "hook_failed"]
    assert [(each["path"], each["how"]) for each in failed] == ([(str(path), "exit status 3")] if code else [])


def test_a_hook_of_env_py(project: Project, any_database: str) -> None:
    """A hook that env.py registers is there."""
    project.in_env(
        "from alembic.script import write_hooks\n"
        "@write_hooks.register('of_ours')\n"
        "def of_ours(path, options):\n"
        "    open(path, 'a').write('# by env.py')\n"
    )
    text = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(f"{text}\n[post_write_hooks]\nhooks = x\nx.type = of_ours\n", encoding="utf-8")
    path = project.folder / "new.py"
    path.touch()
    done(project, lambda found, access: Format(project=found, access=access, path=str(path)), any_database)
    assert path.read_text(encoding="utf-8") == "# by env.py"


def test_parse(project: Project) -> None:
    """`Parse` gives the options as Alembic's parser reads them, or what it has printed and its exit code."""
    read = done(project, lambda *_: Parse(verb="upgrade", arguments=("+1", "--sql", "--tag", "x")))
    assert {name: read["options"][name] for name in ("revision", "sql", "tag")} == {
        "revision": "+1",
        "sql": True,
        "tag": "x",
    }
    asked = done(project, lambda *_: Parse(verb="stamp", arguments=("--help",)))
    assert asked["exit"] == 0
    assert "--purge" in asked["stdout"]
    refused = done(project, lambda *_: Parse(verb="stamp", arguments=()))
    assert refused["exit"] == 2
    assert "revisions" in refused["stderr"]
