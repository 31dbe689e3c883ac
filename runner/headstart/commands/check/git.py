"""What the revision files were like in a git base. git(1) is asked; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.source import OnlyAlembicKnowsError, read_revision
from headstart.log import process

if TYPE_CHECKING:
    from headstart.history import Project
    from headstart.history.graph import Graph
    from headstart.steps.run import Run


# git sets them for its hooks, relative to where it was started: githooks(5).
_OF_HOOKS = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What is released.

    Args:
        ref: as it was asked for.
        revisions: the ids of its revisions.
        changed: by id, file (absolute) and content of those whose file is no longer the same.
    """

    ref: str
    revisions: frozenset[str]
    changed: Mapping[str, tuple[str, bytes]]


async def read_base(run: Run, project: Project, graph: Graph, ref: str) -> Base:
    """Read the revision files at the common commit of `ref` and HEAD.

    Args:
        run: for the environment and the folder.
        project: its version folders hold the files.
        graph: of the files as they are.
        ref: what git knows a commit by.

    Raises:
        ConfigurationError: there is no git, no repository, or no such commit (10).
    """
    folders = [_real(folder) for folder in project.version_locations]
    here = folders[0]
    top = Path((await _git(run, here, "rev-parse", "--show-toplevel")).decode().rstrip("\n"))
    if ref.startswith("-"):
        raise ConfigurationError(f"--since {ref!r} is no commit", hint="name a branch, a tag or a commit")
    try:
        await _git(run, here, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except ConfigurationError as error:
        raise ConfigurationError(
            f"git knows no commit {ref!r} (--since)",
            hint="name a branch, a tag or a commit; in CI fetch it first (actions/checkout: fetch-depth: 0)",
        ) from error
    try:
        commit = (await _git(run, here, "merge-base", ref, "HEAD")).decode().strip()
    except ConfigurationError as error:
        raise ConfigurationError(
            f"git finds no common commit of {ref!r} (--since) and HEAD",
            hint="fetch more of the history (actions/checkout: fetch-depth: 0)",
        ) from error
    inside = [str(folder) for folder in folders if folder.is_relative_to(top)]
    listed = _names(await _git(run, top, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit))
    there = {
        name for name in listed if name.endswith(".py") and any((top / name).is_relative_to(each) for each in inside)
    }
    differing = _names(await _git(run, top, "diff", "--no-renames", "--name-only", "-z", commit, "--", *inside))
    now = {_real(each.path): each.id for each in graph.revisions.values()}
    same = {now[top / name] for name in there - differing if top / name in now}
    changed: dict[str, tuple[str, bytes]] = {}
    for name in sorted(there & differing):
        source = await _git(run, top, "cat-file", "blob", f"{commit}:{name}")
        revision = _id(str(top / name), source) or now.get(top / name)
        if revision is not None and revision not in same:
            changed[revision] = (str(top / name), source)
    return Base(ref=ref, revisions=frozenset(same | changed.keys()), changed=changed)


def _id(path: str, source: bytes) -> str | None:
    try:
        return read_revision(path, source).id
    except (BrokenHistoryError, OnlyAlembicKnowsError):
        return None


def _real(path: str) -> Path:
    """As git names it: it knows no links above the repository's own files."""
    return Path(path).resolve()


def _names(output: bytes) -> set[str]:
    return {name.decode("utf-8", "surrogateescape") for name in output.split(b"\0") if name}


async def _git(run: Run, folder: Path, *arguments: str) -> bytes:
    argv = ("git", "-C", str(folder), *arguments)
    env = {name: value for name, value in run.environ.items() if name not in _OF_HOOKS} | {"LC_ALL": "C"}
    try:
        done = await process.run(argv, env=env, redact=run.redact, capture=True)
    except OSError as error:
        raise ConfigurationError(
            f"git cannot be run: {error.strerror}", hint="install git, or leave out --since"
        ) from error
    if not done.ok:
        lines = done.stderr.strip().splitlines()
        raise ConfigurationError(
            f"git {arguments[0]} failed in {folder}: {lines[0] if lines else done.how}",
            hint="--since wants the revision files to be in a git repository",
        )
    return done.stdout
