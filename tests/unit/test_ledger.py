"""What the ledger's rows mean: newer, parted or unknown; edited, or only written otherwise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.errors import DatabaseAheadError, DatabaseUnknownError
from headstart.ledger import key
from headstart.ledger.fingerprint import fingerprint
from headstart.plan import Entry, Graph, Revision, build_graph, decide

REVISIONS = sorted((Path(__file__).resolve().parents[2] / "migrations" / "versions").glob("*.py"))


def entry(*follows: str) -> Entry:
    """A row of the ledger."""
    return Entry(follows=follows, at="2026-01-31T12:00:00+00:00", by="app:v2", host="node", run_id="ab12")


def graph(**revisions: tuple[str, ...]) -> Graph:
    """A history, by what each revision follows."""
    return build_graph([Revision(id=i, down=down, path=f"/{i}.py") for i, down in revisions.items()])


class TestAhead:
    """A recorded revision that the history does not hold."""

    HISTORY = graph(a=(), b=("a",))

    def test_newer(self) -> None:
        """What leads down to the head is newer: all of it is named, the oldest first, and who applied it."""
        with pytest.raises(DatabaseAheadError, match="at d, applied by app:v2 at 2026-01-31") as caught:
            decide(("d",), self.HISTORY, "head", ledger={"d": entry("c"), "c": entry("b")})
        assert caught.value.context["ahead"] == ["c", "d"]
        assert "/b.py" in caught.value.message

    def test_newer_and_allowed(self) -> None:
        """Then there is nothing to do, and what is recorded stays."""
        plan = decide(("d",), self.HISTORY, "head", ledger={"d": entry("c"), "c": entry("b")}, allow_ahead=True)
        assert plan is not None
        assert (plan.pending, plan.after, plan.beyond) == ((), ("d",), True)

    @pytest.mark.parametrize("allow", [False, True])
    @pytest.mark.parametrize(
        ("ledger", "why"),
        [
            pytest.param({}, "does not hold", id="no ledger"),
            pytest.param({"d": entry("c")}, "does not hold", id="a gap"),
            pytest.param({"d": entry("a")}, "they part after a", id="parted"),
            pytest.param({"d": entry()}, "they part after the base", id="from another base"),
            pytest.param({"d": entry("d")}, "they part after the base", id="a circle"),
        ],
    )
    def test_not_newer(self, ledger: dict[str, Entry], why: str, allow: bool) -> None:
        """What does not lead down to every head is unknown, whatever is allowed."""
        with pytest.raises(DatabaseUnknownError, match=why):
            decide(("d",), self.HISTORY, "head", ledger=ledger, allow_ahead=allow)

    def test_every_head_has_to_be_below(self) -> None:
        """Of two branches one newer revision is not enough, unless the other branch is recorded too."""
        history, ledger = graph(a=(), b=("a",), x=("a",)), {"c": entry("b")}
        with pytest.raises(DatabaseUnknownError, match="they part after"):
            decide(("c",), history, "heads", ledger=ledger)
        with pytest.raises(DatabaseAheadError):
            decide(("c", "x"), history, "heads", ledger=ledger)


class TestFingerprint:
    """What counts as an edit."""

    @pytest.mark.parametrize("path", REVISIONS, ids=lambda path: path.stem)
    def test_python_writes_it_anew(self, path: Path) -> None:
        """A real revision without its comments, line breaks and quotes, as Python's own printer has it, is the same."""
        source = path.read_bytes()
        assert fingerprint(ast.unparse(ast.parse(source)).encode()) == fingerprint(source)

    @pytest.mark.parametrize("path", REVISIONS, ids=lambda path: path.stem)
    def test_every_string_counts(self, path: Path) -> None:
        """Any other literal than a docstring makes a difference."""
        tree = ast.parse(path.read_bytes())
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
        documentation = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
        before = fingerprint(ast.unparse(tree).encode())
        changed = 0
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                text, node.value = node.value, f"{node.value}x"
                assert fingerprint(ast.unparse(tree).encode()) != before
                node.value, changed = text, changed + 1
        assert changed > 1

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_any_text_has_one(self, text: str) -> None:
        """What is no Python has a fingerprint too, and the same text the same one."""
        assert fingerprint(text.encode()) == fingerprint(text.encode())

    @given(st.integers(), st.integers())
    def test_numbers_count(self, one: int, other: int) -> None:
        """Two files that differ in a number differ."""
        same = fingerprint(f"x = {one}".encode()) == fingerprint(f"x  =  {other}  # y".encode())
        assert same == (one == other)


def test_two_projects_in_one_database_are_kept_apart() -> None:
    """A project is named by its version table, with the schema where it has one."""
    assert key("alembic_version", None) != key("alembic_version", "app") != key("other", "app")
