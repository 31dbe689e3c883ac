"""What a fork of the worker does: one task after the other, each with its answer."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any

from headstart.errors import HeadstartError
from headstart.worker import messages, sessions
from headstart.worker.messages import Failed, Finished
from headstart.worker.port import Port


def serve(channel: socket.socket) -> None:
    """Do tasks until the supervisor has no more."""
    port = Port(channel)
    mine = os.getpid()
    port.send(messages.Started(pid=mine))
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
    from headstart.worker.failure import Reported

    for name, value in getattr(task, "environ", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        value = _DONE_BY[type(task)](task, port)
    except Reported as error:
        return error.failed
    except HeadstartError as error:
        return Failed(error=type(error).__name__, message=error.message, hint=error.hint, context=_plain(error.context))
    return Finished(value=value, reusable=sessions.nothing_open())


def _plain(context: dict[str, object]) -> dict[str, Any]:
    import msgspec as encoder

    return {name: encoder.to_builtins(value, enc_hook=str) for name, value in context.items()}


def _plan(task: messages.Plan, port: Port) -> None:
    from headstart.worker.migration import plan

    plan(task, port)


def _migrate(task: messages.Migrate, port: Port) -> list[str]:
    from headstart.worker.migration import migrate

    return migrate(task, port)


def _stamp(task: messages.Stamp, port: Port) -> tuple[str, ...]:
    from headstart.worker.migration import stamp

    return stamp(task, port)


def _command(task: messages.Command, port: Port) -> Any:  # noqa: ANN401  (plain data)
    from headstart.worker.commands import command

    return command(task, port)


def _parse(task: messages.Parse, port: Port) -> Any:  # noqa: ANN401  (plain data)
    from headstart.worker.commands import parse

    return parse(task, port)


def _compare(task: messages.Compare, port: Port) -> Any:  # noqa: ANN401  (plain data)
    from headstart.worker.compare import compare

    return compare(task, port)


def _describe(task: messages.Describe, port: Port) -> Any:  # noqa: ANN401  (plain data)
    from headstart.worker.project import describe

    return describe(task, port)


def _format(task: messages.Format, port: Port) -> None:
    from headstart.worker.writing import format_file

    format_file(task, port)


def _name(task: messages.Name, port: Port) -> str:
    from headstart.worker.writing import file_name

    return file_name(task, port)


_DONE_BY: dict[type, Any] = {
    messages.Plan: _plan,
    messages.Migrate: _migrate,
    messages.Stamp: _stamp,
    messages.Command: _command,
    messages.Compare: _compare,
    messages.Describe: _describe,
    messages.Format: _format,
    messages.Name: _name,
    messages.Parse: _parse,
}
