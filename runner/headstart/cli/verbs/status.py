"""`headstart status`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.arguments import CommandLine
from headstart.cli.output import backup_line, print_json, print_lines
from headstart.commands.status import status
from headstart.errors import PendingError
from headstart.log.printable import counted, first_and_last
from headstart.postgres.indexes import REBUILD
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--exit-code", action="store_true", help="exit with 3 when revisions are pending")


async def job(run: Run, asked: CommandLine) -> None:
    """Print where the database stands.

    Raises:
        PendingError: revisions are pending, and `--exit-code` asks for it (3).
        HeadstartError: `up` would refuse this database (71, 72, 73).
    """
    own = asked.own
    found, refused = await status(run)
    if own.json:
        print_json(found)
    else:
        _print(found)
    if refused is not None:
        raise refused
    if own.exit_code and not found["at_target"]:
        pending = f"{counted(len(found['pending']), 'revision')} pending: {first_and_last(found['pending'])}"
        raise PendingError(pending, hint="run `headstart up`")


def _print(found: dict[str, Any]) -> None:
    revision = found["revision"]
    pending = "pending: not known" if found["pending"] is None else f"{len(found['pending'])} pending"
    at = "beyond" if found["beyond"] else "at"
    lines = [
        f"server    PostgreSQL {found['server']['version']} at {found['server']['address']}",
        f"database  {found['database']}",
        f"revision  {', '.join(revision) if isinstance(revision, list) else revision}"
        + (f" ({at} {found['target']})" if found["at_target"] else f", {pending}"),
        *([f"problem   {found['problem']}"] if found["problem"] else []),
        *(f"pending   {each}" for each in found["pending"] or ()),
        *(f"lock      held by {each['application_name']} (pid {each['pid']})" for each in found["lock_holders"]),
        *(f"invalid   index {each}: {REBUILD.format(index=each)}" for each in found["invalid_indexes"]),
    ]
    if not found["lock_holders"]:
        lines.append("lock      free")
    if last := found["last_run"]:
        by = last["image"] or f"headstart {last['headstart']}"
        lines.append(f"last run  {last['ended']} by {by} on {last['host']}: {', '.join(last['revisions'])}")
    lines += [f"backup    {backup_line(each)}" for each in found["backups"]] or [
        f"backup    {found.get('backups_problem', 'none')}"
    ]
    print_lines(lines)
