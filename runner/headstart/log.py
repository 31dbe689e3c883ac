"""The log: one JSON object a line on stderr, or the same for a person on a terminal.

`build` makes the one logger of a run; rooms get it as an argument. `bridge` brings what the standard library's
logging, warnings and print say (a user's env.py and revisions, SQLAlchemy, Alembic) into the same stream, so that
nothing garbles it.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

Processor = Callable[[object, str, MutableMapping[str, Any]], Any]
"""What structlog calls one: (logger, method, event) -> event; the last of them gives the line."""

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
    out = _Unfailing(stream)
    if not json:
        return _structured(out, [_level, _stamp, _redacting(redact), _for_people(colors=colors)], {})
    early = _Early(out, [_level, _stamp, _redacting(redact), _json_line], {"run_id": run_id})
    return cast("FilteringBoundLogger", early)


def thorough(log: FilteringBoundLogger) -> FilteringBoundLogger:
    """The same logger as structlog's own: for a run that has work to do, and for what the user's code logs."""
    early: object = log
    return early.structured() if isinstance(early, _Early) else log


def quiet(log: FilteringBoundLogger) -> FilteringBoundLogger:
    """The same logger from warnings on: for what a use case does on the side."""
    return cast("FilteringBoundLogger", _Quiet(thorough(log)))


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


def _structured(out: _Unfailing, processors: Sequence[Processor], fields: Mapping[str, Any]) -> FilteringBoundLogger:
    import structlog

    bound = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", out)),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = bound.bind(**fields)
    return logger


class _Early:
    """Writes the lines of a run until there is work: with the same processors, but without structlog.

    Importing structlog takes as long as a no-op's connection and all of its queries.
    """

    def __init__(self, out: _Unfailing, processors: Sequence[Processor], fields: Mapping[str, Any]) -> None:
        self._out = out
        self._processors = processors
        self._fields = fields

    def structured(self) -> FilteringBoundLogger:
        return _structured(self._out, self._processors, self._fields)

    def bind(self, **fields: Any) -> _Early:  # noqa: ANN401  (structlog's own)
        return _Early(self._out, self._processors, {**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """Nothing: the log begins at `info`."""

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, method: str, event: str, fields: Mapping[str, object]) -> None:
        line: Any = {**self._fields, **fields, "event": event}
        for process in self._processors:
            line = process(self, method, line)
        self._out.write(f"{line}\n")
        self._out.flush()


def timestamp(moment: datetime.datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as every line and manifest has it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["level"] = method
    return event


def _stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = timestamp(datetime.datetime.now(datetime.UTC))
    if "exc_info" in event:
        import structlog

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
    return msgspec.json.encode(ordered).decode()


def _for_people(*, colors: bool) -> Callable[..., str]:
    from headstart.console import renderer

    return renderer(colors=colors)


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


class _Bridge(logging.Handler):
    """Hands the standard library's log records to our logger."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.log(record.levelno, "library_message", logger=record.name, message=record.getMessage())
        except Exception:  # noqa: BLE001  (a record that cannot be formatted must not end a migration)
            self.handleError(record)


class _Lines(io.TextIOBase):
    """A text stream that logs each line written to it: for print() in a revision."""

    def __init__(self, log: FilteringBoundLogger, source: str) -> None:
        self._log = log
        self._source = source
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.info("script_output", source=self._source, message=line)
        return len(text)

    def finish(self) -> None:
        if self._rest.strip():
            self.write("\n")


@contextlib.contextmanager
def bridge(log: FilteringBoundLogger, *, stdout: bool = True) -> Iterator[None]:
    """Log what the user's code logs, warns and prints, while it runs; leave logging as it was found.

    Args:
        log: where it goes.
        stdout: also take what is printed to stdout; not for verbs whose data goes there.
    """
    log = thorough(log)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    alembic_level = logging.getLogger("alembic").level
    lines = [_Lines(log, "stdout"), _Lines(log, "stderr")]
    root.handlers[:] = [_Bridge(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    try:
        with contextlib.ExitStack() as stack:
            if stdout:
                stack.enter_context(contextlib.redirect_stdout(lines[0]))
            stack.enter_context(contextlib.redirect_stderr(lines[1]))
            yield
    finally:
        for each in lines:
            each.finish()
        logging.captureWarnings(capture=False)
        root.handlers[:], root.level = handlers, level
        logging.getLogger("alembic").setLevel(alembic_level)


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
