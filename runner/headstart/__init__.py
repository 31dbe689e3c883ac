"""Headstart brings Postgres to `head` before the app starts.

From a program:

    settings = headstart.settings_from(os.environ)
    outcome = await headstart.up(settings)
    if not outcome.ok:
        sys.exit(outcome.exit)
    revisions = await headstart.current(settings)

And in a service whose migration runs elsewhere:

    outcome = await headstart.wait_for_head(settings)
    engine = headstart.engine_from(os.environ)
    sessions = headstart.session_factory(engine)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.settings.version import __version__

if TYPE_CHECKING:
    from headstart.commands.program import (
        current,
        downgrade,
        up,
        wait_for_head,
    )
    from headstart.errors import ConfigurationError, HeadstartError
    from headstart.errors.exits import Exit
    from headstart.postgres.engine import engine_from, session_factory
    from headstart.settings.machine import settings_from
    from headstart.settings.settings import Settings
    from headstart.steps.outcome import Outcome

_FROM = {
    "ConfigurationError": "errors",
    "Exit": "errors.exits",
    "HeadstartError": "errors",
    "up": "commands.program",
    "current": "commands.program",
    "downgrade": "commands.program",
    "wait_for_head": "commands.program",
    "settings_from": "settings.machine",
    "engine_from": "postgres.engine",
    "session_factory": "postgres.engine",
    "Outcome": "steps.outcome",
    "Settings": "settings.settings",
}

__all__ = [
    "ConfigurationError",
    "Exit",
    "HeadstartError",
    "Outcome",
    "Settings",
    "__version__",
    "current",
    "downgrade",
    "engine_from",
    "session_factory",
    "settings_from",
    "up",
    "wait_for_head",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    """`import headstart` costs nothing: its names come when they are used (PEP 562)."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"headstart.{_FROM[name]}"), name)
