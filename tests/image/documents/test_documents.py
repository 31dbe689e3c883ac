"""What README.md and docs/image.md say about images: built and run as it is written there."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.documents import blocks
from support.engine import CERTIFICATES, ROOT, STOCK
from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.engine import Engine, Server

APP = "import os\nprint('the app is process', os.getpid(), flush=True)\n"
CA = "--mount=type=secret,id=ca,target=/ca.crt"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A user's project: one revision, and an app."""
    folder = tmp_path / "project"
    folder.mkdir()
    made = Project(folder)
    made.revision("a1", "create table t (id int)")
    (folder / "app.py").write_text(APP, encoding="utf-8")
    return made


@pytest.fixture
def built(engine: Engine, project: Project) -> Iterator[Callable[[str], str]]:
    """Build the project with a Dockerfile; the image goes with the test."""
    tags: list[str] = []

    def build(text: str) -> str:
        (project.folder / "Dockerfile").write_text(text, encoding="utf-8")
        tags.append(engine.build(engine.name("documents"), context=project.folder))
        return tags[-1]

    yield build
    for tag in tags:
        engine.docker("image", "rm", tag)


def test_your_project_in_the_image(
    engine: Engine,
    runner_image: str,
    network: str,
    database: Callable[[str], Server],
    built: Callable[[str], str],
) -> None:
    """docs/image.md: three lines on top of the image make a user's own."""
    (dockerfile,) = blocks(ROOT / "docs" / "image.md", "Your project in it", language="dockerfile")
    image = built(dockerfile.replace("FROM headstart\n", f"FROM {runner_image}\n"))
    done = engine.run(image, options=["--network", network], env={"DATABASE_URL": database("in_image").url()})
    assert (done.code, done.last["applied"]) == (0, ["a1"]), done


def test_in_your_apps_own_image(
    engine: Engine,
    network: str,
    database: Callable[[str], Server],
    project: Project,
    backups: Path,
    built: Callable[[str], str],
) -> None:
    """README.md: the container migrates, with a backup where there is data, and then is the app."""
    engine.stand_in("debian:trixie-slim", "python:3.13-slim")
    shutil.copytree(
        ROOT / "runner", project.folder / "headstart" / "runner", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project.folder / "headstart" / name)
    (project.folder / "requirements.txt").write_text("psycopg2-binary\n", encoding="utf-8")
    app = project.folder / "app.py"
    app.write_text(f"import psycopg2\n{APP}", encoding="utf-8")
    (dockerfile,) = blocks(ROOT / "README.md", "In your app's own image", language="dockerfile")
    # Debian's own Python, which stands in here, asks not to be installed into.
    pip = f"RUN {CA} PIP_BREAK_SYSTEM_PACKAGES=1 PIP_CERT=/ca.crt pip install"
    here = dockerfile.replace("RUN pip install", pip)
    assert here != dockerfile
    image = built(here)
    own = database("own_image")
    options = ["--network", network, "--volume", f"{backups}:/backups"]
    first = engine.run(image, options=options, env={"DATABASE_URL": own.url()})
    assert (first.code, first.stdout) == (0, "the app is process 1\n"), first
    project.revision("a2", "create table u (id int)")
    second = engine.run(built(here), options=options, env={"DATABASE_URL": own.url()})
    assert (second.code, second.stdout) == (0, "the app is process 1\n"), second
    assert second.last["applied"] == ["a2"]
    assert second.last["backup"].startswith("/backups/own_image/")


def test_without_a_registry(engine: Engine, stock_image: str) -> None:
    """docs/image.md: the commands for an air-gapped place give the image that all the tests here run."""
    (block,) = blocks(ROOT / "docs" / "image.md", "Without a registry")
    tag = engine.name("airgapped")
    installing, rest = block.split("\n", 1)
    assert installing.startswith("bash tests/image/install-engine.sh")  # has been run, or this test would not be
    secret = f"docker build --quiet --secret id=ca,src={CERTIFICATES}"
    typed = rest.replace("docker build", secret).replace("--tag headstart-stock", f"--tag {tag}")
    done = subprocess.run(
        ["bash", "-euc", typed],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert engine.inspect(tag)["RootFS"] == engine.inspect(STOCK)["RootFS"]
    engine.docker("image", "rm", tag)
