"""Log lines on stderr: one JSON object a line, or coloured columns on a terminal."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Literal, TextIO

import orjson

from forwarder.core.timing import SystemClock, format_us
from forwarder.observe.lines import Level
from forwarder.observe.redaction import Redactor

_NOW_US = SystemClock().now_us


class LogOutput:
    """Writes lines; never raises, since a closed stderr must not stop the forwarding."""

    def __init__(
        self,
        stream: TextIO,
        redactor: Redactor,
        *,
        level: str = "info",
        style: Literal["auto", "json", "console"] = "auto",
        now_us: Callable[[], int] = _NOW_US,
    ) -> None:
        """Write to ``stream`` what has at least ``level``; ``auto`` asks if it is a terminal."""
        self.set_level(level)
        self._stream = stream
        self._redactor = redactor
        self._now_us = now_us
        terminal = style == "console" or (style == "auto" and stream.isatty())
        self._as_text = _columns(colours=stream.isatty()) if terminal else _as_json

    def set_level(self, level: str) -> None:
        """Write only what has at least this level from now on."""
        self._lowest = Level[level.upper()]

    def write(
        self, level: Level, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        """Write one line."""
        if level < self._lowest:
            return
        first = {"time": format_us(self._now_us()), "level": level.name.lower(), "event": event}
        last = {} if error is None else {"exception": "".join(traceback.format_exception(error))}
        text = self._as_text(self._redactor({**first, **fields, **last}))
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads stderr any more; forwarding goes on


def _columns(*, colours: bool) -> Callable[[dict[str, Any]], str]:
    """Return what makes columns for people."""
    from structlog.dev import ConsoleRenderer  # noqa: PLC0415 - slow, large, for terminals alone

    renderer = ConsoleRenderer(colors=colours, timestamp_key="time")
    return lambda line: str(renderer(None, "", line))


def _as_json(line: dict[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
