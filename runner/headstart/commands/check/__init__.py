"""What CI should refuse, found without touching any database that matters.

whole     the checks in their order, on one scratch server
finding   what a check has found, and the report
walk      every revision up, down and up again
compared  the models, the schema file and a given database against the revisions
sources   what the files themselves say: edits since a git base, SQL that is read from elsewhere
git       what the files were like in that base
accepted  findings that a project has decided to live with
shown     text, JSON, GitHub's annotations
"""

from __future__ import annotations

from headstart.commands.check.finding import CHECKS, Finding, Options, Report
from headstart.commands.check.whole import check

__all__ = ["CHECKS", "Finding", "Options", "Report", "check"]
