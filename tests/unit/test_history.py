"""`headstart.history` against Alembic's own loading: revision files, and the histories they make."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from alembic.script import Script, ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.errors import BrokenHistoryError, ConfigurationError
from headstart.history import Project, broken_source, check_sources, read_graph, revision_files
from headstart.history import source as source_module
from headstart.plan import Revision, decide

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = os.geteuid() == 0
TEMPLATE = '''"""{doc}

Revision ID: {ident}
Revises: {down}
Create Date: 2024-05-06 07:08:09.101112

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = {ident!r}
down_revision: Union[str, Sequence[str], None] = {down!r}
branch_labels: Union[str, Sequence[str], None] = {labels!r}
depends_on: Union[str, Sequence[str], None] = {depends_on!r}


def upgrade() -> None:
    """Upgrade schema."""
    pass


def downgrade() -> None:
    """Downgrade schema."""
    pass
'''


def project(*folders: Path, recursive: bool = False, sourceless: bool = False) -> Project:
    """A project that has its revision files in these folders."""
    return Project(
        ini=None,
        toml=None,
        section="alembic",
        here=str(folders[0]),
        script_location=str(folders[0]),
        version_locations=tuple(map(str, folders)),
        recursive=recursive,
        sourceless=sourceless,
    )


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def revision_text(
    ident: str,
    down: str | tuple[str, ...] | None = None,
    *,
    labels: tuple[str, ...] | None = None,
    depends_on: str | tuple[str, ...] | None = None,
    doc: str = "a change",
) -> str:
    """A revision file as Alembic's template writes it."""
    return TEMPLATE.format(ident=ident, down=down, labels=labels, depends_on=depends_on, doc=doc)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for one example of hypothesis."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


@contextmanager
def no_tree() -> Iterator[None]:
    """Make sure that the regular expression alone is enough."""

    def refuse(path: str, data: bytes) -> Revision:
        raise AssertionError(f"{path} was parsed: {data!r}")

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(source_module, "_by_tree", refuse)
        yield


def as_alembic_reads(path: Path) -> dict[str, object]:
    """What Alembic takes from a file, by importing it."""
    script = Script._from_path(SimpleNamespace(sourceless=False), path)  # type: ignore[arg-type]
    assert script is not None
    return {
        "id": script.revision,
        "down": tuple(script._versioned_down_revisions),
        "depends_on": tuple(_several(script.dependencies)),
        "branch_labels": tuple(script._orig_branch_labels),
        "path": script.path,
        "doc": script.doc.partition("\n")[0],
    }


def _several(value: object) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


# What Alembic's templates have written since 2011, and what people's formatters and hands make of it.
PLAIN = {
    "0.1 to 0.6": '"""x\n\nRevision ID: a1\n"""\n\n# revision identifiers, used by Alembic.\n'
    "revision = 'a1'\ndown_revision = None\n\nfrom alembic import op\nimport sqlalchemy as sa\n\n\ndef upgrade():\n    pass\n",
    "0.7 to 1.10": '"""x"""\nfrom alembic import op\nimport sqlalchemy as sa\n\n\n'
    "# revision identifiers, used by Alembic.\nrevision = 'a1'\ndown_revision = 'b2'\n"
    "branch_labels = None\ndepends_on = None\n\n\ndef upgrade():\n    pass\n",
    "1.11 and later": revision_text("a1", "b2"),
    "labels": revision_text("a1", None, labels=("x", "y")),
    "one label": revision_text("a1").replace(
        "branch_labels: Union[str, Sequence[str], None] = None", "branch_labels = ('x',)"
    ),
    "dependency": revision_text("a1", "b2", depends_on="c3"),
    "dependencies": revision_text("a1", "b2", depends_on=("c3", "d4")),
    "merge": revision_text("a1", ("b2", "c3")),
    "black, long merge": '"""x"""\nrevision = "a1"\ndown_revision: str | None = (\n    "b2",\n    "c3",\n)\n',
    "list": 'revision = "a1"\ndown_revision = ["b2", "c3"]\n',
    "brackets that make no tuple": "revision = 'a1'\ndown_revision = ('b2')\n",
    "empty": "revision = 'a1'\ndown_revision = ()\n",
    "short annotations": 'revision: str = "a1"\ndown_revision: str | None = "b2"\ndepends_on: Final = None\n',
    "future import": 'from __future__ import annotations\nimport sqlalchemy as sa\nrevision = "a1"\ndown_revision = "b2"\n',
    "long import": 'from alembic import (\n    op,\n    context,\n)\nrevision = "a1"\ndown_revision = "b2"\n',
    "unicode literals of Python 2": "revision = u'a1'\ndown_revision = u'b2'\n",
    "begins with u": "revision = 'u1u'\ndown_revision = 'u2u'\n",
    "coding and comments": "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# flake8: noqa\n'''x\ny'''\nrevision = 'a1'  # why\ndown_revision = 'b2'\n",
    "no spaces": "revision='a1'\ndown_revision='b2'\n",
    "no last newline": "revision = 'a1'\ndown_revision = 'b2'",
    "carriage returns": revision_text("a1", "b2").replace("\n", "\r\n"),
    "other constants": "revision = 'a1'\ndown_revision = 'b2'\nairflow_version = '2.1'\nbig = True\nn = 3\n",
    "any order": "down_revision = 'b2'\ndepends_on = None\nrevision = 'a1'\n",
    "twice": "revision = 'a0'\nrevision = 'a1'\ndown_revision = 'b2'\n",
    "quotes in the docstring": '"""say "hello" and \'bye\'"""\nrevision = "a1"\ndown_revision = None\n',
    "docstring like a statement": '"""\nrevision = "no"\ndown_revision = "no"\n"""\nrevision = "a1"\ndown_revision = "b2"\n',
    "one-quoted docstring": "'x'\nrevision = 'a1'\ndown_revision = None\n",
    "mentioned below": revision_text("a1", "b2") + "\n# see revision b2, and depends_on\n",
    "not ASCII": revision_text("a1", "b2", doc="Größe und Länge"),
    "many words": revision_text("revision_one", "down_revision_two"),
}

# Forms that leave a doubt: the syntax tree answers as Alembic does, or nobody.
ODD = {
    "escaped docstring": '"""a \\"""\nrevision = "no"\n\\""" b"""\nrevision = "a1"\ndown_revision = "b2"\n',
    "concatenation": "revision = 'a' '1'\ndown_revision = None\n",
    "after code": "import os\nX = os.getcwd()\nrevision = 'a1'\ndown_revision = 'b2'\n",
    "after a text": 'X = """\nrevision = "no"\ndown_revision = "no"\n"""\nrevision = "a1"\ndown_revision = "b2"\n',
    "after a text in brackets": 'X = ("""a)\nrevision = "no"\n""")\nrevision = "a1"\ndown_revision = "b2"\n',
    "lookalike in a function": revision_text("a1", "b2") + '\nSQL = """\nrevision = "no"\n"""\n',
    "keyword below": revision_text("a1", "b2") + "\n    print(dict(revision='no'))\n".replace("    ", ""),
    "two on a line": "revision = 'a1'; down_revision = 'b2'\n",
    "semicolon and annotation": "x: int; revision = 'a1'\ndown_revision = 'b2'\n",
    "try on a line": "revision = 'a0'\ndown_revision = 'b2'\ntry: revision = 'a1'\nexcept Exception: pass\n",
    "long annotation": "from typing import Union\nrevision = 'a1'\ndown_revision: Union[\n    str, None\n] = 'b2'\n",
    "quoted annotation": "revision: 'str' = 'a1'\ndown_revision: 'str | None' = 'b2'\n",
    "continued line": "revision = \\\n    'a1'\ndown_revision = 'b2'\n",
    "comment in a tuple": "revision = 'a1'\ndown_revision = (\n    'b2',  # one\n    'c3',\n)\n",
    "byte order mark": b"\xef\xbb\xbf" + revision_text("a1", "b2").encode(),
    "another encoding": "# -*- coding: latin-1 -*-\n'''Gr\xf6\xdfe'''\nrevision = 'a1'\ndown_revision = 'b2'\n".encode(
        "latin-1"
    ),
    "star import first": "from os.path import *\nrevision = 'a1'\ndown_revision = 'b2'\nbranch_labels = None\ndepends_on = None\n",
    "form feed": "\f\nrevision = 'a1'\ndown_revision = 'b2'\n",
    "old Mac": b"revision = 'a1'\rdown_revision = 'b2'\r",
    "rebound below": "revision = 'a0'\ndown_revision = 'b2'\ndef upgrade(): pass\nrevision = 'a1'\n",
    "escape in the id": "revision = 'a\\x31'\ndown_revision = 'b2'\n",
    "no spaces between": "revision = 'a1'\ndown_revision = 'b2'\nif True:\n    pass\n",
}

COMPUTED = {
    "call": "revision = str(1)\ndown_revision = None\n",
    "name": "X = 'a1'\nrevision = X\ndown_revision = None\n",
    "set": "revision = 'a1'\ndown_revision = {'b2', 'c3'}\n",
    "chain": "revision = x = 'a1'\ndown_revision = None\n",
    "unpacked": "revision, down_revision = 'a1', 'b2'\n",
    "unpacked below": "revision = 'a0'\ndown_revision = 'b2'\nif True:\n    revision, x = 'a1', 2\n",
    "condition": "revision = 'a0'\ndown_revision = 'b2'\nif True:\n    revision = 'a1'\n",
    "augmented": "revision = 'a'\nrevision += '1'\ndown_revision = 'b2'\n",
    "augmented below": revision_text("a", "b2") + "\nrevision += '1'\n",
    "walrus": "revision = 'a0'\ndown_revision = 'b2'\nprint((revision := 'a1'))\n",
    "loop": "revision = 'a0'\ndown_revision = 'b2'\nfor revision in ['a1']: pass\n",
    "imported": "from os.path import sep as revision\ndown_revision = 'b2'\n",
    "imported over it": "revision = 'a0'\ndown_revision = 'b2'\nfrom os.path import sep as revision\n",
    "in brackets": "revision = 'a0'\ndown_revision = 'b2'\nfrom os.path import (\n    join,\n    sep as revision,\n)\n",
    "star import last": "revision = 'a1'\ndown_revision = 'b2'\nfrom os.path import *\n",
    "globals": "down_revision = 'b2'\nrevision = 'a0'\nglobals()['revision'] = 'a1'\n",
    "globals in a function": revision_text("a0", "b2") + "\nglobals()['revision'] = 'a1'\n",
    "setattr": "import sys\nrevision = 'a0'\ndown_revision = 'b2'\nsetattr(sys.modules[__name__], 'revision', 'a1')\n",
    "a function of that name": "revision = 'a1'\ndown_revision = 'b2'\ndef depends_on(): pass\n",
    "deleted": "revision = 'a1'\ndown_revision = 'b2'\ndepends_on = 'c3'\ndel depends_on\n",
    "only in a docstring": '"""\nrevision = "no"\ndown_revision = "no"\n"""\nfrom os.path import sep as revision, sep as down_revision\n',
}


@pytest.mark.parametrize("form", PLAIN)
def test_plain_files_are_read_by_pattern_as_alembic_reads_them(tmp_path: Path, form: str) -> None:
    """What templates, formatters and hands usually write needs no syntax tree, and means what Alembic takes it for."""
    path = write(tmp_path, "x.py", PLAIN[form])
    with no_tree():
        found = source_module.read_revision(str(path), path.read_bytes())
    assert {name: getattr(found, name) for name in Revision.__struct_fields__} == as_alembic_reads(path)


@pytest.mark.parametrize("form", ODD)
def test_odd_files_are_read_as_alembic_reads_them(tmp_path: Path, form: str) -> None:
    """Lines that only look like statements do not deceive, and statements that look odd are understood."""
    path = write(tmp_path, "x.py", ODD[form])
    found = source_module.read_revision(str(path), path.read_bytes())
    expected = as_alembic_reads(path)
    assert {name: getattr(found, name) for name in ("id", "down", "depends_on", "branch_labels")} == {
        name: expected[name] for name in ("id", "down", "depends_on", "branch_labels")
    }


@pytest.mark.parametrize("form", COMPUTED)
def test_computed_revisions_are_left_to_alembic(tmp_path: Path, form: str) -> None:
    """An id that only running the file can tell is never guessed."""
    write(tmp_path, "b.py", revision_text("b2"))
    write(tmp_path, "x.py", COMPUTED[form])
    assert read_graph(project(tmp_path)) is None


LINES = st.sampled_from(
    [
        "",
        "# a comment",
        "import sqlalchemy as sa",
        "from os import (\n    path,\n)",
        "SQL = '''\nrevision = \"no\"\n'''",
        "X = [1,\n2]",
        "if False:\n    revision = 'no'",
        "def f():\n    revision = 'no'",
        "class C:\n    depends_on = 'no'",
        "'''\ndown_revision = \"no\"\n'''",
        "revision = 'r1'",
        "revision: str = 'r2'",
        "down_revision = None",
        "down_revision = ('p1', 'p2',)",
        'down_revision: Union[str, None] = "p3"',
        "branch_labels = ['l1']",
        "depends_on = 'd1'",
        "print = dict(revision='no')",
        "X = 'a'; revision = 'r3'",
    ]
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_any_mixture_of_lines_means_what_python_makes_of_it(lines: list[str], newline: str) -> None:
    """However statements and lookalikes are mixed, an answer is what running the file gives."""
    text = "\n".join(["from __future__ import annotations", *lines, ""]).replace("\n", newline)
    with temporary_folder() as folder:
        path = write(folder, "zz.py", text)
        try:
            found = source_module.read_revision(str(path), path.read_bytes())
        except source_module.OnlyAlembicKnowsError:
            return
        except BrokenHistoryError:
            namespace: dict[str, object] = {}
            exec(compile(text, "zz.py", "exec"), namespace)  # noqa: S102  (what importing it does)
            assert not {"revision", "down_revision"} <= namespace.keys()
            return
        expected = as_alembic_reads(path)
        assert {name: getattr(found, name) for name in ("id", "down", "depends_on", "branch_labels")} == {
            name: expected[name] for name in ("id", "down", "depends_on", "branch_labels")
        }


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
        assert [r.path for r in graph.revisions.values()] == [s.path for s in script.revision_map._generator()]  # type: ignore[attr-defined]
        start = data.draw(st.sampled_from([*graph.revisions, "base"]))
        before = decide((), graph, start)
        if before is None:
            return
        plan = decide(before.after, graph, "heads")
        if plan is not None:
            steps = script._upgrade_revs("heads", before.after)  # type: ignore[arg-type]
            assert plan.pending == tuple(step.revision.revision for step in steps)  # type: ignore[attr-defined]


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


def test_an_id_may_come_from_the_file_name(tmp_path: Path) -> None:
    """Alembic 0.1 took the id from the file's name, and still does."""
    path = write(tmp_path, "ae1027a6acf.py", "down_revision = None\n")
    graph = read_graph(project(tmp_path))
    assert graph is not None
    assert list(graph.revisions) == ["ae1027a6acf"] == [as_alembic_reads(path)["id"]]


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
        check_sources(project(tmp_path))
        read_graph(project(tmp_path))
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


def test_an_error_of_importing_becomes_the_same_refusal() -> None:
    """The bridge can hand over the SyntaxError that Alembic met."""
    error = broken_source("/x.py", SyntaxError("no", ("/x.py", 3, 1, "text")))
    assert error.message == "/x.py, line 3 is not valid Python: no"


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
        "import sys, headstart.history, headstart.plan;"
        "sys.exit(' '.join({'alembic', 'sqlalchemy', 'tomllib', 'configparser', 'asyncio'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
