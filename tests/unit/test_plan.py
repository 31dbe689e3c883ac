"""`history.plan` and `history.graph` against Alembic's own RevisionMap, on histories drawn at random."""

from __future__ import annotations

import pytest
from alembic.runtime.migration import HeadMaintainer, MigrationContext, MigrationStep
from alembic.script import revision as alembic_revision
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headstart.errors import BrokenHistoryError, ConfigurationError, DatabaseUnknownError
from headstart.history.graph import Graph, Revision, build_graph
from headstart.history.plan import Plan, decide


def rev(
    ident: str, *down: str, depends_on: tuple[str, ...] = (), labels: tuple[str, ...] = (), doc: str = ""
) -> Revision:
    """A revision in a file named after it."""
    return Revision(
        id=ident, down=down, depends_on=depends_on, branch_labels=labels, path=f"/app/versions/{ident}.py", doc=doc
    )


def graph_of(*revisions: Revision) -> Graph:
    """A graph, from revisions in the order of their files."""
    return build_graph(revisions)


def oracle(revisions: list[Revision]) -> alembic_revision.RevisionMap:
    """Alembic's view of the same files."""
    return alembic_revision.RevisionMap(
        lambda: [alembic_revision.Revision(r.id, r.down, r.depends_on or None, r.branch_labels) for r in revisions]
    )


def alembic_pending(history: alembic_revision.RevisionMap, recorded: tuple[str, ...], target: str) -> tuple[str, ...]:
    """What `alembic upgrade TARGET` would apply, in order, as `ScriptDirectory._upgrade_revs` asks for it."""
    steps = history.iterate_revisions(target, recorded, implicit_base=True)
    return tuple(step.revision for step in reversed(list(steps)))


def alembic_records(
    history: alembic_revision.RevisionMap, recorded: tuple[str, ...], pending: tuple[str, ...]
) -> set[str]:
    """What Alembic's version table holds after these steps."""
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": _Sink()})
    maintainer = HeadMaintainer(context, recorded)
    for ident in pending:
        script = history.get_revision(ident)
        assert script is not None
        script.module = _Module  # type: ignore[attr-defined]
        step = MigrationStep.upgrade_from_script(history, script)  # type: ignore[arg-type]
        maintainer.update_to_step(step)
    return set(maintainer.heads)


class _Sink:
    def write(self, text: str) -> None:
        """Drop the SQL."""

    def flush(self) -> None:
        """Nothing is kept."""


class _Module:
    upgrade = downgrade = None


@st.composite
def histories(draw: st.DrawFn, *, depends: bool = False, labels: bool = False) -> list[Revision]:
    """Sound histories: linear runs, branches, merges, several bases and heads; files in any order."""
    size = draw(st.integers(0, 14))
    # Long straight runs are as likely as thickets.
    bushiness = draw(st.integers(0, 3))
    idents = draw(st.lists(st.text("abcdef0123", min_size=3, max_size=6), min_size=size, max_size=size, unique=True))
    made: list[Revision] = []
    for number, ident in enumerate(idents):
        earlier = idents[:number]
        if not earlier:
            down: list[str] = []
        elif draw(st.integers(0, 3)) >= bushiness:
            down = [earlier[-1]]
        else:
            down = draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True))
        other = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if depends and earlier else []
        own = [f"label{number}"] if labels and draw(st.booleans()) else []
        made.append(rev(ident, *down, depends_on=tuple(other), labels=tuple(own)))
    return draw(st.permutations(made))


@st.composite
def situations(
    draw: st.DrawFn, *, depends: bool = False, labels: bool = False
) -> tuple[list[Revision], tuple[str, ...], str]:
    """A history, what an upgrade may have recorded of it, and a target."""
    revisions = draw(histories(depends=depends, labels=labels))
    graph = build_graph(revisions)
    idents = [r.id for r in revisions]
    chosen = draw(st.lists(st.sampled_from(idents), max_size=3, unique=True)) if idents else []
    if draw(st.booleans()):
        below = {i for ident in chosen for i in lineage(graph, ident) - {ident}}
        chosen = [i for i in chosen if i not in below]
    known = [
        st.sampled_from(["head", "heads", "base", "+1", "+2", "+3", "+40", "+0", "-1", "zzzz", "", "head@head", "lab"])
    ]
    if idents:
        known += [
            st.sampled_from(idents),
            st.tuples(st.sampled_from(idents), st.integers(1, 6)).map(lambda pair: pair[0][: pair[1]]),
            st.sampled_from(idents).map(lambda i: f"{i}+1"),
        ]
    if labels:
        known += [st.integers(0, len(idents)).map(lambda n: f"label{n}")]
    return revisions, tuple(chosen), draw(st.one_of(known))


def lineage(graph: Graph, ident: str) -> set[str]:
    """A revision and all before it, the slow and obvious way."""
    return {ident}.union(*(lineage(graph, parent) for parent in graph.parents[ident]))


@settings(deadline=None)
@given(histories(depends=True, labels=True))
def test_heads_and_bases_are_alembics(revisions: list[Revision]) -> None:
    """The graph has Alembic's heads and bases, in Alembic's order."""
    graph, history = build_graph(revisions), oracle(revisions)
    assert graph.heads == history.heads
    assert graph.bases == history.bases
    assert list(graph.revisions) == [r.id for r in revisions]


def compare(revisions: list[Revision], recorded: tuple[str, ...], target: str) -> Plan | None:
    """Decide, and hold the answer against Alembic's."""
    history = oracle(revisions)
    try:
        expected: tuple[str, ...] | None = alembic_pending(history, recorded, target)
    except (alembic_revision.RevisionError, AssertionError, AttributeError):
        expected = None  # it refuses, one way or another
    try:
        plan = decide(recorded, build_graph(revisions), target)
    except (BrokenHistoryError, ConfigurationError, DatabaseUnknownError):
        assert expected is None
        return None
    if plan is None:
        return None
    assert expected is not None
    assert plan.pending == expected
    assert plan.before == recorded
    assert plan.target == target
    assert set(plan.after) == alembic_records(history, recorded, expected)
    assert plan.nothing_pending == (not expected)
    return plan


@settings(deadline=None)
@given(situations())
def test_a_plan_is_alembics_plan(situation: tuple[list[Revision], tuple[str, ...], str]) -> None:
    """Where there is a plan, it has Alembic's revisions in Alembic's order, and ends at what Alembic records."""
    compare(*situation)


@settings(deadline=None)
@given(situations(depends=True, labels=True))
def test_a_plan_is_alembics_plan_with_dependencies_and_labels(
    situation: tuple[list[Revision], tuple[str, ...], str],
) -> None:
    """With depends_on and branch labels a plan is Alembic's too, or there is none."""
    compare(*situation)


@settings(deadline=None)
@given(st.integers(1, 14), st.data())
def test_a_line_of_revisions_never_needs_alembic(size: int, data: st.DataObject) -> None:
    """Where one revision follows the other the plan is known: from any of them to any other, and to head."""
    idents = [f"a{number:02}" for number in range(size)]
    revisions = [rev(ident, *idents[max(number - 1, 0) : number]) for number, ident in enumerate(idents)]
    recorded = data.draw(st.sampled_from([(), *((ident,) for ident in idents)]))
    plan = compare(
        data.draw(st.permutations(revisions)), recorded, data.draw(st.sampled_from([*idents, "head", "base"]))
    )
    assert plan is not None


@settings(deadline=None)
@given(situations(depends=True))
def test_a_finished_database_never_needs_alembic(situation: tuple[list[Revision], tuple[str, ...], str]) -> None:
    """Nothing pending is told without Alembic even in a history with depends_on."""
    revisions, _, _ = situation
    history = oracle(revisions)
    done = tuple(history._real_heads)
    plan = decide(done, build_graph(revisions), "heads")
    assert plan == Plan(before=done, target="heads", after=done)


@example(["a", "b"], [("b", "a"), ("a", "b")])
@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdefx")), max_size=9),
)
def test_whatever_alembic_cannot_load_is_refused(idents: list[str], edges: list[tuple[str, str]]) -> None:
    """A history is refused exactly if Alembic cannot load it, or an id is there twice; files are always named."""
    revisions = [rev(i, *dict.fromkeys(parent for child, parent in edges if child == i)) for i in idents]
    sound = len(set(idents)) == len(idents)
    if sound:
        try:
            _ = oracle(revisions).heads
        except (alembic_revision.RevisionError, KeyError, UserWarning):
            sound = False
    if sound:
        assert build_graph(revisions).revisions.keys() == set(idents)
        return
    with pytest.raises(BrokenHistoryError) as caught:
        build_graph(revisions)
    files = caught.value.context["files"]
    assert isinstance(files, list)
    assert files
    assert all(path in caught.value.message for path in files)


def test_an_empty_history_has_nothing_pending() -> None:
    """No revision files and nothing recorded is a finished database."""
    assert decide((), graph_of(), "head") == Plan(before=(), target="head", after=())


def test_two_heads_are_refused_with_both_files_and_their_parent() -> None:
    """Two heads: both files, their common parent, and the command that joins them."""
    graph = graph_of(rev("aaaa"), rev("bbbb", "aaaa"), rev("cccc", "bbbb"), rev("dddd", "bbbb"))
    with pytest.raises(BrokenHistoryError) as caught:
        decide(("aaaa",), graph, "head")
    message = caught.value.message
    assert "cccc (/app/versions/cccc.py) and dddd (/app/versions/dddd.py)" in message
    assert "they diverge after bbbb (/app/versions/bbbb.py)" in message
    assert "aaaa.py" not in message
    assert 'headstart merge heads -m "' in caught.value.hint
    assert "HEADSTART_TARGET=heads" in caught.value.hint
    assert caught.value.context["heads"] == ["cccc", "dddd"]
    assert caught.value.context["parents"] == ["bbbb"]


def test_two_unrelated_heads_have_no_common_parent() -> None:
    """Two histories side by side are refused as such."""
    with pytest.raises(BrokenHistoryError, match="no common parent"):
        decide((), graph_of(rev("aaaa"), rev("bbbb")), "head")


def test_two_heads_are_fine_when_heads_are_asked_for() -> None:
    """Target `heads` applies both branches."""
    graph = graph_of(rev("aaaa"), rev("bbbb", "aaaa"), rev("cccc", "aaaa"))
    plan = decide(("bbbb",), graph, "heads")
    assert plan is not None
    assert plan.pending == ("cccc",)
    assert plan.after == ("bbbb", "cccc")


def test_a_merge_follows_the_recorded_heads() -> None:
    """A merge that alone is pending takes the place of both heads; with one of its branches the order is Alembic's."""
    graph = graph_of(rev("aaaa"), rev("bbbb", "aaaa"), rev("cccc", "aaaa"), rev("dddd", "bbbb", "cccc"))
    plan = decide(("bbbb", "cccc"), graph, "head")
    assert plan is not None
    assert (plan.pending, plan.after) == (("dddd",), ("dddd",))
    assert decide(("bbbb",), graph, "head") is None
    assert decide((), graph, "head") is None


def test_a_duplicate_id_names_both_files() -> None:
    """Two files with one id are both named."""
    second = Revision(id="aaaa", path="/app/versions/copy.py")
    with pytest.raises(BrokenHistoryError, match=r"aaaa: /app/versions/aaaa\.py and /app/versions/copy\.py"):
        graph_of(rev("aaaa"), second)


def test_a_missing_parent_is_named_with_the_file_that_asks_for_it() -> None:
    """A parent that no file declares is named, and a near id is suggested."""
    with pytest.raises(BrokenHistoryError, match=r"bbbb \(/app/versions/bbbb\.py\) follows aaa, which") as caught:
        graph_of(rev("aaaa"), rev("bbbb", "aaa"))
    assert "/app/versions/aaaa.py is near" in caught.value.hint
    with pytest.raises(BrokenHistoryError, match="depends on zzzz") as caught:
        graph_of(rev("aaaa", depends_on=("zzzz",)))
    assert caught.value.context["missing"] == "zzzz"


def test_every_member_of_a_cycle_is_named_and_no_other() -> None:
    """A circle is told in order, with its files; what hangs above it is not."""
    with pytest.raises(BrokenHistoryError, match="circle") as caught:
        graph_of(rev("aaaa"), rev("bbbb", "dddd"), rev("cccc", "bbbb"), rev("dddd", "cccc"), rev("eeee", "dddd"))
    assert sorted(caught.value.context["revisions"]) == ["bbbb", "cccc", "dddd"]  # type: ignore[call-overload]
    turns = ("bbbb -> dddd -> cccc -> bbbb", "dddd -> cccc -> bbbb -> dddd", "cccc -> bbbb -> dddd -> cccc")
    assert any(turn in caught.value.message for turn in turns)
    assert "eeee" not in caught.value.message


def test_a_cycle_through_depends_on_is_refused() -> None:
    """depends_on closes a circle as down_revision does."""
    with pytest.raises(BrokenHistoryError, match="circle"):
        graph_of(rev("aaaa", depends_on=("bbbb",)), rev("bbbb", "aaaa"))


def test_a_label_used_twice_is_refused() -> None:
    """A branch label that another revision uses, or that is an id, is refused with both files."""
    with pytest.raises(BrokenHistoryError, match=r"label x of .*bbbb\.py.* already used by .*aaaa\.py"):
        graph_of(rev("aaaa", labels=("x",)), rev("bbbb", "aaaa", labels=("x",)))
    with pytest.raises(BrokenHistoryError, match="label aaaa"):
        graph_of(rev("aaaa"), rev("bbbb", "aaaa", labels=("aaaa",)))


@pytest.mark.parametrize("mark", ["@", "-", "+", ":"])
def test_an_id_with_a_reserved_character_is_refused(mark: str) -> None:
    """Alembic does not load ids that its own syntax cannot name."""
    with pytest.raises(BrokenHistoryError, match=r"1{0}2\.py".replace("{0}", f"\\{mark}")):
        graph_of(rev(f"1{mark}2"))


def test_an_unknown_recorded_revision_is_refused_with_what_is_known() -> None:
    """The recorded revision, the heads with their files and the size of the history are all told."""
    with pytest.raises(DatabaseUnknownError) as caught:
        decide(("ffff",), graph_of(rev("aaaa"), rev("bbbb", "aaaa")), "head")
    assert "ffff" in caught.value.message
    assert "2 revisions, head: bbbb (/app/versions/bbbb.py)" in caught.value.message
    assert caught.value.context == {"recorded": ["ffff"], "unknown": ["ffff"], "heads": ["bbbb"], "revisions": 2}


def test_one_unknown_among_several_recorded_is_told_apart() -> None:
    """Of several recorded revisions only the unknown one is called unknown."""
    with pytest.raises(DatabaseUnknownError, match=r"records ffff \(beside aaaa \(/app/versions/aaaa.py\)\)"):
        decide(("aaaa", "ffff"), graph_of(rev("aaaa")), "head")


def test_an_empty_history_does_not_know_a_recorded_revision() -> None:
    """An image without revisions does not pass for one that is up to date."""
    with pytest.raises(DatabaseUnknownError, match="no revision at all"):
        decide(("aaaa",), graph_of(), "head")


def test_a_target_behind_the_database_is_left_alone() -> None:
    """Up never goes down: a target that is long applied has nothing pending, and the plan says so."""
    graph = graph_of(rev("aaaa"), rev("bbbb", "aaaa"), rev("cccc", "bbbb"))
    assert decide(("cccc",), graph, "aaaa") == Plan(before=("cccc",), target="aaaa", after=("cccc",), beyond=True)
    assert decide(("cccc",), graph, "base") == Plan(before=("cccc",), target="base", after=("cccc",), beyond=True)
    assert decide(("cccc",), graph, "head") == Plan(before=("cccc",), target="head", after=("cccc",), beyond=False)


def test_a_target_is_found_by_its_beginning_or_refused() -> None:
    """An abbreviated id is completed, an ambiguous or unknown one refused with what there is."""
    graph = graph_of(rev("abcd01"), rev("abce02", "abcd01"))
    plan = decide((), graph, "abce")
    assert plan is not None
    assert plan.after == ("abce02",)
    with pytest.raises(ConfigurationError, match=r"'abc' is the beginning of abcd01 .* and abce02 "):
        decide((), graph, "abc")
    with pytest.raises(ConfigurationError, match="'xyz1' is none of this history's 2 revisions"):
        decide((), graph, "xyz1")


@pytest.mark.parametrize("target", ["x@head", "main", "mai", "aaaa+1", "+1", "-1", "aaaa:bbbb", ""])
def test_unusual_targets_are_left_to_alembic(target: str) -> None:
    """Labels and Alembic's other notations are not ours to interpret."""
    assert decide((), graph_of(rev("aaaa", labels=("main",)), rev("bbbb", "aaaa")), target) is None


def test_recorded_revisions_that_contain_each_other_are_left_to_alembic() -> None:
    """No upgrade leaves a revision recorded beside its own ancestor."""
    graph = graph_of(rev("aaaa"), rev("bbbb", "aaaa"), rev("cccc", "bbbb"))
    assert decide(("aaaa", "cccc"), graph, "head") is None
    assert decide(("aaaa", "aaaa"), graph, "head") is None


def test_a_long_history_is_planned_without_recursion() -> None:
    """Five thousand revisions are planned within Python's stack."""
    idents = [f"a{number:04}" for number in range(5000)]
    revisions = [rev(ident, *idents[max(number - 1, 0) : number]) for number, ident in enumerate(idents)]
    plan = decide((), build_graph(revisions), "head")
    assert plan is not None
    assert plan.pending == tuple(idents)
