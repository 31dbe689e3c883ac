"""The log: one JSON object a line on stderr, or the same for a person on a terminal.

`build` makes the one logger of a run; rooms get it as an argument.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

_FIRST = ("timestamp", "level", "event", "run_id")
_ROOM_TIMEOUT = 2.0  # seconds that the reader of a pipe gets to make room for a line
_PIECE = select.PIPE_BUF  # bytes that a pipe takes at once if it takes any: pipe(7)


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
    lines = _Lines(stream)
    bound = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", lines)),
        processors=[
            structlog.processors.add_log_level,
            _stamp,
            lambda _logger, _method, event: clean(event, redact),
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = bound.bind(**({"run_id": run_id} if json else {}))
    lines.report_dropped = lambda count: logger.warning("log_lines_dropped", lines=count, hint="nobody read stderr")
    return logger


def quiet(log: FilteringBoundLogger) -> FilteringBoundLogger:
    """The same logger from warnings on: for what a use case does on the side."""
    silent: FilteringBoundLogger = structlog.wrap_logger(
        log,
        processors=[lambda _logger, _method, event: ((event.pop("event"),), event)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    return silent


class Timed:
    """A logger, and how long it has been silent.

    Args:
        log: whose lines count, and those of what is bound to it.
        root: what it was bound to; the lines count there.
    """

    def __init__(self, log: FilteringBoundLogger, root: Timed | None = None) -> None:
        self._log = log
        self._root = root or self
        self.spoken_at = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self.spoken_at

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (structlog's own)
        self._root.spoken_at = time.monotonic()
        return getattr(self._log, name)

    def bind(self, **fields: Any) -> Timed:  # noqa: ANN401  (structlog's own)
        """The logger with more fields."""
        return Timed(self._log.bind(**fields), self._root)


def timestamp(moment: datetime.datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as every line and manifest has it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = timestamp(datetime.datetime.now(datetime.UTC))
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(None, "", event)
    return event


# Names that are ours, or the database's: a password that is a word of one of them does not make it unreadable.
_OURS = frozenset(
    {"timestamp", "level", "event", "run_id", "outcome", "version", "verb", "stage", "path", "backup", "database"}
    | {
        "server",
        "driver",
        "user",
        "schema",
        "tenant",
        "revision",
        "revision_before",
        "revision_after",
        "applied",
        "pending",
        "failed",
    }
)


def _is_ours(key: object, value: object) -> bool:
    return key in _OURS and (
        isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(each, str) for each in value))
    )


def clean(value: Any, redact: Callable[[str], str]) -> Any:  # noqa: ANN401  (whatever a field holds)
    """A field as it may be shown: plain data, without secrets, and with escapes for what is no character.

    Args:
        value: of the field; of a mapping, the keys and what stands under a key of ours stay as they are.
        redact: applied to every other string.
    """
    if isinstance(value, str):
        return redact(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {clean(key, str): clean(item, str if _is_ours(key, item) else redact) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, redact) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 3)
    return clean(str(value), redact)


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    ordered = {**{key: event[key] for key in _FIRST if key in event}, **event}
    return msgspec.json.encode(ordered).decode()


class _Lines:
    """Writes lines to a stream. One that nobody reads any more, or a full disk, neither ends nor holds up a migration.

    A pipe is full when its reader has stopped. Lines that find no room in time are dropped, and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._poll: select.poll | None = None
        self._cut = False  # the last line was not written to its end
        self._dropped = 0
        self.report_dropped: Callable[[int], None] = lambda _: None
        with contextlib.suppress(OSError, ValueError):  # a program's own stream, with no descriptor
            self._descriptor = stream.fileno()
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError, ValueError):
            if self._poll is None:
                self._stream.write(text)
                self._stream.flush()
            elif not self._poll.poll(0 if self._dropped else _ROOM_TIMEOUT * 1000):
                self._dropped += 1
            else:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self.report_dropped(dropped)
                self._write(f"\n{text}" if self._cut else text, self._poll)

    def _write(self, text: str, poll: select.poll) -> None:
        rest = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        self._cut = True
        while rest:
            if not poll.poll(_ROOM_TIMEOUT * 1000):
                self._dropped += 1
                return
            rest = rest[os.write(self._descriptor, rest[:_PIECE]) :]
        self._cut = False

    def flush(self) -> None:
        """Nothing is kept back."""


def wants_json(setting: str, stream: TextIO) -> bool:
    """Whether the log is JSON: as HEADSTART_LOG says, or unless `stream` is a terminal."""
    return setting == "json" or (setting != "console" and not stream.isatty())  # also before it is known to be wrong


def stderr() -> TextIO:
    """The process's own stderr, which never raises on text that its encoding lacks."""
    if sys.stderr is None or sys.stderr.closed:  # by whoever started us, or by the program
        return Path(os.devnull).open("w", encoding="utf-8")
    stream = sys.stderr
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
