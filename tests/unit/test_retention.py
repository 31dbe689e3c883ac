"""What retention keeps and deletes, for any history of backups."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headstart.backup.manifest import Backup, Manifest, Proof
from headstart.backup.retention import decide

REVISIONS = st.sampled_from([(), ("a",), ("b",), ("a", "b")])


@st.composite
def histories(draw: st.DrawFn) -> list[Backup]:
    """Any number of backups in any state, taken by a clock that may jump."""
    size = draw(st.integers(0, 25))
    return [
        made(
            f"backup-{number}",
            number,
            draw(REVISIONS),
            draw(REVISIONS),
            started=f"{draw(st.integers(1970, 2030))}-01-01T00:00:00.000Z",
            pinned=draw(st.booleans()),
            good=draw(st.booleans()),
        )
        for number in range(size)
    ]


def made(
    name: str,
    sequence: int,
    before: tuple[str, ...],
    intended: tuple[str, ...],
    *,
    started: str = "2026-01-01T00:00:00.000Z",
    pinned: bool = False,
    good: bool = True,
) -> Backup:
    """One backup, in a folder of that name."""
    manifest = Manifest(
        database="app",
        server_version="16.1",
        client_version="16.1",
        revision_before=before,
        revision_intended=intended,
        started=started,
        seconds=1.0,
        bytes=1,
        database_bytes=1,
        tables=1,
        compression="lz4",
        jobs=1,
        files={},
        proofs=(),
        headstart_version="1",
        run_id="r",
        sequence=sequence,
        pinned=pinned,
        damage=() if good else ("a file has changed",),
    )
    return Backup(path=Path("/backups/app", name), manifest=manifest)


def backup(number: int, *, before: str = "a", intended: str = "b", good: bool = True) -> Backup:
    """One backup; `number` orders it."""
    return made(str(number), number, (before,), (intended,), good=good)


def test_what_was_restored_is_kept_among_attempts_at_one_step() -> None:
    """Of many attempts at one step, that one stays which is proven best."""
    held = [backup(number) for number in range(5)]
    restored = msgspec.structs.replace(held[2].manifest, proofs=(Proof(kind="restored", at="2026-01-01T00:00:00Z"),))
    held[2] = msgspec.structs.replace(held[2], manifest=restored)
    assert decide(held, 7).keep == ("4", "2", "0")


@given(histories(), st.integers(-3, 10))
def test_the_last_good_one_is_never_deleted(held: list[Backup], keep: int) -> None:
    """Whatever the policy, the newest good backup stays."""
    good = [one.name for one in held if one.good]
    assert not good or good[-1] not in decide(held, keep).delete


@given(histories(), st.integers(-3, 10))
def test_pinned_ones_are_never_deleted(held: list[Backup], keep: int) -> None:
    """Whatever the policy, a pinned backup stays, damaged or not."""
    assert not {one.name for one in held if one.manifest.pinned} & set(decide(held, keep).delete)


@given(histories(), st.integers(0, 10), st.data())
def test_the_one_just_taken_stays(held: list[Backup], keep: int, data: st.DataObject) -> None:
    """The backup that goes with the migration at hand stays, even where the order puts it last."""
    if held:
        name = data.draw(st.sampled_from([one.name for one in held]))
        assert name in decide(held, keep, just_taken=name).keep


@given(histories(), st.integers(-3, 10))
def test_each_is_either_kept_or_deleted(held: list[Backup], keep: int) -> None:
    """No backup is forgotten, and none is both kept and deleted."""
    decision = decide(held, keep)
    assert sorted([*decision.keep, *decision.delete]) == sorted(one.name for one in held)


@given(histories(), st.integers(1, 10))
def test_no_more_good_ones_are_kept_than_asked_for(held: list[Backup], keep: int) -> None:
    """Of the good ones that are not pinned at most `keep` stay."""
    kept = set(decide(held, keep).keep)
    assert sum(one.name in kept and one.good and not one.manifest.pinned for one in held) <= keep


@given(histories(), st.integers(1, 10))
def test_deciding_again_deletes_nothing_more(held: list[Backup], keep: int) -> None:
    """What was kept once is kept the next time, if nothing was added."""
    kept = set(decide(held, keep).keep)
    assert not decide([one for one in held if one.name in kept], keep).delete


@given(st.integers(1, 200), st.integers(2, 10), st.integers(0, 9))
def test_a_crash_loop_holds_two_backups(attempts: int, keep: int, older: int) -> None:
    """However often a step is tried, its first and its newest backup stay, and it pushes at most two older ones out."""
    held = [backup(number, before=f"r{number}", intended=f"r{number + 1}") for number in range(older)]
    for attempt in range(older, older + attempts):
        held.append(backup(attempt))
        decision = decide(held, keep, just_taken=str(attempt))
        held = [one for one in held if one.name in decision.keep]
    own = [one.name for one in held if one.manifest.revision_before == ("a",)]
    assert own == list(dict.fromkeys([str(older), str(older + attempts - 1)]))
    assert len(held) - len(own) >= min(older, keep - 2)


def test_backups_for_their_own_sake_are_no_crash_loop() -> None:
    """Nightly backups of a database at head are all kept, up to the number asked for."""
    held = [backup(number, before="a", intended="a") for number in range(10)]
    assert decide(held, 7).keep == ("9", "8", "7", "6", "5", "4", "3")


def test_a_damaged_one_takes_no_place() -> None:
    """A backup in which damage was found does not push a good one out, and goes when enough newer good ones exist."""
    held = [
        backup(0, before="o", intended="p", good=False),
        backup(1, before="x", intended="y"),
        backup(2, before="y", intended="z"),
        backup(3, before="z", intended="a", good=False),
    ]
    decision = decide(held, 2)
    assert decision.keep == ("3", "2", "1")
    assert set(decision.delete) == {"0"}


def test_nought_keeps_one() -> None:
    """To keep none is not possible: the newest stays."""
    assert decide([backup(1), backup(2, before="b")], 0).keep == ("2",)
