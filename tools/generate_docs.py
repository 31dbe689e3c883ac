"""Writes what the documentation takes from the code: settings, exit codes, events, rules, rooms; and from the stories.

python tools/generate_docs.py            writes docs/{configuration,events,exit-codes,rules,stories}.md, and the tables
                                         in README.md and docs/architecture.md
python tools/generate_docs.py --check    writes nothing; ends with 1 and names the files that are out of date
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli.verbs.explain import story
from headstart.errors.exits import Exit
from headstart.log.events import EVENTS
from headstart.settings.table import SETTINGS
from headstart.sql import rules

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runner/headstart"

CONFIGURATION = """\
# Configuration

{generated}

Every setting is an environment variable; most have a flag as well. A flag goes before the variable, the variable before
the default. Every problem is reported at once, with the name to set, and nothing has been touched by
then (exit code {configuration}). A `HEADSTART_` name that is not in this table is such a problem too: the nearest known
one is suggested.

{settings}

Durations are `30s`, `5m`, `1h30m`, `250ms`, or a number of seconds.

## The database

`DATABASE_URL` takes libpq's spellings (`postgres://`, `postgresql://`, `host=... dbname=...`) and SQLAlchemy's
(`postgresql+asyncpg://`, `+psycopg`, ...). What it leaves out is filled in from libpq's own `PG*` variables; without
any URL they are all there is. A variable that may hold a secret has no flag: arguments can be seen by every user of a
machine. `HEADSTART_LEDGER` has none either, since `history --ledger` prints the ledger.

The variables with a `_FILE` form may instead name a file that holds the value, as container secrets do. One newline at
its end does not count. Setting both forms is an error.
"""

EXIT_CODES = """\
# Exit codes

{generated}

A script, a Kubernetes Job or a pod's `lastState.terminated.exitCode` can decide on these. The last line of the log says
the same: `exit_code`, and in `outcome` the name below. `headstart explain 62` prints a row. A number leads to a run
that ended with it, from the command to what to do next; [stories.md](stories.md) has them all.

{exits}

1, 125 to 127 and other numbers from 128 keep the meaning that shells and container engines give them.
"""

EVENTS_PAGE = """\
# Events

{generated}

On stderr, each line of the log is a JSON object: `timestamp`, `level`, `event`, `run_id`, the `tenant` if it is of one,
and the event's fields. Names that end in `_seconds` or `_bytes` say what they count. On a terminal, the same is a
sentence. `headstart explain EVENT` prints one of the rows below.

The last line of every run is `run_finished`: `outcome` and `exit_code` ([Exit codes](exit-codes.md)),
`revision_before`, `revision_after`, `applied`, `backup`, and the seconds of each stage. After a failure it also has
`error`, `hint`, `stage`, `failed`, `pending` and `leftovers`; after a failed statement `cause`, `sqlstate`,
`statement`, `position`, `location`, `detail` and `calls`. `tenant_finished`, the last line of a tenant, has the same.

{events}
"""

STORIES_PAGE = """\
# Stories

<!-- Generated from tests/stories by `make docs`: change it there. -->

What happened, what the database is now, and what to type. Each story is run by the test suite on a real server, and
its outputs are what came out. Only what differs from run to run is replaced: times, sizes, versions, ids, ports and
the project's folder (`/project`). The database is called `app`. `$ headstart up &` goes on in the background, and
`$ fg` shows how it ends, as in a shell. Below an output are fields of the last line of the same run's JSON log.

{index}

{stories}
"""

NOTE = "<!-- Generated from the code by `make docs`: change it there. -->"


def settings_table() -> str:
    """The settings, as a Markdown table in the code's own order."""
    rows = [
        (
            f"`{setting.name}`" + (f"<br>`{setting.name}_FILE`" if setting.file_too else ""),
            "" if setting.flag is None else f"`{setting.flag}`",
            setting.default,
            setting.meaning,
        )
        for setting in SETTINGS
    ]
    return _table(("variable", "flag", "default", "meaning"), rows)


def exits_table(*, links: bool = False) -> str:
    """The exit codes, as a Markdown table in ascending order.

    Args:
        links: whether a number leads to the story of a run that ended with it.
    """
    numbers = {code: str(int(code)) for code in sorted(Exit)}
    if links:
        numbers |= {code: f"[{int(code)}](stories.md#{shown})" for code in numbers if (shown := story(code))}
    rows = [(number, f"`{code.outcome}`", code.database, code.advice) for code, number in numbers.items()]
    return _table(("code", "outcome", "the database", "what to do"), rows)


def events_table() -> str:
    """The events, as a Markdown table in the order of a run."""
    rows = [
        (f"`{name}`", f"`{' '.join(each.plain.split())}`", ", ".join(f"`{field}`" for field in each.fields))
        for name, each in EVENTS.items()
    ]
    return _table(("event", "on a terminal", "fields"), rows)


def stories_page() -> str:
    """The stories, by their exit codes: each one's title with its first sentences, then all of them."""
    paths = (ROOT / "tests/stories").glob("*.md")
    ordered = sorted(paths, key=lambda path: (int(path.stem.partition("-")[0]), path.stem))
    index, stories = [], []
    for path in ordered:
        title, summary, rest = path.read_text(encoding="utf-8").removeprefix("# ").strip().split("\n\n", 2)
        index.append(f"- [{title}](#{path.stem}): {' '.join(summary.split())}")
        # An info string is not shown: a file's name becomes a line, and the words that are for the suite are left out.
        rest = re.sub(r"(?m)^```(\w+) (?=\S*\.\w)(\S+)(?: applied)?$", r"`\2`\n\n```\1", rest)
        rest = re.sub(r"(?m)^```sql \w+$", "```sql", rest)
        stories.append(f"## {title}\n\n{summary}\n\n{rest}")
    return STORIES_PAGE.format(index="\n".join(index), stories="\n\n".join(stories))


def rooms_table() -> str:
    """The rooms of the package, top floor first, each with its door's first sentence and its modules."""
    rows = []
    for floor, rooms in _floors():
        for room in rooms:
            door = PACKAGE / room / "__init__.py"
            module = door if door.exists() else PACKAGE / f"{room}.py"
            inside = sorted(
                each.stem if each.suffix else f"{each.name}/"
                for each in (door.parent.iterdir() if door.exists() else ())
                if not each.name.startswith("_")
            )
            doc = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
            rows.append((str(floor), f"`{room}`", " ".join(doc.partition("\n\n")[0].split()), ", ".join(inside)))
    return _table(("floor", "room", "", "modules"), rows)


def drawing() -> str:
    """The floors, top floor first, and below each room the rooms that it imports."""
    lines = []
    for floor, rooms in _floors():
        lines.append(f"{floor} {'-' * 100}")
        below = {room: _imported_by(room) for room in rooms}
        width = max(map(len, rooms)) + 2
        lines += [f"  {room:<{width}}{' '.join(used) or '-'}" for room, used in below.items()]
    return "\n".join(["```", *lines, "```"])


def _floors() -> list[tuple[int, list[str]]]:
    """The number of each floor, and its rooms, as import-linter's first contract has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [(len(floors) - 1 - at, re.findall(r"\w+", rooms)) for at, rooms in enumerate(floors)]


def _imported_by(room: str) -> list[str]:
    """The other rooms that a room imports, those for type checking too, from the top floor down."""
    files = [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")]
    trees = [ast.parse(each.read_text(encoding="utf-8")) for each in files if each.exists()]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {
        f"{node.module}.{each.name}".split(".")[1]
        for node in nodes
        if node.module
        for each in node.names
        if f"{node.module}.".startswith("headstart.")
    }
    return [each for _, rooms in _floors() for each in rooms if each in names and each != room]


def documents() -> dict[Path, str]:
    """Every file that holds something generated, with the text that it should have."""
    configuration = int(Exit.CONFIGURATION)
    readme, architecture = ROOT / "README.md", ROOT / "docs/architecture.md"
    text = readme.read_text(encoding="utf-8")
    for name, table in (("settings", settings_table()), ("exit-codes", exits_table())):
        text = _between(name, table, text)
    return {
        architecture: _between(
            "rooms", rooms_table(), _between("floors", drawing(), architecture.read_text(encoding="utf-8"))
        ),
        ROOT / "docs/configuration.md": CONFIGURATION.format(
            generated=NOTE, settings=settings_table(), configuration=configuration
        ),
        ROOT / "docs/rules.md": f"# Risky SQL\n\n{NOTE}\n\n{rules.as_markdown().strip()}\n",
        ROOT / "docs/events.md": EVENTS_PAGE.format(generated=NOTE, events=events_table()),
        ROOT / "docs/exit-codes.md": EXIT_CODES.format(generated=NOTE, exits=exits_table(links=True)),
        ROOT / "docs/stories.md": stories_page(),
        readme: text,
    }


def differences() -> list[str]:
    """How each file that is out of date differs from what it should be, as unified diffs."""
    found = []
    for path, wanted in documents().items():
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        if there != wanted:
            name = str(path.relative_to(ROOT))
            lines = difflib.unified_diff(
                there.splitlines(), wanted.splitlines(), name, f"{name} (generated)", lineterm="", n=1
            )
            found.append("\n".join(lines) or f"{name}: only line ends differ")
    return found


def main() -> int:
    """Write or check, as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a file is out of date")
    if parser.parse_args().check:
        found = differences()
        for difference in found:
            print(difference)
        if found:
            print("generated documentation is out of date: run `make docs`", file=sys.stderr)
        return 1 if found else 0
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _between(name: str, table: str, text: str) -> str:
    """`text` with `table` between the markers of `name`, which must be there once."""
    start, end = f"<!-- generated: {name} -->", "<!-- end generated -->"
    pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.DOTALL)
    changed, count = pattern.subn(lambda _: f"{start}\n{table}\n{end}", text)
    if count != 1:
        raise SystemExit(f"it should hold {start} ... {end} once, and holds it {count} times")
    return changed


if __name__ == "__main__":
    sys.exit(main())
