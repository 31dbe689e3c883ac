"""Settings as this process finds them: what the machine adds to the variables, which is files, cores and the user."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

from headstart.log.secret import Redactor
from headstart.settings.files import read_text
from headstart.settings.settings import Settings, load


def settings_from(
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    require_database: bool = True,
    read_file: Callable[[str], str] = read_text,
) -> Settings:
    """Read `Settings` from variables as the command line does.

    Args:
        environ: `os.environ`, or another mapping like it.
        flags: values that go before it, by the variables' names.
        require_database: False for what can do without one.
        read_file: gives the text of a file that a variable names, or raises OSError.

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
    )


def redactor_from(environ: Mapping[str, str], read_file: Callable[[str], str] = read_text) -> Callable[[str], str]:
    """Make what takes the passwords of an environment out of a text, whether or not its settings can be read.

    Args:
        environ: as for `settings_from`.
        read_file: as for `settings_from`. Files are read when the first text comes.
    """

    @functools.cache
    def redactor() -> Redactor:
        from headstart.settings.secrets import redactor_of  # off the no-op path

        return redactor_of(environ, read_file)

    return lambda text: redactor()(text)  # noqa: PLW0108  (it is made when the first text comes)


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's arbitrary uid
        return str(os.getuid())
