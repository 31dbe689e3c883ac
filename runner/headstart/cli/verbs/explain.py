"""`headstart explain 62`: what an exit code, an event of the log, a rule or a setting means. No settings are read."""

from __future__ import annotations

from collections.abc import Sequence

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
        return [f"usage: {USAGE}", "", "What a number or a name that Headstart has printed means, and what to do next."]
    if len(words) != 1:
        raise UsageError("`explain` takes one word", hint=USAGE)
    known = _known()
    if words[0] not in known:
        raise UsageError(
            f"nothing is called {words[0]!r}{nearest(words[0], known)}",
            hint=f"{USAGE}; docs/exit-codes.md, docs/events.md, docs/rules.md and docs/configuration.md list all",
        )
    match known[words[0]]:
        case Exit() as code:
            return _exit(code)
        case Event() as event:
            return [f"{words[0]}: an event of the log", "", f"  {event.plain}", "", f"fields: {' '.join(event.fields)}"]
        case Rule() as rule:
            why = f"to allow it in a revision, say why in a comment of its file:  # headstart: allow {rule.id}: WHY"
            return [f"{rule.id}: a rule of `headstart check`", "", *section(rule).splitlines(), "", why]
        case str() as text:
            return [f"{words[0]}: a check of `headstart check`", "", f"  {text}"]
        case Setting() as setting:
            flag = f", {setting.flag}" if setting.flag else ""
            return [f"{setting.name}{flag}: a setting, {setting.default} by default", "", f"  {setting.meaning}"]


def _known() -> dict[str, Exit | Event | Rule | Setting | str]:
    """Everything that can be explained, by each name that it has."""
    return {
        **EVENTS,
        **RULES,
        **CHECKS,
        **{setting.name: setting for setting in SETTINGS},
        **{setting.flag: setting for setting in SETTINGS if setting.flag},
        **{name: code for code in Exit for name in (code.outcome, str(int(code)))},
    }


def story(code: Exit) -> str | None:
    """The heading in docs/stories.md of a run that ended so, as a link has it."""
    if code in {Exit.REHEARSAL_FAILED, Exit.BUG}:
        return None
    shown = Exit.TERMINATED if code is Exit.INTERRUPTED else code
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
