"""The log: one JSON object a line on stderr, or the same for a person on a terminal.

`build` makes the one logger of a run; rooms get it as an argument.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from headstart.log.printable import as_json

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_FIRST = ("timestamp", "level", "event", "run_id")


def build(
    stream: TextIO, *, json: bool, run_id: str, redact: Callable[[str], str], colors: bool = False
) -> FilteringBoundLogger:
    """Make the logger of one run.

    Args:
        stream: where the lines go; kept, so that a later replacement of `sys.stderr` does not divert the log.
        json: one JSON object a line; otherwise lines for a person.
        run_id: stands in every JSON line.
        redact: applied to every string before it is written.
        colors: whether the lines for a person are coloured.
    """
    shown: Callable[..., str] = _json_line
    if not json:
        from headstart.log.console import renderer

        shown = renderer(colors=colors)
    bound = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Unfailing(stream))),
        processors=[structlog.processors.add_log_level, _stamp, _redacting(redact), shown],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = bound.bind(**({"run_id": run_id} if json else {}))
    return logger


def quiet(log: FilteringBoundLogger) -> FilteringBoundLogger:
    """The same logger from warnings on: for what a use case does on the side."""
    return cast("FilteringBoundLogger", _Quiet(log))


class _Quiet:
    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever a logger has)
        return getattr(self._log, name)

    def bind(self, **fields: Any) -> _Quiet:  # noqa: ANN401  (structlog's own)
        return _Quiet(self._log.bind(**fields))

    def debug(self, event: str, **fields: object) -> None:
        """Nothing."""

    def info(self, event: str, **fields: object) -> None:
        """Nothing."""


def timestamp(moment: datetime.datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as every line and manifest has it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = timestamp(datetime.datetime.now(datetime.UTC))
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(None, "", event)
    return event


def clean(value: Any, redact: Callable[[str], str]) -> Any:  # noqa: ANN401  (whatever a field holds)
    """A field as it may be shown: plain data, without secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {clean(key, redact): clean(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, redact) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 3)
    return redact(str(value))


def _redacting(redact: Callable[[str], str]) -> Callable[..., MutableMapping[str, Any]]:
    def process(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: clean(value, redact) for key, value in event.items()}

    return process


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    ordered = {**{key: event[key] for key in _FIRST if key in event}, **event}
    return as_json(ordered).decode()


class _Unfailing:
    """A stream that nobody reads any more, or a full disk behind it, must not end a migration."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def wants_json(setting: str, stream: TextIO) -> bool:
    """Whether the log is JSON: as HEADSTART_LOG says, or unless `stream` is a terminal."""
    return setting == "json" or (setting != "console" and not stream.isatty())  # also before it is known to be wrong


def stderr() -> TextIO:
    """The process's own stderr, which never raises on text that its encoding lacks."""
    if sys.stderr is None:  # closed by whoever started us
        return Path(os.devnull).open("w", encoding="utf-8")
    stream = sys.stderr
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
