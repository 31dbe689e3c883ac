"""INVALID indexes that the project's own revisions have left: no database with one is ready.

A build CONCURRENTLY that fails leaves one behind. No query uses it, and `create index if not exists` takes it for done.
PostgreSQL manual, 'CREATE INDEX', 'Building Indexes Concurrently'.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headstart.errors import VerificationFailedError
from headstart.history.files import revision_files
from headstart.postgres.indexes import REBUILD, invalid_indexes
from headstart.steps.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from headstart.history import History
    from headstart.postgres.connection import ScriptConnection
    from headstart.postgres.indexes import InvalidIndex
    from headstart.steps.run import Run

_WORD: Final = re.compile(r"[\w$]+")
_COPY: Final = re.compile(r"_cc(?:new|old)\d*$")
_OF_ALL: Final = re.compile(r"reindex\s+(?:\([^)]*\)\s*)?(?:schema|database)\b")
_SQL_FILE: Final = re.compile(r"[\w.-]+\.sql\b")


async def left_invalid(run: Run, connection: ScriptConnection, history: History) -> tuple[InvalidIndex, ...]:
    """The INVALID indexes that a revision of this history may have left, whether it is applied or pending.

    Args:
        run: this run: of a tenant, only its schema counts.
        connection: the supervisor's.
        history: the project.
    """
    found = await invalid_indexes(connection, run.schema)
    return tuple(sorted(_left_by(found, history)))


def _left_by(found: frozenset[InvalidIndex], history: History) -> set[InvalidIndex]:
    return named_in(sources(history).values(), found) if found else set()


def sources(history: History, *, up: bool = False) -> dict[str, str]:
    """The texts of the revision files, by their paths: see `source_of`."""
    return {path: source_of(path, history.project.sys_path, up=up) for path in revision_files(history.project)}


def named_in(texts: Iterable[str], indexes: Collection[InvalidIndex]) -> set[InvalidIndex]:
    """Those of the indexes that a text may have left: it does something CONCURRENTLY, and names them.

    Or it names their table: a loop may put the index's name together, and a naming convention or the server choose it.

    Args:
        texts: of revisions, or of statements.
        indexes: some.
    """
    building = [text for text in map(str.lower, texts) if "concurrently" in text]
    return {each for each in indexes if any(_names(text, each) for text in building)}


def _names(text: str, index: InvalidIndex) -> bool:
    name, copies = _COPY.subn("", index.name.lower())
    return _name_in(text, name) or _name_in(text, index.table.lower()) or (copies > 0 and bool(_OF_ALL.search(text)))


def _name_in(text: str, name: str) -> bool:
    return name in set(_WORD.findall(text)) if _WORD.fullmatch(name) else name in text  # SQL has to quote some


def source_of(path: str, roots: Sequence[str] = (), *, up: bool = False) -> str:
    """The text of a revision file, of the project's modules that it imports, of the SQL files beside it that it names.

    Args:
        path: the file.
        roots: the folders in which its imports are looked for first.
        up: leave out its `downgrade`, where that comes last.
    """
    from headstart.history.imports import with_imports  # off the no-op path

    file = Path(path)
    own = _text(file)
    own = own.partition("def downgrade")[0] if up else own
    text = with_imports(own.encode(), roots, installed=False).decode(errors="replace")
    beside = (each for name in set(_SQL_FILE.findall(text)) for each in file.parent.parent.rglob(name))
    return "\n".join([text, *map(_text, beside)])


def _text(file: Path) -> str:
    """What is in it; nothing if it cannot be read."""
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


async def report_invalid(run: Run, connection: ScriptConnection) -> frozenset[InvalidIndex]:
    """Name every INVALID index, whoever has left it, and give them."""
    found = await invalid_indexes(connection, run.schema)
    if found:
        names = [str(each) for each in sorted(found)]
        run.log.warning("invalid_indexes_found", indexes=names, hint=REBUILD.format(index="..."))
    return found


async def require_valid(
    run: Run, connection: ScriptConnection, history: History, *, passing_over: Collection[InvalidIndex] = ()
) -> None:
    """Name every INVALID index, and refuse a database with one that this project may have left.

    Args:
        run: this run.
        connection: the supervisor's.
        history: the project.
        passing_over: what is left to a pending revision.

    Raises:
        VerificationFailedError: there is one (80).
    """
    found = await report_invalid(run, connection)
    if found:
        with run.record.timed(Stage.VERIFY):
            refuse_invalid(sorted(_left_by(found, history).difference(passing_over)))


def refuse_invalid(found: Sequence[InvalidIndex]) -> None:
    """Refuse a database with INVALID indexes that its own revisions have left.

    Raises:
        VerificationFailedError: there are some (80).
    """
    if found:
        raise invalid(found)


def mended(index: InvalidIndex) -> str:
    """What to type: the copy that REINDEX has left goes, the index itself is built anew."""
    verb = "drop" if _COPY.search(index.name) else "reindex"
    return f"{verb} index concurrently {index}"


def way_out(index: InvalidIndex, pending: Collection[str], history: History) -> str | None:
    """What mends it; None where a pending revision drops it by itself.

    Only an index that nobody but a pending revision builds is dropped, so that this revision can build it.

    Args:
        index: that a revision has left.
        pending: the files of the revisions that are still to be run.
        history: the project.
    """
    if _COPY.search(index.name):
        return mended(index)
    name = rf"(?<!\w){re.escape(index.name.lower())}(?!\w)"
    called = r"_index\(\s*(?:\w+\.f\(\s*)?f?'?"  # op.f("..."), as autogenerate writes it
    builds = re.compile(rf"index\s+concurrently\s+(?:if\s+not\s+exists\s+)?(?:\w+\.)?{name}|create{called}{name}")
    drops = re.compile(rf"(?:drop\s+index|reindex)\s[^;'\n]*?{name}|drop{called}{name}")
    ways = {path: text.lower().replace('"', "") for path, text in sources(history, up=True).items()}
    if any(drops.search(ways[path]) for path in pending if path in ways):
        return None
    built_by = {path for path, way in ways.items() if builds.search(way)}
    return f"drop index concurrently {index}" if built_by and built_by <= set(pending) else mended(index)


def invalid(found: Sequence[InvalidIndex]) -> VerificationFailedError:
    """The error of such a database."""
    names = [str(each) for each in found]
    return VerificationFailedError(
        f"INVALID, and so of no use to any query: index {', '.join(names)}",
        hint=f"{'; '.join(f'{mended(each)};' for each in found)} `headstart repair` does it",
        invalid_indexes=names,
    )
