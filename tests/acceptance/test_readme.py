"""What the README says can be typed, typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from headstart.cli.arguments import VERBS
from support.project import Project, recorded

README = Path(__file__).resolve().parents[2] / "README.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"))


def _environment(url: str, folder: Path, path: str = "") -> dict[str, str]:
    search = os.pathsep.join(filter(None, (path, str(Path(sys.executable).parent), os.environ["PATH"])))
    return {"DATABASE_URL": url, "PATH": search, "HOME": str(folder), "LANG": "C.UTF-8"}


def test_the_program_in_the_readme_runs(any_database: str, tmp_path: Path) -> None:
    """The lines for a program bring a database to head."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    block, _ = _blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=project.folder,
        env=_environment(any_database, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert recorded(any_database) == ["a1"]


def test_the_env_py_in_the_readme_is_the_reference_projects() -> None:
    """The three lines are those that the reference project has."""
    _, block = _blocks("python")
    env = (README.parent / "migrations" / "env.py").read_text(encoding="utf-8")
    assert env.split('"""\n\n')[1] == block


def test_the_command_in_front_of_an_app_runs(any_database: str, tmp_path: Path) -> None:
    """`headstart up -- uvicorn app:app` migrates, then is uvicorn."""
    project = Project(tmp_path)
    project.revision("a1", "create table a (id int)")
    tools = tmp_path / "tools"
    tools.mkdir()
    uvicorn = tools / "uvicorn"
    uvicorn.write_text('#!/bin/sh\necho "serving $*"\n', encoding="utf-8")
    uvicorn.chmod(0o755)
    (command,) = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("headstart up --")]
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=project.folder,
        env=_environment(any_database, tmp_path, str(tools)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "serving app:app\n"), done.stderr
    assert recorded(any_database) == ["a1"]


def test_every_verb_of_the_readme_is_one() -> None:
    """The table of verbs names each verb that there is, and no other."""
    table = README.read_text(encoding="utf-8").split("## Verbs")[1].split("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `headstart")]
    named = {word for row in rows for word in re.findall(r"[a-z]+", row)}
    assert set(VERBS) <= named
    assert named <= set(VERBS) | {
        "headstart",
        "for",
        "server",
        "head",
        "json",
        "exit",
        "code",
        "list",
        "verify",
        "prune",
        "dump",
        "load",
        "split",
    }
