"""`headstart explain 62`: what an exit code, an event of the log, a rule or a setting means. No settings are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headstart.commands.check.finding import CHECKS
from headstart.errors import UsageError
from headstart.errors.exits import Exit
from headstart.log.events import EVENTS, Event
from headstart.log.printable import nearest
from headstart.settings.table import SETTINGS, Setting
from headstart.sql.rules import RULES, Rule, section

USAGE = "headstart explain CODE|OUTCOME|EVENT|CHECK|RULE|SETTING"


def explained(words: Sequence[str]) -> list[str]:
    """The lines that explain one word.

    Raises:
        UsageError: nothing has that name, or it is not one word.
    """
    if list(words) in (["-h"], ["--help"]):
        return [
            f"usage: {USAGE}",
            "",
            "What a number or a name that Headstart has printed means; of an exit code and a rule, also what to do.",
        ]
    if len(words) != 1:
        raise UsageError("`explain` takes one word", hint=USAGE)
    found = [kind[words[0]] for kind in _kinds() if words[0] in kind]
    if not found:
        names = [name for kind in _kinds() for name in kind]
        raise UsageError(
            f"nothing is called {words[0]!r}{nearest(words[0], names)}",
            hint=f"{USAGE}; docs/exit-codes.md, docs/events.md, docs/rules.md and docs/configuration.md list all",
        )
    first, *others = [_lines(words[0], each) for each in found]
    return [*first, *(line for lines in others for line in ("", *lines))]


def _lines(name: str, one: Exit | Event | Rule | Setting | str) -> list[str]:
    """The lines that explain what has a name."""
    match one:
        case Exit() as code:
            return _exit(code)
        case Event() as event:
            advice = ["The line's own `hint` says what to do."] if "hint" in event.fields else []
            fields = f"fields: {' '.join(event.fields)}"
            return [f"{name}: an event of the log", "", f"  {event.plain}", "", fields, *advice]
        case Rule() as rule:
            why = f"to allow it in a revision, say why in a comment of its file:  # headstart: allow {rule.id}: WHY"
            return [f"{rule.id}: a rule of `headstart check`", "", *section(rule).splitlines(), "", why]
        case Setting() as setting:
            flag = f", {setting.flag}" if setting.flag else ""
            file = [f"  {setting.name}_FILE may name a file that holds it"] if setting.file_too else []
            title = f"{setting.name}{flag}: a setting, {setting.default} by default"
            return [title, "", f"  {setting.meaning}", *file]
        case _:
            return [f"{name}: a check of `headstart check`", "", f"  {one}"]


def _kinds() -> Sequence[Mapping[str, Exit | Event | Rule | Setting | str]]:
    """Everything that can be explained, by each name that it has. An event may have the name of an exit code."""
    return (
        {name: code for code in Exit for name in (code.outcome, str(int(code)))},
        EVENTS,
        RULES,
        CHECKS,
        {
            name: setting
            for setting in SETTINGS
            for name in (setting.name, setting.flag, f"{setting.name}_FILE" if setting.file_too else None)
            if name
        },
    )


def story(code: Exit) -> str | None:
    """The heading in docs/stories.md of a run that ended so, as a link has it."""
    if code in {Exit.REHEARSAL_FAILED, Exit.BUG}:
        return None
    shown = Exit.TERMINATED if code in {Exit.HUNG_UP, Exit.INTERRUPTED, Exit.QUIT} else code
    return f"{int(shown)}-{shown.outcome.replace('_', '-')}"


def _exit(code: Exit) -> list[str]:
    shown = story(code)
    return [
        f"exit code {int(code)}: {code.outcome}",
        "",
        f"  the database: {code.database}",
        f"  what to do:   {code.advice}",
        "",
        "`error` and `hint` in the last line of the log say which of it happened, and what to type.",
        *([f"A run that ended so: docs/stories.md#{shown}"] if shown else []),
    ]
