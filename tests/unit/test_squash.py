"""What `squash` does without a server: what a baseline replaces, how it is written, how files change places."""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.commands.squash.cut import Cut, decide_cut
from headstart.commands.squash.files import exchange
from headstart.commands.squash.text import baseline_text
from headstart.errors import BrokenHistoryError, ConfigurationError, HeadstartError
from headstart.history import History, read
from headstart.history.baseline import read_baseline
from headstart.history.graph import Graph, Revision, build_graph
from support.process import RUNNER
from support.project import Project
from support.revisions import project as project_in

MOMENT = datetime.datetime(2025, 6, 1, 12, 0, tzinfo=datetime.UTC)


def graph_of(*revisions: str) -> Graph:
    """`b<a` follows a, `c<a,b` merges, `d<a+b` follows a and depends on b; all in /v."""
    made = []
    for each in revisions:
        ident, _, rest = each.partition("<")
        down, _, depends = rest.partition("+")
        made.append(
            Revision(
                id=ident,
                down=tuple(filter(None, down.split(","))),
                depends_on=tuple(filter(None, depends.split(","))),
                path=f"/v/{ident}.py",
                branch_labels=("label",) if ident == "a" else (),
            )
        )
    return build_graph(made)


def cut(graph: Graph, *applied: str) -> Cut:
    """The cut through a history in /v."""
    return decide_cut(graph, applied, project_in(Path("/v")))


def test_a_cut_is_all_that_is_before_its_top() -> None:
    """The last revision is the last to go; labels live on."""
    found = cut(graph_of("a", "b<a", "c<b", "d<c"), "a", "b", "c")
    assert [each.id for each in found.replaced] == ["a", "b", "c"]
    assert (found.top.id, found.labels, found.location) == ("c", ("label",), Path("/v"))


def test_branches_that_are_merged_again_may_go() -> None:
    """What matters is that nothing from outside hangs on the inside."""
    assert cut(graph_of("a", "b<a", "c<a", "d<b,c", "e<d"), "a", "c", "b", "d").top.id == "d"


@pytest.mark.parametrize(
    ("revisions", "applied", "error", "named"),
    [
        (("a", "b<a"), ("a",), ConfigurationError, "nothing to squash"),
        (("a", "b<a", "c<a"), ("a", "b", "c"), ConfigurationError, "not for b (/v/b.py) and c (/v/c.py)"),
        (("a", "b<a", "c<b", "x<a"), ("a", "b", "c"), BrokenHistoryError, "x (/v/x.py) needs a (/v/a.py)"),
        (("a", "b<a", "c<b", "x<+b"), ("a", "b", "c"), BrokenHistoryError, "x (/v/x.py) needs b (/v/b.py)"),
        (("a", "b<a", "c<b", "x<c+label"), ("a", "b", "c"), BrokenHistoryError, "x (/v/x.py) needs a (/v/a.py)"),
    ],
)
def test_what_cannot_be_cut(
    revisions: tuple[str, ...], applied: tuple[str, ...], error: type[HeadstartError], named: str
) -> None:
    """It is refused, with the files that are in the way."""
    with pytest.raises(error, match=re.escape(named)):
        cut(graph_of(*revisions), *applied)


def text(*statements: str, message: str = "baseline", labels: tuple[str, ...] = ()) -> str:
    """A baseline of a1 and b2."""
    return baseline_text(
        "b2",
        message=message,
        labels=labels,
        archive="migrations/archive/b2",
        squashed=[("a1", "0" * 64, "1" * 64), ("b2", "2" * 64, "3" * 64)],
        statements=statements,
        count=2,
        moment=MOMENT,
    )


def test_what_a_baseline_says_is_read_back() -> None:
    """The ledger knows from it which files the baseline stands for."""
    found = read_baseline(text("select 1").encode())
    assert found is not None
    assert found.archive == "migrations/archive/b2"
    assert found.holds("a1", "0" * 64)
    assert found.holds("b2", "3" * 64)
    assert not found.holds("a1", "2" * 64)
    assert not found.holds("c3", "0" * 64)


@pytest.mark.parametrize("source", ["x = 1\n", "\nsquashed = 1\n", "\nsquashed = (\n", "\nsquashed = archive = ()\n"])
def test_other_files_are_no_baselines(source: str) -> None:
    """A revision of the user's own may use these names for anything."""
    assert read_baseline(source.encode()) is None


TRICKY = [
    "'a' \"b\"",
    'ends in "',
    "ends in \\",
    "\\",
    '"""',
    "'''\"\"\"",
    "a\r\nb",
    "\r",
    "tab\t",
    "%s %% :name ::text",
    "é\u2028",
]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(TRICKY)))
def test_statements_are_written_as_they_are(statements: list[str]) -> None:
    """Whatever quotes and backslashes a statement has."""
    namespace: dict[str, object] = {}
    tree = ast.parse(text(*statements))
    exec(compile(ast.Module([tree.body[-1]], []), "baseline", "exec"), namespace)  # noqa: S102  (our own text)
    assert namespace["STATEMENTS"] == tuple(statements)


def test_a_message_of_any_kind(tmp_path: Path) -> None:
    """The file is read without Alembic, whatever its message."""
    (tmp_path / "b2.py").write_text(text(message='say """hello\\', labels=("core",)), encoding="utf-8")
    found = History(project_in(tmp_path), None)._replace(graph=read_back(tmp_path)).graph
    assert found is not None
    assert (found.heads, found.revisions["b2"].branch_labels) == (("b2",), ("core",))


def read_back(folder: Path) -> Graph | None:
    """The graph of a folder."""
    from headstart.history import read_graph

    return read_graph(project_in(folder))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Three revisions, of which two are to go."""
    made = Project(tmp_path)
    for ident in ("a1", "b2", "c3"):
        made.revision(ident)
    return made


GONE = ("a1.py", "b2.py")
OLD = {*GONE, "c3.py"}
NEW = {"b2_baseline.py", "c3.py"}


def go(project: Project, replaced: list[Revision] | None = None) -> None:
    """Exchange the files."""
    exchange(
        revisions(project) if replaced is None else replaced,
        baseline=project.versions / "b2_baseline.py",
        text=text("select 1").encode(),
        archive=archive(project),
        readme="what this is\n",
    )


def revisions(project: Project) -> list[Revision]:
    """The old files, as they were read."""
    paths = [project.versions / name for name in GONE]
    return [
        Revision(id=path.stem, down=(), path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    ]


def archive(project: Project) -> Path:
    """Where they go."""
    return project.versions.parent / "archive" / "b2"


def files(project: Project) -> set[str]:
    """What is among the revision files."""
    return {path.name for path in project.versions.iterdir() if path.suffix == ".py"}


def history(project: Project) -> History:
    """As `up` reads it."""
    return read(str(project.ini), cwd=str(project.folder), explicit=True)


def test_the_files_change_places(project: Project) -> None:
    """The old ones are in the archive, byte by byte, and nothing else is left."""
    old = {name: (project.versions / name).read_bytes() for name in GONE}
    go(project)
    assert files(project) == NEW
    assert {path.name: path.read_bytes() for path in archive(project).glob("*.py")} == old
    assert (archive(project) / "README.md").read_text(encoding="utf-8") == "what this is\n"
    assert not list(project.folder.rglob(".*"))


def test_a_file_that_changes_meanwhile_is_not_archived(project: Project) -> None:
    """What was proven was another file: nothing is exchanged."""
    read = revisions(project)
    (project.versions / "a1.py").write_text("another", encoding="utf-8")
    with pytest.raises(BrokenHistoryError, match=r"a1\.py"):
        go(project, read)
    assert files(project) == OLD


# Python's audit events tell of every change to a folder: before the given one, the process is gone.
KILLED = """
import json, os, sys
from pathlib import Path
from headstart.commands.squash.files import exchange
from headstart.history.graph import Revision
folder, digests, left = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
old = [Revision(id=name, down=(), path=str(folder / name), sha256=digest) for name, digest in digests.items()]
baseline, archive = folder / "b2_baseline.py", folder.parent / "archive" / "b2"
def before(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and "w" in str(arguments[1])):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(before)
exchange(old, baseline=baseline, text=BASELINE, archive=archive, readme="what this is")
"""


def killed(project: Project, count: int) -> bool:
    """Exchange the files in a process that is gone before its `count`th change; whether it came to that."""
    code = KILLED.replace("BASELINE", repr(text("select 1").encode()))
    digests = {Path(each.path).name: each.sha256 for each in revisions(project)}
    words = (str(project.versions), json.dumps(digests), str(count))
    done = subprocess.run([sys.executable, "-c", code, *words], env={"PYTHONPATH": str(RUNNER)}, check=False)
    assert done.returncode in {0, -9}
    return done.returncode == -9


def standing(project: Project) -> str:
    """Which history is in force, if it is not refused; each is whole."""
    try:
        graph = history(project).graph
    except BrokenHistoryError:
        return "refused"
    assert graph is not None
    assert files(project) == (OLD if "a1" in graph.revisions else NEW)
    return "old" if "a1" in graph.revisions else "new"


def test_killed_at_any_point(tmp_path: Path) -> None:
    """Either history is whole or everybody is refused; and every old file is in its place or in the archive."""
    seen = set()
    count = 0
    while True:
        count += 1
        made = Project(tmp_path / str(count))
        for ident in ("a1", "b2", "c3"):
            made.revision(ident)
        old = {name: (made.versions / name).read_bytes() for name in GONE}
        if not killed(made, count):
            break
        seen.add(standing(made))
        for name, content in old.items():
            kept = made.versions / name if (made.versions / name).exists() else archive(made) / name
            assert kept.read_bytes() == content, count
    assert seen == {"old", "refused"}
    assert count > 5
