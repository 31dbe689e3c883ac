"""Real `alembic init` projects of each template, unmodified: brought to head, and left alone the second time."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.environments import at_head, every_line_is_json, nothing_to_do
from support.postgres import psql
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import RunHeadstart

pytestmark = pytest.mark.backed_up

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-project.md").read_text(encoding="utf-8")
TEMPLATES = ("generic", "async", "pyproject", "pyproject_async")


def alembic(folder: Path, *arguments: str) -> None:
    """Run Alembic's own command line, without a database."""
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-m", "alembic", *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def upgrade_with(folder: Path, ident: str, body: str) -> None:
    """Fill in the `upgrade` of a revision that `alembic revision` has written."""
    [path] = folder.glob(f"migrations/versions/{ident}_*.py")
    text = path.read_text(encoding="utf-8")
    assert text.count("    pass\n") == 2, text
    path.write_text(text.replace("    pass\n", f"    {body}\n", 1), encoding="utf-8")


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What `alembic init -t TEMPLATE migrations` makes, with two revisions by `alembic revision`."""

    @functools.cache
    def make(template: str) -> Path:
        folder = tmp_path_factory.mktemp(template)
        alembic(folder, "init", "--template", template, "migrations")
        if template == "multidb":
            return folder
        alembic(folder, "revision", "--rev-id", "a1", "--message", "accounts")
        alembic(folder, "revision", "--rev-id", "b2", "--message", "their names")
        table = "op.create_table('account', sa.Column('id', sa.Integer, primary_key=True))"
        upgrade_with(folder, "a1", table)
        upgrade_with(folder, "b2", "op.add_column('account', sa.Column('name', sa.Text))")
        return folder

    return make


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_unmodified(
    template: str,
    initialised: Callable[[str], Path],
    any_database: str,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """A project as `alembic init` makes it, with the placeholder URL still in its ini file, is taken to head."""
    folder = shutil.copytree(initialised(template), tmp_path / "app")
    assert "driver://user:pass@localhost/dbname" in (folder / "alembic.ini").read_text(encoding="utf-8")
    # Python's own cache aside, which it writes for whoever imports a file.
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    before = {path: path.read_bytes() for path in files}
    run = at_head(run_headstart, any_database, folder, ["b2"])
    assert run.last["applied"] == ["a1", "b2"]
    assert [line["description"] for line in run.events("revision_applied")] == ["accounts", "their names"]
    assert psql(any_database, "select count(name) from account") == [(0,)]
    nothing_to_do(run_headstart, any_database, folder)
    assert {path: path.read_bytes() for path in before} == before, "not a byte of the project is changed"


@pytest.mark.parametrize("template", ["generic", "async"])
def test_a_template_on_each_server(
    template: str, initialised: Callable[[str], Path], database: str, run_headstart: RunHeadstart
) -> None:
    """The same on each major version of Postgres that this machine has."""
    at_head(run_headstart, database, initialised(template), ["b2"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_from_another_folder(
    template: str,
    initialised: Callable[[str], Path],
    any_database: str,
    tmp_path: Path,
    run_headstart: RunHeadstart,
) -> None:
    """ALEMBIC_CONFIG leads to a project elsewhere, wherever the run starts: %(here)s is where the file is."""
    folder = shutil.copytree(initialised(template), tmp_path / "app")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = "pyproject.toml" if template.startswith("pyproject") else "alembic.ini"
    env = {"ALEMBIC_CONFIG": str(folder / config)}
    at_head(run_headstart, any_database, elsewhere, ["b2"], env=env)


def test_a_template_with_a_model(
    initialised: Callable[[str], Path], any_database: str, tmp_path: Path, run_headstart: RunHeadstart
) -> None:
    """An env.py whose only change is its target metadata, imported from the application beside it."""
    folder = shutil.copytree(initialised("generic"), tmp_path / "app")
    (folder / "model.py").write_text("import sqlalchemy as sa\nmetadata = sa.MetaData()\n", encoding="utf-8")
    env = folder / "migrations" / "env.py"
    text = env.read_text(encoding="utf-8")
    assert "target_metadata = None\n" in text
    env.write_text(
        text.replace("target_metadata = None\n", "from model import metadata\ntarget_metadata = metadata\n"),
        encoding="utf-8",
    )
    at_head(run_headstart, any_database, folder, ["b2"])
    nothing_to_do(run_headstart, any_database, folder)


def test_the_template_for_several_databases(
    initialised: Callable[[str], Path], any_database: str, run_headstart: RunHeadstart
) -> None:
    """The multidb template is refused, with what to do instead, and nothing is changed."""
    before = fingerprint(any_database)
    run = run_headstart("up", url=any_database, cwd=initialised("multidb"))
    assert run.code == 10, run
    assert "engine1, engine2" in run.last["error"]
    assert "once per database" in run.last["hint"]
    every_line_is_json(run)
    assert recorded(any_database) == []
    assert fingerprint(any_database) == before


def test_what_the_page_says(initialised: Callable[[str], Path], tmp_path: Path) -> None:
    """What docs/your-project.md says to type, typed, on the throw-away server that it says how to start."""
    folder = shutil.copytree(initialised("generic"), tmp_path / "app")
    [program] = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)
    typed = "\n".join(line for line in PAGE.splitlines() if line.startswith(("headstart ", "echo ")))
    clean = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        exported = server.stdout.readline()
        done = subprocess.run(
            ["sh", "-euxc", f"{exported}\n{typed}\nheadstart backup\nheadstart backups list"],
            cwd=folder,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        server.communicate("\n", timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "b2 (at head)" in done.stdout
    assert "checksummed+listed" in done.stdout
    assert (folder / "backups").is_dir()
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "/backups/\n"
