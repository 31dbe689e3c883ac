"""The catalogue of risky SQL, and the judgement of what a project's revisions executed. Pure: no I/O, no server."""

from __future__ import annotations

from headstart.sql.rules.allow import Allowance, allowed
from headstart.sql.rules.catalogue import RULES, as_markdown
from headstart.sql.rules.judge import judge, problems_of
from headstart.sql.rules.model import Executed, Finding, Rule, Severity

__all__ = [
    "RULES",
    "Allowance",
    "Executed",
    "Finding",
    "Rule",
    "Severity",
    "allowed",
    "as_markdown",
    "judge",
    "problems_of",
]
