"""The files that a user's CI takes from this repository: what they call must be there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.cli import arguments
from headstart.commands.check.finding import CHECKS
from headstart.settings.version import __version__

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "deploy" / "github" / "migrations.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"


def load(path: Path) -> Any:
    """A YAML file. The word `on` stays a word: YAML 1.1 takes it for true, GitHub does not."""
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506  (it makes strings only)


def steps() -> list[dict[str, Any]]:
    """The steps of all jobs of the workflow."""
    return [step for job in load(WORKFLOW)["jobs"].values() for step in job["steps"]]


def commands() -> list[list[str]]:
    """Every call of headstart, as a list of words without the program's name."""
    found = [shlex.split(step["run"]) for step in steps() if step.get("run", "").startswith("headstart ")]
    found += [shlex.split(hook["entry"]) + hook["args"] for hook in load(HOOKS)]
    assert all(words[0] == "headstart" for words in found)
    return [words[1:] for words in found]


def test_there_are_commands() -> None:
    """The workflow checks a pull request and a branch, and there are two hooks."""
    assert len(commands()) == 4


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_commands_are_headstart_s(words: list[str]) -> None:
    """The command line takes every call as it stands, and knows the checks that it names."""
    asked = arguments.read(words)
    assert not asked.needs_database
    assert set((asked.own.only or "heads").split(",")) <= set(CHECKS)


def test_the_workflow_has_what_its_commands_need() -> None:
    """All of the history is fetched for --since, a server is installed, and findings become annotations."""
    check = load(WORKFLOW)["jobs"]["check"]["steps"]
    assert check[0]["with"]["fetch-depth"] == "0"
    assert any('"./${HEADSTART}[embedded]"' in step.get("run", "") for step in check)
    assert load(WORKFLOW)["env"]["HEADSTART"] == f"wheels/headstart-{__version__}-py3-none-any.whl"
    assert all("--format github" in step["run"] for step in check if step.get("run", "").startswith("headstart "))


def test_there_is_a_security_check() -> None:
    """What the project installs is looked up among the known vulnerabilities."""
    assert any(step.get("run", "").startswith("pip-audit") for step in load(WORKFLOW)["jobs"]["security"]["steps"])


def test_the_workflow_is_no_way_in() -> None:
    """It may only read, no text of a pull request is put into a command, and it may not run for ever."""
    workflow = load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow["on"]) == {"pull_request", "push"}
    assert not [step for step in steps() if "${{" in step.get("run", "")]
    assert all(int(job["timeout-minutes"]) <= 30 for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", [WORKFLOW, *(ROOT / ".github/workflows").iterdir()], ids=lambda path: path.name)
def test_actions_are_pinned(path: Path) -> None:
    """A tag can be moved to other code, a digest cannot; what is installed has a version; no text becomes a command."""
    workflow = load(path)
    used = [step for job in workflow["jobs"].values() for step in job.get("steps", [])]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in used if "uses" in step)
    assert not [step for step in used if "${{" in step.get("run", "")]
    pinned = ("==", "./${HEADSTART}")  # the latter names a file, and its version
    assert all(any(each in step["run"] for each in pinned) for step in used if "pip install" in step.get("run", ""))
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values() if "steps" in job)


def test_the_workflow_says_how_to_copy_it() -> None:
    """The file itself says where it goes."""
    assert ".github/workflows/migrations.yml" in WORKFLOW.read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", load(HOOKS), ids=lambda hook: hook["id"])
def test_a_hook_is_what_pre_commit_takes(hook: dict[str, Any]) -> None:
    """A hook says its name, how it is installed and what starts it; the verb is given no file names."""
    assert {"id", "name", "description", "entry", "language"} <= set(hook)
    assert hook["language"] == "python"
    assert hook["pass_filenames"] == "false"
    assert hook.get("always_run") == "true" or re.compile(hook["files"]).search("migrations/versions/1_a.py")


def test_a_server_of_the_hook_s_own() -> None:
    """The hook that runs the revisions brings the server that the extra `embedded` names."""
    import tomllib

    embedded = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["embedded"]
    hook = next(hook for hook in load(HOOKS) if hook["id"] == "headstart-schema-file")
    assert [one.split(";")[0].strip() for one in embedded] == hook["additional_dependencies"]
