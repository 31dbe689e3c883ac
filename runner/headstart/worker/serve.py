"""What a fork of the worker does: one task after the other, each with its answer."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from importlib import import_module
from typing import Any

from headstart.errors import HeadstartError
from headstart.worker import sessions, tasks
from headstart.worker.messages import Failed, Finished, Started, TaskFailedError
from headstart.worker.port import Port


def serve(channel: socket.socket) -> None:
    """Do tasks until the supervisor has no more."""
    port = Port(channel)
    mine = os.getpid()
    port.send(Started(pid=mine))
    while (task := port.receive()) is not None:
        answer = _answer(task, port)
        if os.getpid() != mine:  # env.py has forked, and did not end what it has forked
            os._exit(1)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # whatever env.py has put in their place
                stream.flush()
        port.send(answer)
        if not isinstance(answer, Finished) or not answer.reusable:
            return


def _answer(task: Any, port: Port) -> Finished | Failed:  # noqa: ANN401  (any of the tasks)
    for name, value in getattr(task, "environ", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        module, function = _DONE_BY[type(task)]
        value = getattr(import_module(f"headstart.worker.{module}"), function)(task, port)
    except TaskFailedError as error:
        return error.failed
    except HeadstartError as error:
        return Failed(error=type(error).__name__, message=error.message, hint=error.hint, context=dict(error.context))
    return Finished(value=value, reusable=sessions.nothing_open())


# Module and function: what a task needs is imported when it is asked for.
_DONE_BY: dict[type, tuple[str, str]] = {
    tasks.Plan: ("migration", "plan"),
    tasks.Migrate: ("migration", "migrate"),
    tasks.Stamp: ("migration", "stamp"),
    tasks.Command: ("commands", "command"),
    tasks.Parse: ("commands", "parse"),
    tasks.Compare: ("compare", "compare"),
    tasks.Describe: ("project", "describe"),
    tasks.Format: ("writing", "format_file"),
    tasks.Name: ("writing", "file_name"),
}
