"""`python -m sample_app`: serves on port 8000 (or `PORT`), once the database is seen to be at this image's head."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvicorn

import headstart
from headstart.errors import ConfigurationError
from sample_app.service import application

WAIT = "10s"
"""For the server to answer and the database to be at head, unless HEADSTART_WAIT_TIMEOUT says otherwise."""


def refuse(cause: str, hint: str | None, code: int) -> int:
    """Say in one line why there is no service, and what to do."""
    sys.stderr.write(f"sample-app: not started: {cause}" + (f"; {hint}" if hint else "") + "\n")
    return code


def main() -> int:
    """Look, then serve until SIGTERM. A database that is not at head is refused with Headstart's exit code."""
    # As PID 1 a process without a handler ignores SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    port = os.environ.get("PORT", "8000")
    if not port.isdecimal():
        return refuse(f"PORT is {port!r}", "write for example PORT=8000", 10)
    try:
        settings = headstart.settings_from({"HEADSTART_WAIT_TIMEOUT": WAIT, **os.environ})
    except ConfigurationError as error:
        return refuse(error.message, error.hint, error.exit)
    outcome = asyncio.run(headstart.wait_for_head(settings))
    if not outcome.ok:
        return refuse(str(outcome.error), outcome.hint, outcome.exit)
    # uvicorn has a handler of its own, lets requests finish, and then raises the signal again, for this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        application(os.environ),
        host="0.0.0.0",  # noqa: S104  (in a container every address is the container's own)
        port=int(port),
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
