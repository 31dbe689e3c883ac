"""The text of a revision with that of the project's modules which it imports, read and not executed.

Python documentation, 'importlib': `PathFinder.find_spec`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

_IMPORTED = re.compile(
    rb"^[ \t]*(?:from\s+([\w.]+)\s+import\s*(?:\(([^)]*)\)|([^\n#]*))|import\s+([^\n#]+))", re.MULTILINE
)
_INSTALLED = {"site-packages", "dist-packages"}
_KNOWN = sys.stdlib_module_names | {"alembic", "sqlalchemy"}


def with_imports(source: bytes, roots: Sequence[str], *, installed: bool = True) -> bytes:
    """The text of a revision and of the modules that it imports itself, but of the standard library and Alembic's.

    Args:
        source: of the revision.
        roots: the folders in which its imports are looked for first.
        installed: also those of installed packages.
    """
    named: set[str] = set()
    for module, *lists in _IMPORTED.findall(source):
        names = [each.split()[0].decode(errors="replace") for each in b",".join(lists).split(b",") if each.split()]
        package = module.decode(errors="replace")
        named |= {package, *(f"{package}.{name}" for name in names)} if package else set(names)
    files = {file for name in named if name.partition(".")[0] not in _KNOWN for file in _files_of(name, roots)}
    files = {file for file in files if installed or not _INSTALLED.intersection(file.parts)}
    return b"\n".join([source, *map(_read, sorted(files))])


def _read(file: Path) -> bytes:
    with contextlib.suppress(OSError):
        return file.read_bytes() if file.is_file() else b""
    return b""


def _files_of(module: str, roots: Sequence[str]) -> Iterator[Path]:
    """Where the source of a module may be. It may not have been imported yet."""
    top, *below = module.split(".")
    with contextlib.suppress(Exception):  # whatever the project has among its finders
        spec = PathFinder.find_spec(top, list(roots)) or importlib.util.find_spec(top)
        if spec is not None and not below:
            yield Path(spec.origin or "")
        elif spec is not None:
            for folder in spec.submodule_search_locations or ():
                yield from (Path(f"{Path(folder, *below)}{end}") for end in (".py", "/__init__.py"))
