"""What one revision file declares, against what Alembic takes from it by importing it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from alembic.script import Script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.errors import BrokenHistoryError
from headstart.history import read_graph
from headstart.history import source as source_module
from headstart.history.graph import Revision
from support.damage import damaged
from support.revisions import no_tree, project, revision_text, temporary_folder, write

if TYPE_CHECKING:
    from pathlib import Path


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
    "revision = 'a1'\ndown_revision = None\n\nfrom alembic import op\nimport sqlalchemy as sa\n\n\n"
    "def upgrade():\n    pass\n",
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
    "list": '"""x"""\nrevision = "a1"\ndown_revision = ["b2", "c3"]\n',
    "brackets that make no tuple": '"""x"""\nrevision = \'a1\'\ndown_revision = (\'b2\')\n',
    "empty": '"""x"""\nrevision = \'a1\'\ndown_revision = ()\n',
    "short annotations": '"""x"""\nfrom typing import Final\nrevision: str = "a1"\n'
    'down_revision: str | None = "b2"\ndepends_on: Final = None\n',
    "future import": '"""x"""\nfrom __future__ import annotations\nimport sqlalchemy as sa\n'
    'revision = "a1"\ndown_revision = "b2"\n',
    "long import": '"""x"""\nfrom alembic import (\n    op,\n    context,\n)\nrevision = "a1"\ndown_revision = "b2"\n',
    "unicode literals of Python 2": '"""x"""\nrevision = u\'a1\'\ndown_revision = u\'b2\'\n',
    "begins with u": '"""x"""\nrevision = \'u1u\'\ndown_revision = \'u2u\'\n',
    "coding and comments": "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# flake8: noqa\n"
    "'''x\ny'''\nrevision = 'a1'  # why\ndown_revision = 'b2'\n",
    "no spaces": '"""x"""\nrevision=\'a1\'\ndown_revision=\'b2\'\n',
    "no last newline": '"""x"""\nrevision = \'a1\'\ndown_revision = \'b2\'',
    "carriage returns": revision_text("a1", "b2").replace("\n", "\r\n"),
    "other constants": '"""x"""\nrevision = \'a1\'\ndown_revision = \'b2\'\nairflow_version = 1\nbig = True\nn = 3\n',
    "any order": '"""x"""\ndown_revision = \'b2\'\ndepends_on = None\nrevision = \'a1\'\n',
    "quotes in the docstring": '"""say "hello" and \'bye\'"""\nrevision = "a1"\ndown_revision = None\n',
    "docstring like a statement": '"""\nrevision = "no"\ndown_revision = "no"\n"""\n'
    'revision = "a1"\ndown_revision = "b2"\n',
    "not ASCII": revision_text("a1", "b2", doc="Größe und Länge"),
}

# Forms that leave a doubt: the syntax tree answers as Alembic does, or nobody.
ODD: dict[str, str | bytes] = {
    "no docstring": "revision = 'a1'\ndown_revision = 'b2'\n",
    "twice": "revision = 'a0'\nrevision = 'a1'\ndown_revision = 'b2'\n",
    "one-quoted docstring": "'x'\nrevision = 'a1'\ndown_revision = None\n",
    "mentioned below": revision_text("a1", "b2") + "\n# see revision b2, and depends_on\n",
    "many words": revision_text("revision_one", "down_revision_two"),
    "escaped docstring": '"""a \\"""\nrevision = "no"\n\\""" b"""\nrevision = "a1"\ndown_revision = "b2"\n',
    "concatenation": "revision = 'a' '1'\ndown_revision = None\n",
    "after code": "import os\nX = os.getcwd()\nrevision = 'a1'\ndown_revision = 'b2'\n",
    "after a text": 'X = """\nrevision = "no"\ndown_revision = "no"\n"""\nrevision = "a1"\ndown_revision = "b2"\n',
    "after a text in brackets": 'X = ("""a)\nrevision = "no"\n""")\nrevision = "a1"\ndown_revision = "b2"\n',
    "lookalike in a function": revision_text("a1", "b2") + '\nSQL = """\nrevision = "no"\n"""\n',
    "keyword below": revision_text("a1", "b2") + "\n    print(dict(revision='no'))\n".replace("    ", ""),
    "two on a line": "revision = 'a1'; down_revision = 'b2'\n",
    "semicolon and annotation": "x: int; revision = 'a1'\ndown_revision = 'b2'\n",
    "long annotation": "from typing import Union\nrevision = 'a1'\ndown_revision: Union[\n    str, None\n] = 'b2'\n",
    "quoted annotation": "revision: 'str' = 'a1'\ndown_revision: 'str | None' = 'b2'\n",
    "continued line": "revision = \\\n    'a1'\ndown_revision = 'b2'\n",
    "comment in a tuple": "revision = 'a1'\ndown_revision = (\n    'b2',  # one\n    'c3',\n)\n",
    "byte order mark": b"\xef\xbb\xbf" + revision_text("a1", "b2").encode(),
    "another encoding": "# -*- coding: latin-1 -*-\n'''Gr\xf6\xdfe'''\nrevision = 'a1'\ndown_revision = 'b2'\n".encode(
        "latin-1"
    ),
    "star import first": "from os.path import *\nrevision = 'a1'\ndown_revision = 'b2'\n"
    "branch_labels = None\ndepends_on = None\n",
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
    "try on a line": "revision = 'a0'\ndown_revision = 'b2'\ntry: revision = 'a1'\nexcept Exception: pass\n",
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
    "only in a docstring": '"""\nrevision = "no"\ndown_revision = "no"\n"""\n'
    "from os.path import sep as revision, sep as down_revision\n",
}


@pytest.mark.parametrize("form", PLAIN)
def test_plain_files_are_read_by_pattern_as_alembic_reads_them(tmp_path: Path, form: str) -> None:
    """What templates, formatters and hands usually write needs no syntax tree, and means what Alembic takes it for."""
    path = write(tmp_path, "x.py", PLAIN[form])
    with no_tree():
        found = source_module.read_revision(str(path), path.read_bytes())
    of_alembic = [name for name in Revision.__struct_fields__ if name != "sha256"]
    assert {name: getattr(found, name) for name in of_alembic} == as_alembic_reads(path)


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
    text = "\n".join(['"""x"""', "from __future__ import annotations", *lines, ""]).replace("\n", newline)
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


REVISION = revision_text("a1", ("b0", "c0"), depends_on="x").encode()


@settings(deadline=None, max_examples=300)
@given(damaged(REVISION))
def test_whatever_a_file_holds_is_read_or_refused(content: bytes) -> None:
    """A file that was damaged is a revision, or left to Alembic, or refused by name."""
    with contextlib.suppress(source_module.OnlyAlembicKnowsError, BrokenHistoryError):
        assert source_module.read_revision("/project/a1.py", content).path == "/project/a1.py"


@pytest.mark.parametrize("nested", ["not " * 20_000 + "1", "+".join("a" * 20_000), "-" * 20_000 + "1", "(" * 20_000])
def test_a_file_that_is_nested_too_deeply(nested: str) -> None:
    """What Python itself gives up on is refused by name."""
    text = f'"""x"""\nrevision = "a1"\ndown_revision = None\nx = {nested}\nrevision = str("a1")\n'
    with pytest.raises(BrokenHistoryError, match=r"too deeply|too many nested"):
        source_module.read_revision("/project/a1.py", text.encode())


def test_an_id_may_come_from_the_file_name(tmp_path: Path) -> None:
    """Alembic 0.1 took the id from the file's name, and still does."""
    path = write(tmp_path, "ae1027a6acf.py", "down_revision = None\n")
    graph = read_graph(project(tmp_path))
    assert graph is not None
    assert list(graph.revisions) == ["ae1027a6acf"] == [as_alembic_reads(path)["id"]]
