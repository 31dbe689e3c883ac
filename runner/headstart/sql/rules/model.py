"""What a rule is, what it finds, and the tables that the examples use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import msgspec

from headstart.sql.rules.acts import Act
from headstart.sql.rules.seen import Seen

Severity = Literal["refuse", "warn"]

SHOP = """\
CREATE TABLE accounts (id bigint PRIMARY KEY, name varchar(50));
CREATE TABLE orders (id bigint NOT NULL, account_id bigint, state text, total numeric(10,2), placed_at timestamptz);
INSERT INTO accounts VALUES (1, 'first');
INSERT INTO orders VALUES (1, 1, 'new', 9.5, now()), (2, 1, 'paid', 3, now());
"""
"""The tables, with rows in them, that every example finds."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of risky SQL.

    An example is what a revision executes. A line `-- next revision` in it begins the following revision, a line
    `-- autocommit` what stands in an `autocommit_block()`.

    Args:
        id: what it is allowed and switched off by.
        condition: when it applies.
        effect: what happens then: which lock, for how long; what breaks.
        remedy: what to write instead.
        finds: what an act does of this kind, in words, or None; knowing what came before it.
        bad: an example that it finds.
        good: the same end, reached without what it finds.
        given: what the examples need beside the `SHOP`.
        fails: the SQLSTATE that the bad example ends with, "" if it runs.
        severity: `refuse`, or `warn` for what is a mistake only in some databases.
    """

    id: str
    condition: str
    effect: str
    remedy: str
    finds: Callable[[Act, Seen], str | None]
    bad: str
    good: str
    given: str = ""
    fails: str = ""
    severity: Severity = "refuse"


class Executed(Protocol):
    """A statement, or several in one text, as a revision executed it on the way up."""

    @property
    def revision(self) -> str:
        """The revision's id."""

    @property
    def text(self) -> str:
        """The SQL."""

    @property
    def path(self) -> str:
        """The revision's file."""

    @property
    def line(self) -> int | None:
        """The line of that file which executed it, if known."""

    @property
    def in_transaction(self) -> bool:
        """False within an `autocommit_block()`."""


class Finding(NamedTuple):
    """Something that a rule found, or a comment that allows nothing.

    Args:
        rule: the rule's id, or one of those that begin with `allow-`.
        revision: the revision's id, "" if the file executed nothing.
        path: the revision's file.
        line: the line in it, if known.
        statement: the SQL, "" for a comment.
        message: what was found, in one line.
        remedy: what to do, in one line or more.
        severity: `refuse` or `warn`.
    """

    rule: str
    revision: str
    path: str
    line: int | None
    statement: str
    message: str
    remedy: str
    severity: Severity = "refuse"
