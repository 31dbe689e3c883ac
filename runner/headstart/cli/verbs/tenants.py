"""`headstart tenants up|status|list`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_json, print_lines
from headstart.commands.tenants.work import Tenant, find, work
from headstart.errors import PendingError, TenantsFailedError
from headstart.errors.exits import Exit
from headstart.log.logger import clean
from headstart.log.printable import counted, first_and_last
from headstart.steps.outcome import fields_of
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument(
        "action",
        metavar="up|status|list",
        choices=("up", "status", "list"),
        help="bring each tenant to the target; show the revision of each; or print the names",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--exit-code", action="store_true", help="for status: exit with 3 when revisions are pending")


def needs_database(_asked: CommandLine) -> bool:
    """A list of tenants may name URLs alone."""
    return False


async def job(run: Run, asked: CommandLine) -> None:
    """Do it, and print a line for each tenant.

    Raises:
        TenantsFailedError: some are not at the target; the exit code is that of the first of them in the list.
    """
    own = asked.own
    if own.action == "list":
        found = await find(run)
        if own.json:
            print_json(
                clean(
                    {"tenants": [{"tenant": each.name, "database": each.dsn.display()} for each in found]}, run.redact
                )
            )
        else:
            print_lines(each.name for each in found)
        return
    made: list[Tenant] = []
    try:
        await work(run, own.action, made)
    except BaseException:
        if any(tenant.outcome is not None for tenant in made):
            _print(run, own, made)
        raise
    _print(run, own, made)
    _judge(run, own, made)


def _judge(run: Run, own: Any, made: Sequence[Tenant]) -> None:  # noqa: ANN401  (an argparse namespace)
    failed = [
        (tenant.target.name, tenant.outcome) for tenant in made if tenant.outcome is not None and not tenant.outcome.ok
    ]
    if not failed:
        if own.action == "status" and own.exit_code and run.record.counts["pending"]:
            where = f"{run.record.counts['pending']} of {counted(len(made), 'tenant')}"
            raise PendingError(f"revisions are pending in {where}", hint="run `headstart tenants up`")
        return
    named = first_and_last([f"{name} ({int(outcome.exit)})" for name, outcome in failed])
    first = failed[0][1]
    raise TenantsFailedError(
        f"{len(failed)} of {len(made)} tenants failed: {named}; the first: {first.error}",
        exit=first.exit,
        hint=first.hint or first.exit.advice,
    )


def _counts(made: Sequence[Tenant]) -> dict[str, int]:
    done = [tenant.outcome for tenant in made if tenant.outcome is not None]
    return {
        "tenants": len(made),
        "at_target": sum(each.ok and not each.pending for each in done),
        "changed": sum(bool(each.applied) for each in done),
        "pending": sum(each.ok and bool(each.pending) for each in done),
        "failed": sum(not each.ok for each in done),
        "not_begun": len(made) - len(done),
    }


def _print(run: Run, own: Any, made: Sequence[Tenant]) -> None:  # noqa: ANN401  (an argparse namespace)
    run.record.counts = _counts(made)
    rows = [_row(tenant) for tenant in made]
    if own.json:
        print_json(clean({"tenants": rows, "counts": run.record.counts}, run.redact))
        return
    table: list[tuple[str, ...]] = [("TENANT", "OUTCOME", "REVISION", "APPLIED", "PENDING", "SECONDS", "ERROR")]
    for row in rows:
        revision = row["revision_after"]
        error = f"{row['exit_code']}: {row['error']}" if row["error"] else ""
        text = (
            row["tenant"],
            row["outcome"],
            ",".join(revision) if isinstance(revision, list) else revision or "",
            str(len(row["applied"])),
            str(len(row["pending"])),
            f"{row['seconds']:.2f}",
            error,
        )
        table.append(tuple(" ".join(cell.split()) for cell in text))
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
    print_lines(run.redact(line.rstrip()) for line in padded)


def _row(tenant: Tenant) -> dict[str, Any]:
    outcome = tenant.outcome
    row: dict[str, Any] = {"tenant": tenant.target.name, "outcome": "not_begun", "exit_code": None}
    row |= {"revision_before": None, "revision_after": None, "applied": [], "pending": [], "failed": None}
    row |= {"backup": None, "seconds": 0.0, "error": None, "hint": None}
    if outcome is not None:
        pending = outcome.ok and outcome.pending
        row |= fields_of(outcome)
        row["outcome"] = Exit.PENDING.outcome if pending else outcome.exit.outcome
        row |= {"pending": list(outcome.pending), "failed": outcome.failed, "error": outcome.error}
        row |= {"hint": outcome.hint, "seconds": outcome.seconds.get("total", 0.0)}
    return row
