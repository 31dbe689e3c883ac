"""How two schemas differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from headstart.postgres.catalog.schema import Catalog

_LONGEST = 100
_RELATIONS = ("table ", "foreign table ", "view ", "materialized view ", "domain ")
_PARTS = {"column", "columns", "constraint", "trigger", "rule", "policy"}


class Difference(NamedTuple):
    """One thing that two catalogs define otherwise; None where there is none of that name."""

    what: str
    left: str | None
    right: str | None

    def sentence(self, left_name: str, right_name: str) -> str:
        """One line for a person.

        Args:
            left_name: what the left catalog is of, e.g. "the revisions".
            right_name: what the right one is of, e.g. "the database".
        """
        if self.right is None:
            return f"{self.what}: only in {left_name}"
        if self.left is None:
            return f"{self.what}: only in {right_name}"
        left, right = _first_difference(self.left, self.right)
        return f"{self.what}: {left} in {left_name}, {right} in {right_name}"


def differences(left: Catalog, right: Catalog) -> list[Difference]:
    """What is not the same in both, sorted by name. The columns and such of a missing table are left out."""
    found = [
        Difference(what, left.get(what), right.get(what))
        for what in sorted(left.keys() | right.keys())
        if left.get(what) != right.get(what)
    ]
    missing = {
        each.what.removeprefix(word)
        for each in found
        if each.left is None or each.right is None
        for word in _RELATIONS
        if each.what.startswith(word)
    }
    return [each for each in found if not _belongs_to_missing(each, missing)]


def _belongs_to_missing(one: Difference, missing: Collection[str]) -> bool:
    word, _, name = one.what.partition(" ")
    owner = name if word == "columns" else name.rpartition(".")[0]
    return word in _PARTS and (one.left is None or one.right is None) and owner in missing


def _first_difference(left: str, right: str) -> tuple[str, str]:
    """Of two definitions the first line that differs, on one line each and not too long."""
    lines = zip(left.splitlines(), right.splitlines(), strict=False)
    pair = next(((one, other) for one, other in lines if one.strip() != other.strip()), (left, right))
    start = 0
    one, other = (" ".join(each.split()) for each in pair)
    if max(len(one), len(other)) > _LONGEST:
        same = next(
            (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
        start = max(one.rfind(" ", 0, max(same - 20, 0)) + 1, 0)
    return _short(one, start), _short(other, start)


def _short(text: str, start: int) -> str:
    piece = text[start : start + _LONGEST]
    return f"`{'... ' if start else ''}{piece}{' ...' if start + _LONGEST < len(text) else ''}`"
