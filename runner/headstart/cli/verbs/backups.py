"""`headstart backups list|verify|prune`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.arguments import CommandLine
from headstart.cli.output import backup_line, print_json, print_lines
from headstart.commands.backups import verify_backups
from headstart.errors import UsageError
from headstart.steps.backup import backups as listed
from headstart.steps.backup import shown
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("action", choices=("list", "verify", "prune"), nargs="?", default="list", help="[default list]")
    parser.add_argument("backup", nargs="*", help="for verify: names of backups; all when none is given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--all", action="store_true", help="of every database, not only that of DATABASE_URL")


def needs_database(_asked: CommandLine) -> bool:
    """Without one, they are the backups of every database."""
    return False


async def job(run: Run, asked: CommandLine) -> None:
    """List, verify or prune."""
    own = asked.own
    database = None if own.all or not run.settings.dsn_source else run.settings.dsn.database
    if own.action != "verify" and own.backup:
        raise UsageError(f"`backups {own.action}` takes no names", hint="only `backups verify` does")
    if own.action == "prune":
        await _prune(run, own, database)
        return
    if own.action == "verify":
        found = await verify_backups(run, database, own.backup)
    else:
        found = [shown(each) for each in listed(run, database)]
    if own.json:
        print_json(found)
        return
    print_lines(backup_line(each) + (", intact" if each.get("whole") else "") for each in found)
    if not found:
        run.log.info("no_backups", directory=str(run.settings.backup_dir), database=database)


async def _prune(run: Run, own: Any, database: str | None) -> None:  # noqa: ANN401  (an argparse namespace)
    from headstart.backup.retention import prune

    names = [database] if database is not None else sorted({each.manifest.database for each in listed(run, None)})
    decisions = {name: prune(run.settings.backup_dir, name, run.settings.backup_keep, log=run.log) for name in names}
    if own.json:
        print_json({name: {"keep": list(each.keep), "delete": dict(each.delete)} for name, each in decisions.items()})
        return
    for name, each in decisions.items():
        print_lines(f"{name}: kept {kept}" for kept in each.keep)
        print_lines(f"{name}: deleted {gone} ({reason})" for gone, reason in each.delete.items())
