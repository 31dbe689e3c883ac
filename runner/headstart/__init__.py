"""Headstart brings Postgres to `head` before the app starts.

From a program:

    settings = headstart.settings_from(os.environ)
    outcome = await headstart.up(settings)
    if not outcome.ok:
        sys.exit(outcome.exit)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headstart.program import downgrade, settings_from, up
    from headstart.run import Outcome
    from headstart.settings import Settings

_FROM = {"up": "program", "downgrade": "program", "settings_from": "program", "Outcome": "run", "Settings": "settings"}

__all__ = ["Outcome", "Settings", "__version__", "downgrade", "settings_from", "up"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562: `import headstart` costs nothing, its names come when used)
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"headstart.{_FROM[name]}"), name)
