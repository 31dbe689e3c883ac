"""Revision files: found in the order in which Alembic finds them, so that a plan's order is Alembic's too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256

import msgspec

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history.graph import Graph, Revision, build_graph
from headstart.history.project import Project
from headstart.history.source import OnlyAlembicKnowsError, compiled, read_revision
from headstart.settings.files import read_bytes


def read_graph(project: Project) -> Graph | None:
    """Read the history of a project.

    Returns:
        The graph, or None where only Alembic knows (a computed id, say).

    Raises:
        BrokenHistoryError: a file that cannot be read or is not Python or has no revision; ids, parents, labels or
            dependencies that do not fit together.
        ConfigurationError: a version folder that cannot be read.
    """
    if project.sourceless or not project.script_location:
        return None
    try:
        return build_graph([_revision(path) for path in revision_files(project)])
    except OnlyAlembicKnowsError:
        return None


def revision_files(project: Project) -> Iterator[str]:
    """The revision files, in Alembic's order: by version folder, then by name.

    Raises:
        BrokenHistoryError: something that is called like a revision file but is no file.
        ConfigurationError: a version folder that cannot be read.
    """
    seen: set[str] = set()
    for folder in project.version_locations:
        for path in _listed(folder, recursive=project.recursive):
            if path not in seen:
                seen.add(path)
                yield path


def check_sources(project: Project) -> None:
    """Compile every revision file, as Alembic's loading will: to be done before anything is touched.

    Raises:
        BrokenHistoryError: a file with a syntax error, named with its line; or one that cannot be read.
    """
    for path in revision_files(project):
        compiled(path, _bytes(path))


def _listed(folder: str, *, recursive: bool) -> Iterator[str]:
    """Files of a folder that Alembic takes for revisions, by real path; subfolders after the files, by name."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of revision files {folder} cannot be read: {error.strerror}",
            hint="correct its permissions for the user that headstart runs as, or version_locations",
        ) from None
    real = os.path.realpath(folder)
    for entry in found:
        if entry.is_symlink():
            # Alembic goes by the name and place that the link leads to.
            path = os.path.realpath(entry.path)
        elif entry.is_dir():
            continue
        else:
            path = f"{real}/{entry.name}"
        name = path.rpartition("/")[2]
        if name.endswith(".py") and not name.startswith((".#", "__init__")):
            if not entry.is_file():
                raise BrokenHistoryError(
                    f"{entry.path} is not a file{' but a broken link' if entry.is_symlink() else ''}",
                    hint="remove it, or put the revision file in its place",
                    files=[entry.path],
                )
            yield path
    if recursive:
        for entry in found:
            if entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                yield from _listed(entry.path, recursive=True)


def _revision(path: str) -> Revision:
    data = _bytes(path)
    return msgspec.structs.replace(read_revision(path, data), sha256=sha256(data).hexdigest())


def _bytes(path: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise BrokenHistoryError(
            f"the revision file {path} cannot be read: {error.strerror}",
            hint="correct its permissions for the user that headstart runs as",
            files=[path],
        ) from None
