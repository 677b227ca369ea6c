"""Log lines on stderr: one JSON object a line, or coloured columns on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import BindableLogger, EventDict, Processor

from forwarder.observe.lines import Level
from forwarder.observe.redaction import Redactor


class LogOutput:
    """Writes lines; never raises, since a closed stderr must not stop the forwarding."""

    def __init__(
        self,
        stream: TextIO,
        redactor: Redactor,
        *,
        level: str = "info",
        style: Literal["auto", "json", "console"] = "auto",
    ) -> None:
        """Write to ``stream`` what has at least ``level``; ``auto`` asks if it is a terminal."""
        self.set_level(level)
        terminal = style == "console" or (style == "auto" and stream.isatty())
        self._logger: BindableLogger = structlog.wrap_logger(
            _Writer(stream),
            processors=_processors(redactor, terminal=terminal, colours=stream.isatty()),
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def set_level(self, level: str) -> None:
        """Write only what has at least this level from now on."""
        self._lowest = Level[level.upper()]

    def write(
        self, level: Level, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        """Write one line."""
        if level < self._lowest:
            return
        if error is not None:
            fields = {**fields, "exc_info": error}
        getattr(self._logger, level.name.lower())(event, **fields)


class _Writer:
    """The end of the chain: text to the stream, whatever the level was called."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads stderr any more; forwarding goes on

    debug = info = warning = error = _write


def _processors(redactor: Redactor, *, terminal: bool, colours: bool) -> Sequence[Processor]:
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        redactor,
    ]
    if terminal:
        return [*shared, structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="time")]
    return [*shared, _as_json]


def _as_json(_logger: Any, _name: str, event: EventDict) -> str:
    """Render with time, level and event first."""
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return orjson.dumps({**first, **event}, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
