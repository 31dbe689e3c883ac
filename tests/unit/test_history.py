"""Revision files on disk, and the histories they make, against Alembic's own loading."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history import Project, check_sources, read_graph
from headstart.history.files import revision_files
from headstart.history.plan import decide
from support.revisions import no_tree, project, revision_text, temporary_folder, write

if TYPE_CHECKING:
    from pathlib import Path

AS_ROOT = os.geteuid() == 0


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, str]]:
    """File names (some in subfolders) with revision texts that make a sound history."""
    size = draw(st.integers(1, 9))
    idents = [f"{draw(st.integers(0, 0xFFF)):03x}{number}" for number in range(size)]
    files = []
    for number, ident in enumerate(idents):
        earlier = idents[:number]
        down = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
        value = None if not down else down[0] if len(down) == 1 and draw(st.booleans()) else tuple(down)
        labels = (f"label{number}",) if draw(st.integers(0, 3)) == 0 else None
        folder = draw(st.sampled_from(["", "", "", "sub/", "sub/deeper/", "another/"]))
        files.append((f"{folder}{ident}_change.py", revision_text(ident, value, labels=labels)))
    return files


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.booleans(), st.booleans(), st.data())
def test_written_histories_are_alembics(
    files: list[tuple[str, str]], recursive: bool, several: bool, data: st.DataObject
) -> None:
    """Files on disk, in one folder or several, give Alembic's graph, heads and order of pending revisions."""
    if not recursive:
        files = [(name.rpartition("/")[2], text) for name, text in files]
    with temporary_folder() as root:
        folders = [root / "versions", root / "more"] if several else [root / "versions"]
        for folder in folders:
            folder.mkdir()
        for name, text in files:
            write(data.draw(st.sampled_from(folders)), name, text)
        for name in ("__init__.py", ".#lock.py", "README", "__pycache__/x.py", "notes.pyc"):
            write(folders[0], name, "revision = 'no'\n")
        script = ScriptDirectory(
            root, version_locations=[str(f) for f in folders], recursive_version_locations=recursive
        )
        with no_tree():
            graph = read_graph(project(*folders, recursive=recursive))
        assert graph is not None
        assert graph.heads == tuple(script.get_heads())
        assert graph.bases == tuple(script.get_bases())
        assert [r.path for r in graph.revisions.values()] == [s.path for s in script._load_revisions()]
        start = data.draw(st.sampled_from([*graph.revisions, "base"]))
        before = decide((), graph, start)
        if before is None:
            return
        plan = decide(before.after, graph, "heads")
        if plan is not None:
            steps = script._upgrade_revs("heads", before.after)  # type: ignore[arg-type]
            assert plan.pending == tuple(step.revision.revision for step in steps)


def test_depends_on_is_in_the_graph(tmp_path: Path) -> None:
    """A dependency, by id or by label, counts as a parent but does not make its target less of a head."""
    write(tmp_path, "a.py", revision_text("a1", labels=("side",)))
    write(tmp_path, "b.py", revision_text("b2", depends_on="side"))
    graph = read_graph(project(tmp_path))
    assert graph is not None
    assert graph.parents["b2"] == ("a1",)
    assert graph.heads == ("a1", "b2")
    assert decide(("b2",), graph, "heads") is not None
    assert decide((), graph, "heads") is None


def test_a_link_goes_by_the_name_it_leads_to(tmp_path: Path) -> None:
    """A linked file is read once, where it really is, as Alembic does."""
    (tmp_path / "v").mkdir()
    real = write(tmp_path, "real/b.py", revision_text("b2", "a1"))
    write(tmp_path, "v/a.py", revision_text("a1"))
    (tmp_path / "v/0.py").symlink_to(real)
    (tmp_path / "v/1.py").symlink_to(real)
    (tmp_path / "v/folder.py").symlink_to(tmp_path / "real")
    (tmp_path / "linked").symlink_to(tmp_path / "v")
    assert list(revision_files(project(tmp_path / "linked"))) == [str(real), str(tmp_path / "v/a.py")]


def test_sourceless_projects_are_left_to_alembic(tmp_path: Path) -> None:
    """Compiled revisions have no text to read."""
    assert read_graph(project(tmp_path, sourceless=True)) is None


def load(found: Project) -> None:
    """Do what is done before anything is migrated."""
    check_sources(found)
    read_graph(found)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("revision = 'a1'\ndown_revision = None\ndef upgrade(:\n", "line 3 is not valid Python"),
        ("revision = 'a1'\n<<<<<<< HEAD\ndown_revision = 'b2'\n", "line 2 is not valid Python"),
        (b"'''Gr\xf6\xdfe'''\nrevision = 'a1'\ndown_revision = None\n", "is not valid Python"),
        (b"\x00\x05\x16\x07", "is not valid Python"),
        ("import os\n", "sets no revision"),
        ("revision = 'a1'\n", "sets no down_revision"),
        ("revision = None\ndown_revision = None\n", "is None, not a string"),
        ("revision = ''\ndown_revision = None\n", "is '', not a string"),
        ("revision = 7\ndown_revision = None\n", "is 7, not a string"),
    ],
)
def test_broken_files_are_named_with_line_and_reason(tmp_path: Path, text: str | bytes, cause: str) -> None:
    """A file that cannot be a revision is named, with its line where there is one, before anything is migrated."""
    write(tmp_path, "good.py", revision_text("good"))
    path = write(tmp_path, "x.py", text)
    with pytest.raises(BrokenHistoryError, match=cause) as caught:
        load(project(tmp_path))
    assert str(path) in caught.value.message
    assert caught.value.context["files"] == [str(path)]
    assert "\n" not in caught.value.message


def test_a_syntax_error_below_a_plain_head_is_found_by_checking(tmp_path: Path) -> None:
    """Reading the head of a file does not find an error in its functions; compiling it does."""
    path = write(tmp_path, "x.py", revision_text("a1") + "\ndef broken(:\n")
    assert read_graph(project(tmp_path)) is not None
    with pytest.raises(BrokenHistoryError, match=rf"{path}, line \d+ is not valid Python"):
        check_sources(project(tmp_path))


def test_checking_is_silent_about_warnings(tmp_path: Path) -> None:
    """An invalid escape in a revision is no error, and not ours to print."""
    write(tmp_path, "x.py", revision_text("a1") + '\nX = "\\d"\n')
    check_sources(project(tmp_path))


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    """A link that leads nowhere is refused by its own name."""
    (tmp_path / "x.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(BrokenHistoryError, match=rf"{tmp_path}/x\.py is not a file but a broken link"):
        read_graph(project(tmp_path))


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Something that would block the reader for ever is refused."""
    os.mkfifo(tmp_path / "x.py")
    with pytest.raises(BrokenHistoryError, match="is not a file"):
        read_graph(project(tmp_path))


@pytest.mark.skipif(AS_ROOT, reason="root reads everything")
def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    """A file without read permission breaks the history, a folder without it is a wrong setting."""
    path = write(tmp_path, "v/x.py", revision_text("a1"))
    path.chmod(0)
    with pytest.raises(BrokenHistoryError, match=rf"{path} cannot be read: Permission denied"):
        read_graph(project(tmp_path / "v"))
    (tmp_path / "v").chmod(0)
    try:
        with pytest.raises(ConfigurationError, match=rf"{tmp_path}/v cannot be read: Permission denied"):
            read_graph(project(tmp_path / "v"))
    finally:
        (tmp_path / "v").chmod(0o700)


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    """A version folder that is gone since it was located is a wrong setting."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        read_graph(project(tmp_path / "gone"))


def test_a_large_file_is_read_whole(tmp_path: Path) -> None:
    """A revision with megabytes of SQL in it is read to its end."""
    write(tmp_path, "x.py", revision_text("a1", "b2") + f"\nSQL = {'x' * 3_000_000!r}\nrevision = 'c3'\n")
    write(tmp_path, "b.py", revision_text("b2"))
    graph = read_graph(project(tmp_path))
    assert graph is not None
    assert graph.heads == ("c3",)


def test_reading_imports_nothing_heavy() -> None:
    """Neither Alembic nor SQLAlchemy is imported for the graph, nor is a TOML parser."""
    code = (
        "import sys, headstart.history, headstart.history.plan;"
        "print({'alembic', 'sqlalchemy', 'tomllib', 'asyncio'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
