from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from headstart import __version__
from headstart.cli.verbs.explain import story
from headstart.errors.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-build.lock",
    "requirements-lint.lock",
    "compose/app/requirements.lock",
)


def _pinned(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


def _wanted(lock: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = project["project"]["dependencies"]
    groups = {
        "requirements.lock": runtime,
        "requirements-dev.lock": [
            *runtime,
            *project["project"]["optional-dependencies"]["embedded"],
            *project["dependency-groups"]["dev"],
        ],
        "requirements-build.lock": project["dependency-groups"]["build"],
        "requirements-lint.lock": project["dependency-groups"]["lint"],
        "compose/app/requirements.lock": [*runtime, *_listed("compose/app/requirements.in")],
    }
    return [Requirement(line) for line in groups[lock]]


def _listed(path: str) -> list[str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_generated_documents_are_what_the_code_says() -> None:
    """`make docs` has been run since the settings or the exit codes changed."""
    script = ROOT / "tools/generate_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_exit_code_has_its_story() -> None:
    """Where `headstart explain` and docs/exit-codes.md lead is a story; its heading's address is its file's name."""
    stories = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "tests/stories").glob("*.md")}
    assert {shown for code in Exit if (shown := story(code))} - stories.keys() == set()
    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in stories.items()}
    assert titles.keys() == {re.sub(r"[^\w ]", "", title).lower().replace(" ", "-") for title in titles.values()}
    ends = {name: {int(code) for code in re.findall(r"(?m)^exit (\d+)$", text)} for name, text in stories.items()}
    assert [name for name in ends if int(name.partition("-")[0]) not in ends[name] | {0}] == []


def test_where_leads_to_what_there_is() -> None:
    """Each path of docs/where.md exists, and each room of the package is in it."""
    text = (ROOT / "docs/where.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([\w./-]+(?:/|\.py|Dockerfile))`", text.partition("| --- | --- |")[2])
    below = [path for path in paths if not (ROOT / path).exists()]
    assert [path for path in below if not (ROOT / "runner/headstart" / path).exists()] == []
    rooms = {each.name for each in (ROOT / "runner/headstart").iterdir() if (each / "__init__.py").exists()}
    assert rooms - {path.partition("/")[0] for path in paths} == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(lock: str) -> None:
    """A lock file installs from whatever index a machine has: it holds no URL, path or index option."""
    code = [line.split(" #")[0] for line in (ROOT / lock).read_text(encoding="utf-8").splitlines()]
    found = [line for line in code if re.search(r"://|file:|@ |--(index|extra-index|find-links|trusted)", line)]
    assert found == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_each_version(lock: str) -> None:
    """Each pinned version is followed by at least one SHA-256."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_fulfils_the_project_file(lock: str) -> None:
    """`make lock` has been run since the dependencies in pyproject.toml changed."""
    pinned = _pinned(lock)
    missing = [
        str(wanted)
        for wanted in _wanted(lock)
        if wanted.name.lower() not in pinned or Version(pinned[wanted.name.lower()]) not in wanted.specifier
    ]
    assert missing == []


@pytest.mark.parametrize("lock", ["requirements-dev.lock", "compose/app/requirements.lock"])
def test_others_have_the_versions_that_users_get(lock: str) -> None:
    """Whatever the runtime lock pins, the tests' lock and the sample app's pin to the same version."""
    other = _pinned(lock)
    assert {name: other.get(name) for name in _pinned("requirements.lock")} == _pinned("requirements.lock")


def test_rich_is_kept_away_from_headstart() -> None:
    """Neither what users get nor what tests run on brings rich, which structlog would import at every start."""
    assert "rich" not in _pinned("requirements.lock") | _pinned("requirements-dev.lock")


def test_the_changelog_has_a_place_for_this_version() -> None:
    """CHANGELOG.md has an Unreleased section, or one for the version that the code has."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## (Unreleased|{re.escape(__version__)})\b", text, re.MULTILINE)


ROWS = {"R1": 7, "R2": 9, "R3": 6, "R4": 7, "R5": 11}
"""How many requirements each of the five set-ups has."""


def test_every_requirement_is_answered() -> None:
    """Each row of the five set-ups has its line in docs/requirements.md, with a test; each test named there exists."""
    text = (ROOT / "docs/requirements.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (R\d\.\d+) \|(.*)\|$", text, re.MULTILINE)
    assert {name for name, _ in rows} == {f"{group}.{n}" for group, count in ROWS.items() for n in range(1, count + 1)}
    for name, line in rows:
        path = ""
        named = re.findall(r"`(tests/[\w/.-]+)?::(\w+)`", line)
        assert named, name
        for file, test in named:
            path = file or path
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^ *(async )?def {test}\(", source, re.MULTILINE), f"{name}: {path}::{test}"


@pytest.mark.parametrize("document", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_lead_somewhere(document: str) -> None:
    """What one document says of another is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "docs" / document).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / target).exists(), target


def test_each_attack_has_its_tests() -> None:
    """SECURITY.md names files that are there, and each attack has one."""
    rows = re.findall(r"(?m)^\| .+ \| .+ \| (`tests/.+) \|$", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(rows) > 10
    for row in rows:
        for name in re.findall(r"`(.+?)`", row):
            assert (ROOT / name).is_file(), name
