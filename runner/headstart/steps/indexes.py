"""INVALID indexes that the project's own revisions have left: no database with one is ready.

A build CONCURRENTLY that fails leaves one behind. No query uses it, and `create index if not exists` takes it for done.
PostgreSQL manual, 'CREATE INDEX', 'Building Indexes Concurrently'.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.errors import VerificationFailedError
from headstart.history.files import revision_files
from headstart.postgres.indexes import REBUILD, invalid_indexes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from headstart.history import History
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.indexes import InvalidIndex
    from headstart.steps.run import Run

_FILLED: Final = r"\{[^{}\s]*\}|%s|%\(\w+\)s"  # what an f-string, `format` or `%` puts in
_WORD: Final = re.compile(rf"(?:[\w$]|{_FILLED})+")
_SQL_FILE: Final = re.compile(r"""[\w.-]+\.sql\b""")
_FEWEST: Final = 2
"""Letters that a word with something filled in has to have of its own."""


async def left_invalid(run: Run, connection: ScriptConnection, history: History) -> tuple[InvalidIndex, ...]:
    """The INVALID indexes that a revision of this history may have left, whether it is applied or pending.

    Args:
        run: this run: of a tenant, only its schema counts.
        connection: the supervisor's.
        history: the project.
    """
    found = await invalid_indexes(connection, run.schema)
    return tuple(sorted(built_by(found, revision_files(history.project)))) if found else ()


def built_by(indexes: Collection[InvalidIndex], files: Iterable[str]) -> set[InvalidIndex]:
    """Those of the indexes that one of the revision files names, if it builds or drops anything CONCURRENTLY.

    Args:
        indexes: some.
        files: paths.
    """
    found: set[InvalidIndex] = set()
    for path in files:
        text = "\n".join(_source(Path(path))).lower()
        if "concurrently" in text:
            words = set(_WORD.findall(text))
            patterns = [_pattern(word) for word in words if "{" in word or "%" in word]
            found |= {each for each in indexes if _is_named(each.name.lower(), text, words, patterns)}
    return found


def _source(path: Path) -> Iterator[str]:
    """The text of a revision file, and of the SQL files beside it whose names are in it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    yield text
    for name in set(_SQL_FILE.findall(text)):
        for each in path.parent.parent.rglob(name):
            yield each.read_text(encoding="utf-8", errors="replace")


def _is_named(name: str, text: str, words: set[str], patterns: list[re.Pattern[str]]) -> bool:
    if _WORD.fullmatch(name) is None:  # a name that SQL has to quote
        return name in text
    return name in words or any(each.fullmatch(name) for each in patterns)


def _pattern(word: str) -> re.Pattern[str]:
    """What a word may be when it is filled in."""
    own = re.split(_FILLED, word)
    return re.compile(r"[\w$]+".join(map(re.escape, own)) if len("".join(own)) >= _FEWEST else "(?!)")


async def require_valid(run: Run, connection: ScriptConnection, history: History) -> None:
    """Name every INVALID index, whoever has left it, and refuse a database with one that this project has left.

    Raises:
        VerificationFailedError: there is one (80).
    """
    found = await invalid_indexes(connection, run.schema)
    if found:
        names = [str(each) for each in sorted(found)]
        run.log.warning("invalid_indexes_found", indexes=names, hint=REBUILD.format(index="..."))
        refuse_invalid(sorted(built_by(found, revision_files(history.project))))


def refuse_invalid(found: Sequence[InvalidIndex]) -> None:
    """Refuse a database with INVALID indexes that its own revisions have left.

    Raises:
        VerificationFailedError: there are some (80).
    """
    if found:
        raise invalid(found)


def invalid(found: Sequence[InvalidIndex]) -> VerificationFailedError:
    """The error of such a database."""
    names = [str(each) for each in found]
    return VerificationFailedError(
        f"INVALID, and so of no use to any query: index {', '.join(names)}",
        hint="; ".join(f"reindex index concurrently {name};" for name in names),
        invalid_indexes=names,
    )
