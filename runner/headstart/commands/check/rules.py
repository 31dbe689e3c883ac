"""The catalogue of risky SQL over what the revisions execute, less what the project has switched off."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.commands.check.finding import Finding
from headstart.errors import ConfigurationError
from headstart.settings.files import read_text
from headstart.sql import rules

if TYPE_CHECKING:
    from headstart.history import Project
    from headstart.steps.run import Run
    from headstart.worker.messages import Executed

_TABLE = "[tool.headstart.check]"
_HINT = 'write for example rules-off = { drop-table = "why" }; `headstart check --rules` lists the rules'


def switched_off(run: Run, project: Project) -> Mapping[str, str]:
    """Which rules the project's pyproject.toml switches off, and why: `rules-off` in `[tool.headstart.check]`.

    Args:
        run: relative paths start in its working directory.
        project: its alembic.ini lies beside the file; else it is in the working directory.

    Raises:
        ConfigurationError: with every problem at once (10).
    """
    beside = project.ini or project.toml
    path = Path(beside).parent / "pyproject.toml" if beside else Path(run.cwd, "pyproject.toml")
    try:
        table: Any = tomllib.loads(read_text(path))
        for name in ("tool", "headstart", "check"):
            table = table.get(name, {})
        off = table.get("rules-off", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", hint=f"correct {_TABLE}") from error
    problems = [f"{path}: {_TABLE} knows no {key}" for key in table if key != "rules-off"]
    if not isinstance(off, dict) or not all(isinstance(why, str) for why in off.values()):
        problems.append(f"{path}: rules-off in {_TABLE} is no table of rule = reason")
    else:
        problems += [f"{path}: {problem}" for problem in rules.problems_of(off)]
    if problems:
        raise ConfigurationError(*problems, hint=_HINT)
    return dict(off)


def apply_rules(
    statements: Sequence[Executed], files: Mapping[str, str], *, off: Collection[str], version_table: str
) -> list[Finding]:
    """What the rules find in some revisions, knowing all that came before them.

    Args:
        statements: of the whole history, on the way up.
        files: paths of the revisions in question, by id; all of them have been run.
        off: ids of rules that are switched off.
        version_table: Alembic's, with its schema if it has one.
    """
    sources = {path: Path(path).read_text(encoding="utf-8", errors="replace") for path in files.values()}
    found = rules.judge(statements, sources, off=off, passing_over=[version_table])
    return [_finding(each) for each in found if each.path in sources]


def _finding(one: rules.Finding) -> Finding:
    digest = hashlib.sha256(" ".join(one.statement.split()).encode()).hexdigest()[:8]
    return Finding(
        check="rules",
        key=f"rules:{one.rule}:{one.revision or Path(one.path).name}:{digest}",
        message=f"{one.rule}: {one.message}",
        remedy=" ".join(one.remedy.split()),
        revision=one.revision or None,
        path=one.path,
        line=one.line,
        severity=one.severity,
    )
