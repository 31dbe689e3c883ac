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

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headstart.engine import engine_from, session_factory  # noqa: TC004
    from headstart.errors import ConfigurationError, HeadstartError  # noqa: TC004
    from headstart.exits import Exit  # noqa: TC004
    from headstart.program import (  # noqa: TC004  (`_Package` imports them when used)
        current,
        downgrade,
        settings_from,
        up,
        wait_for_head,
    )
    from headstart.run import Outcome  # noqa: TC004
    from headstart.settings import Settings  # noqa: TC004

_FROM = {
    "ConfigurationError": "errors",
    "Exit": "exits",
    "HeadstartError": "errors",
    "up": "program",
    "current": "program",
    "downgrade": "program",
    "wait_for_head": "program",
    "settings_from": "program",
    "engine_from": "engine",
    "session_factory": "engine",
    "Outcome": "run",
    "Settings": "settings",
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


class _Package(ModuleType):
    """`import headstart` costs nothing: its names come when they are used (PEP 562).

    The room `headstart.up` is named after the function in it. Python binds a room's name in its package when it is
    first imported; here the function keeps the name, and `from headstart.up import ...` finds the room all the same.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
        if name not in _FROM:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"headstart.{_FROM[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _FROM:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
