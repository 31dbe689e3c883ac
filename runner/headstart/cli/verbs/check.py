"""`headstart check`."""

from __future__ import annotations

import argparse
from typing import Any

from headstart.cli.arguments import CommandLine
from headstart.cli.output import print_json, print_lines, write
from headstart.commands.check.finding import Options
from headstart.errors import UsageError, VerificationFailedError
from headstart.steps.run import Run


def add(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own options."""
    parser.add_argument("--only", metavar="A,B", help="run these checks alone")
    parser.add_argument("--skip", metavar="A,B", help="run all checks but these")
    parser.add_argument(
        "--since",
        metavar="REF",
        help="a git branch, tag or commit: the revisions in it must not change, others are new",
    )
    parser.add_argument(
        "--database", action="store_true", help="compare the database of DATABASE_URL with the revision it records, too"
    )
    parser.add_argument(
        "--format", choices=("text", "json", "github"), default="text", help="of what is printed [default text]"
    )
    parser.add_argument(
        "--baseline", metavar="FILE", help="findings to accept [default headstart-baseline.json beside alembic.ini]"
    )
    parser.add_argument("--write-baseline", action="store_true", help="accept all that is found, and write it there")
    parser.add_argument("--rules", action="store_true", help="print the catalogue of risky SQL, and check nothing")


def needs_database(asked: CommandLine) -> bool:
    """Whether the verb cannot do without DATABASE_URL."""
    own = asked.own
    return not own.rules and (own.database or "drift" in _split(own.only))


async def job(run: Run, asked: CommandLine) -> None:
    """Check, print what was found, and refuse it.

    Raises:
        UsageError: there is no such check (2).
        VerificationFailedError: something was found (80).
    """
    own = asked.own
    if own.rules:
        from headstart.sql.rules import as_markdown

        write(as_markdown())
        return
    from headstart.commands.check import render
    from headstart.commands.check.checks import check

    options = _options(own)
    report = await check(run, options)
    if own.format == "json":
        print_json(render.as_data(report, cwd=run.cwd))
    else:
        show = render.as_annotations if own.format == "github" else render.as_text
        print_lines(show(report, cwd=run.cwd).splitlines())
    if report.refused:
        raise VerificationFailedError(
            f"`check` found something: {render.summary(report)}",
            hint="do what stands beside each finding on stdout, then run `headstart check` again; `headstart check"
            " --write-baseline` accepts what an old project has to live with",
            findings=[each.key for each in report.refused],
        )


def _options(own: Any) -> Options:  # noqa: ANN401  (an argparse namespace)
    from headstart.commands.check.finding import CHECKS, Options

    only, skip = _split(own.only), _split(own.skip)
    unknown = [each for each in (*only, *skip) if each not in CHECKS]
    if unknown:
        raise UsageError(f"there is no check {', '.join(unknown)}", hint=f"there are {', '.join(CHECKS)}")
    if "edited" in only and own.since is None:
        raise UsageError("the check `edited` needs a git base", hint="name it: --since origin/main")
    chosen = only or [each for each in CHECKS if each != "drift"]
    wanted = {*chosen, *(["drift"] if own.database else [])} - set(skip)
    if not only and own.since is None:
        wanted.discard("edited")
    return Options(
        checks=tuple(each for each in CHECKS if each in wanted),
        since=own.since,
        baseline=own.baseline,
        write_baseline=own.write_baseline,
    )


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
