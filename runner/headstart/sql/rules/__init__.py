"""The catalogue of risky SQL, and the judgement of what a project's revisions executed. Pure: no I/O, no server.

`judge` takes executed statements and gives findings. `recognise` finds out what a statement does, with `alter`,
`columns` and `acts`; `seen` knows what came before it; `allow` reads the comments that allow a rule. `catalogue` lists
the rules of `breaking`, `constraints`, `indexes`, `rewrites`, `transactions` and `types`; `model` has their form.

Begin with `judge`.
"""

from headstart.sql.rules.allow import Allowance, allowed
from headstart.sql.rules.catalogue import RULES, as_markdown, section
from headstart.sql.rules.judge import judge, problems_of
from headstart.sql.rules.model import Finding, Rule

__all__ = [
    "RULES",
    "Allowance",
    "Finding",
    "Rule",
    "allowed",
    "as_markdown",
    "judge",
    "problems_of",
    "section",
]
