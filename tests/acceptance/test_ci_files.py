"""The commands of the CI files, run as CI runs them: by a shell, in a clone of a project's repository."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from support.process import environment
from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / "deploy" / "github" / "migrations.yml").read_text(encoding="utf-8"))
HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))[0]
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["check"]["steps"] if "name" in step}
PULL_REQUEST = STEPS["Check the revisions of the pull request"]
WHOLE = STEPS["Check the whole history"]


def git(folder: Path, *words: str) -> None:
    """Run git with an author."""
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Project:
    """A clone of a repository whose branch `main` has one revision, and a risky one in it."""
    origin = tmp_path / "origin"
    project = Project(origin)
    project.revision("a1", "create table a (id bigint primary key)", undo=["drop table a"])
    project.revision("b2", "create index ix_a_id on a (id)", undo=["drop index ix_a_id"])
    git(origin, "init", "--quiet", "--initial-branch", "main")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "--message", "first")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    cloned = object.__new__(Project)
    cloned.folder = tmp_path / "clone"
    cloned.versions = cloned.folder / "migrations" / "versions"
    cloned.head = "b2"
    return cloned


@pytest.fixture
def shell(any_server: Postgres, clone: Project, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a step's command as GitHub does, with a scratch server that is there already."""

    def run(command: str) -> subprocess.CompletedProcess[str]:
        given = {
            "HEADSTART_SCRATCH_URL": any_server.url(),
            "BASE": "main",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **WORKFLOW["env"],
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=clone.folder,
            env=environment(tmp_path, given),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_harmless_pull_request(clone: Project, shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """A pull request passes, although what is released is risky; the whole history does not."""
    clone.revision("c3", "alter table a add column name text", undo=["alter table a drop column name"])
    done = shell(PULL_REQUEST["run"])
    assert done.returncode == 0, done
    whole = shell(WHOLE["run"])
    assert whole.returncode == 80, whole
    assert "b2.py" in whole.stdout


def test_a_risky_pull_request(clone: Project, shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """A risky revision is refused with an annotation that names file, line and rule."""
    path = clone.revision("c3", "create index ix_a on a (id)", undo=["drop index ix_a"])
    done = shell(PULL_REQUEST["run"])
    assert done.returncode == 80, done
    line = path.read_text(encoding="utf-8").splitlines().index("    op.execute('create index ix_a on a (id)')") + 1
    (annotation,) = [one for one in done.stdout.splitlines() if one.startswith("::error")]
    assert f"file=migrations/versions/c3.py,line={line}" in annotation
    assert "index-not-concurrent" in annotation


def test_the_hook(clone: Project, shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """The hook passes what is clean, and refuses a released revision that is edited."""
    command = f"{HOOK['entry']} {shlex.join(HOOK['args'])}"
    done = shell(command)
    assert done.returncode == 0, done
    released = clone.versions / "a1.py"
    released.write_text(released.read_text(encoding="utf-8").replace("bigint", "int"), encoding="utf-8")
    done = shell(command)
    assert done.returncode == 80, done
    assert "a1" in done.stdout
