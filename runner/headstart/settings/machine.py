"""Settings as this process finds them: what the machine adds to the variables, which is files, cores and the user."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from headstart.settings.files import read_text
from headstart.settings.settings import Settings, load


def settings_from(
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    require_database: bool = True,
    read_file: Callable[[str], str] = read_text,
    redact: Callable[[str], str] | None = None,
) -> Settings:
    """Read `Settings` from variables as the command line does.

    Args:
        environ: `os.environ`, or another mapping like it.
        flags: values that go before it, by the variables' names.
        require_database: False for what can do without one.
        read_file: gives the text of a file that a variable names, or raises OSError.
        redact: takes the passwords of these variables out of a text; None to make it where it is needed.

    Raises:
        ConfigurationError: with every problem at once.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return load(
        environ,
        flags,
        read_file=read_file,
        in_image=environ.get("container") == "headstart",
        cores=cores,
        default_user=environ.get("USER") or _login(),
        require_database=require_database,
        redact=redact,
    )


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's arbitrary uid
        return str(os.getuid())
