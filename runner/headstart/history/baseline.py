"""What a baseline records of the history that it replaces: `squash` writes it into the file, others read it there.

    archive = "migrations/archive/c3"
    squashed = (
        ("a1", "0123456789abcdef", "fedcba9876543210"),
        ("c3", "89abcdef01234567", "76543210fedcba98"),
    )

Each line is a revision, with the beginnings of its file's SHA-256 and of the fingerprint of what it does. So a database
that was built by exactly those files differs from one that was built by others, or by some of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

DIGITS: Final = 16
"""Of each digest: a line stays short, and two files do not have the same by chance."""

_MARK = b"\nsquashed"


class Baseline(msgspec.Struct, frozen=True):
    """What a baseline replaces.

    Args:
        archive: the folder where the files are kept, for people.
        digests: by revision, both digests of its file. Of a file that was a baseline itself there are those of the one
            that it had replaced, too.
    """

    archive: str
    digests: Mapping[str, frozenset[str]]

    def holds(self, revision: str, digest: str) -> bool:
        """Whether a file of this SHA-256 or fingerprint is what was replaced."""
        return digest[:DIGITS] in self.digests.get(revision, ())


def read_baseline(source: bytes) -> Baseline | None:
    """What a revision file replaces; None if it is no baseline.

    Args:
        source: the file.
    """
    if _MARK not in source:
        return None
    import ast

    names: dict[str, ast.expr] = {}
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = node.value
        archive, squashed = (ast.literal_eval(names[name]) for name in ("archive", "squashed"))
        digests: dict[str, frozenset[str]] = {}
        for revision, *found in squashed:
            digests[revision] = digests.get(revision, frozenset()) | frozenset(found)
    except (KeyError, SyntaxError, TypeError, ValueError):  # names of the user's own, or a file that is not Python
        return None
    return Baseline(archive, digests)
