"""The examples of the catalogue of risky SQL, taken apart into what the revisions execute."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headstart.sql.rules.model import SHOP
from headstart.sql.script import split

if TYPE_CHECKING:
    from headstart.sql.rules import Rule


class Step(NamedTuple):
    """A statement of an example, as a replay would report it."""

    revision: str
    text: str
    in_transaction: bool = True
    path: str = "versions/example.py"
    line: int | None = 7


def shop_steps() -> list[Step]:
    """What makes the tables that all examples speak of, in the revision "0"."""
    return [Step("0", one.text, path="versions/shop.py") for one in split(SHOP)]


def given_steps(rule: Rule) -> list[Step]:
    """What makes the rest of what a rule's examples need, in the revision "0" as well."""
    return [Step("0", one.text, in_transaction=False, path="versions/given.py") for one in split(rule.given)]


def steps(example: str) -> list[Step]:
    """What the revisions of an example execute; they are called "1", "2" and so on."""
    found: list[Step] = []
    for number, revision in enumerate(example.split("-- next revision\n"), 1):
        before, _, after = revision.partition("-- autocommit\n")
        for text, in_transaction in ((before, True), (after, False)):
            found += [Step(str(number), one.text, in_transaction=in_transaction) for one in split(text)]
    return found
