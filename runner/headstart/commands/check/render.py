"""A report for people, for programs, and for GitHub's annotations (GitHub Docs, 'Workflow commands')."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headstart.commands.check.finding import Finding, Report


def as_text(report: Report, *, cwd: str) -> str:
    """For people: by check, then one line to sum up."""
    lines: list[str] = []
    for check in report.checks:
        found = [each for each in report.findings if each.check == check]
        accepted = sum(each.check == check for each in report.accepted)
        state = ", ".join(_counts(found)) or report.absent.get(check, "ok")
        if check in report.not_run:
            state = f"{state}, then not run" if found else "not run"
            state += f": {report.not_run[check]}"
        lines.append(f"{check:<13} {state}" + (f" ({accepted} accepted)" if accepted else ""))
        for each in found:
            mark = "warning: " if each.severity == "warn" else ""
            lines += [f"  {_place(each, cwd)}{mark}{each.message}", f"    -> {each.remedy}"]
    lines += [f"baseline      nothing matches any more: {key}" for key in report.stale]
    return "\n".join([*lines, summary(report)]) + "\n"


def as_data(report: Report, *, cwd: str) -> dict[str, Any]:
    """For programs: one object."""
    return {
        "ok": not report.refused,
        **{name: value for name, value in msgspec.to_builtins(report).items() if name != "released"},
        "findings": [_data(each, cwd) for each in report.findings],
        "accepted": [_data(each, cwd) for each in report.accepted],
    }


def as_annotations(report: Report, *, cwd: str) -> str:
    """For GitHub: a line for each finding, which shows beside the line of the file."""
    top = str(_repository(Path(cwd)))
    lines = []
    for each in report.findings:
        properties = {"title": f"headstart check: {each.check}"}
        if each.path is not None:
            properties = {"file": _relative(each.path, top), "line": str(each.line or 1)} | properties
        level = "error" if each.severity == "refuse" else "warning"
        lines.append(_command(level, properties, f"{each.message}\n{each.remedy}"))
    notices = [(check, f"not run: {why}") for check, why in report.not_run.items()]
    notices += [("baseline", f"nothing matches any more: {key}") for key in report.stale]
    lines += [_command("notice", {"title": f"headstart check: {what}"}, text) for what, text in notices]
    return "\n".join([*lines, summary(report)]) + "\n"


def summary(report: Report) -> str:
    """The numbers of findings, in one line."""
    warned = len(report.findings) - len(report.refused)
    parts = [f"{_many(len(report.refused), 'finding')} in {_many(report.revisions, 'revision')}"]
    parts += [_many(warned, "warning")] if warned else []
    parts += [f"{len(report.accepted)} accepted"] if report.accepted else []
    parts += [f"{_many(len(report.not_run), 'check')} not run"] if report.not_run else []
    return f"{', '.join(parts)} ({report.seconds:.1f} s)"


def _counts(found: Sequence[Finding]) -> list[str]:
    """How many are refused, and how many are warnings; nothing of which there is none."""
    refused = sum(each.severity == "refuse" for each in found)
    counts = {"finding": refused, "warning": len(found) - refused}
    return [_many(count, noun) for noun, count in counts.items() if count]


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    """A workflow command: what would end a property or the message is written as GitHub reads it."""
    written = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name} {written}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _repository(folder: Path) -> Path:
    """The folder that GitHub's paths are relative to: the repository's, or the given one."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)


def _data(one: Finding, cwd: str) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "path": None if one.path is None else _relative(one.path, cwd)}


def _place(one: Finding, cwd: str) -> str:
    if one.path is None:
        return ""
    return _relative(one.path, cwd) + (f":{one.line}: " if one.line is not None else ": ")


def _relative(path: str, folder: str) -> str:
    """A path relative to a folder, if it is inside."""
    for one, other in ((Path(path), Path(folder)), (Path(path).resolve(), Path(folder).resolve())):
        if one.is_relative_to(other):
            return str(one.relative_to(other))
    return path


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
