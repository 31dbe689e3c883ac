"""Settings as this process finds them: what the machine adds to the variables, which is files, cores and the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from headstart.settings.settings import Settings, load


def settings_from(
    environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None, *, require_database: bool = True
) -> Settings:
    """Read `Settings` from variables as the command line does.

    Args:
        environ: `os.environ`, or another mapping like it.
        flags: values that go before it, by the variables' names.
        require_database: False for what can do without one.

    Raises:
        ConfigurationError: with every problem at once.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return load(
        environ,
        flags,
        read_file=lambda path: Path(path).read_text(encoding="utf-8"),
        in_image=environ.get("container") == "headstart",
        cores=cores,
        default_user=environ.get("USER") or _login(),
        require_database=require_database,
    )


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's arbitrary uid
        return str(os.getuid())
