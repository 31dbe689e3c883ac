"""Statements, in the order in which they ran, -> what the rules find in them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from headstart.sql.rules.allow import Allowance, allowed
from headstart.sql.rules.catalogue import RULES
from headstart.sql.rules.model import Finding
from headstart.sql.rules.recognise import acts
from headstart.sql.rules.seen import Seen
from headstart.sql.script import ScriptError, Statement, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from headstart.sql.rules.model import Executed


def judge(
    statements: Iterable[Executed],
    sources: Mapping[str, str],
    *,
    off: Collection[str] = (),
    passing_over: Collection[str] = ("alembic_version",),
) -> list[Finding]:
    """What the rules find, revision by revision, without what the revisions allow.

    Give it the whole history, so that it knows the types and constraints of what came before, and keep the findings of
    the files in question.

    Args:
        statements: what the revisions executed on the way up, in that order.
        sources: the text of revision files, by path; it may leave out files, and have some that executed nothing.
        off: ids of rules that are switched off.
        passing_over: names of version tables, with or without schema.
    """
    findings: dict[str, list[Finding]] = {path: [] for path in sources}
    revisions: dict[str, str] = {}
    for finding in _found(statements, off, passing_over, revisions):
        held = findings.setdefault(finding.path, [])
        if finding not in held:
            held.append(finding)
    return [
        finding
        for path, found in findings.items()
        for finding in _without_allowed(found, path, revisions.get(path, ""), sources.get(path, ""), off)
    ]


def problems_of(off: Mapping[str, str]) -> list[str]:
    """What is wrong with a project's list of rules that are switched off: one line for each problem.

    Args:
        off: rule id -> reason.
    """
    unknown = [f"there is no rule {rule}{_nearest(rule)}" for rule in off if rule not in RULES]
    return unknown + [
        f"{rule} is switched off without a reason" for rule in off if rule in RULES and not off[rule].strip()
    ]


def _found(
    statements: Iterable[Executed], off: Collection[str], passing_over: Collection[str], revisions: dict[str, str]
) -> Iterator[Finding]:
    seen = Seen()
    rules = [rule for rule in RULES.values() if rule.id not in off]
    revision = None
    for executed in statements:
        if executed.revision != revision:
            revision = executed.revision
            seen.begin_revision()
        revisions.setdefault(executed.path, executed.revision)
        for statement in _split(executed.text):
            if not (executed.in_transaction and seen.in_transaction):
                seen.begin_transaction()
            seen.in_transaction = executed.in_transaction
            seen.statement = statement.text
            for act in acts(statement, seen.schema):
                if act.kind == "other" and not act.has and not seen.labels:
                    continue
                if act.table is not None and {act.table.name, ".".join(act.table)}.intersection(passing_over):
                    continue
                for rule in rules:
                    if message := rule.finds(act, seen):
                        yield Finding(
                            rule=rule.id,
                            revision=executed.revision,
                            path=executed.path,
                            line=executed.line,
                            statement=statement.text,
                            message=message,
                            remedy=rule.remedy,
                            severity=rule.severity,
                        )
                seen.learn(act)


def _split(text: str) -> list[Statement]:
    try:
        return split(text)
    except ScriptError:  # the run itself has refused it, with the reason
        return []


def _without_allowed(
    found: list[Finding], path: str, revision: str, source: str, off: Collection[str]
) -> Iterator[Finding]:
    allowances = allowed(source)
    effective = {one.rule for one in allowances if one.reason and one.rule in RULES}
    yield from (finding for finding in found if finding.rule not in effective)
    needed = {finding.rule for finding in found} | set(off)
    for one in allowances:
        problem = _problem(one, needed)
        if problem is not None:
            rule, message, remedy = problem
            yield Finding(rule, revision, path, one.line, "", message, remedy)


def _problem(one: Allowance, needed: Collection[str]) -> tuple[str, str, str] | None:
    if not one.rule:
        return "allow-unreadable", "this comment cannot be read", "write `# headstart: allow RULE: reason`"
    if one.rule not in RULES:
        remedy = "correct the id: `headstart check --rules` lists them"
        return "allow-unknown", f"there is no rule {one.rule}{_nearest(one.rule)}", remedy
    if not one.reason:
        message = f"{one.rule} is allowed without a reason"
        return "allow-without-reason", message, f"write `# headstart: allow {one.rule}: reason`"
    if one.rule not in needed:
        return "allow-unused", f"nothing in this revision needs {one.rule} to be allowed", "take the comment out"
    return None


def _nearest(rule: str) -> str:
    near = difflib.get_close_matches(rule.lower(), RULES, n=1)
    return f"; did you mean {near[0]}?" if near else ""
