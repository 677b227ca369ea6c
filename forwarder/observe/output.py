"""Log lines on stderr: one JSON object a line, or coloured columns on a terminal.

Secrets are masked on the way. This is the second line of defence; the first is that nobody passes
one, since secrets are a type that shows asterisks.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Literal, TextIO

import orjson

from forwarder.core.errors import NeedsOperatorError
from forwarder.core.telemetry import Level
from forwarder.core.timing import SystemClock, format_us
from forwarder.transport.settings import REDACTED, Secret

_SENSITIVE_KEY = re.compile(r"(?i)authorization|cookie|password|passwd|secret$|token$|api_?key$")
_PATTERNS = (
    (
        re.compile(r"(?i)\b(bearer|basic|splunk|apikey)\s+[A-Za-z0-9._~+/=:-]{6,}"),
        rf"\1 {REDACTED}",
    ),
    (re.compile(r"//[^/@\s]+@"), f"//{REDACTED}@"),
    (re.compile(r"(?i)\b((?:api_?)?(?:key|token)|password|secret)=[^&\s]+"), rf"\1={REDACTED}"),
)
_SHORTEST = 6
"""A shorter secret is not masked: it would be found in words that hold it by chance."""
_NOW_US = SystemClock().now_us


class LogOutput:
    """Writes lines; never raises, since a closed stderr must not stop the forwarder."""

    def __init__(
        self,
        stream: TextIO,
        redactor: Redactor,
        *,
        level: str = "info",
        style: Literal["auto", "json", "console"] = "auto",
        now_us: Callable[[], int] = _NOW_US,
    ) -> None:
        """Write lines of at least ``level`` to ``stream``; ``auto`` means columns on a terminal."""
        self.set_level(level)
        self._stream = stream
        self._redactor = redactor
        self._now_us = now_us
        terminal = style == "console" or (style == "auto" and stream.isatty())
        self._as_text = _columns(colours=stream.isatty()) if terminal else _as_json

    def set_level(self, level: str) -> None:
        """Write only lines of at least this level from now on."""
        self.lowest = Level[level.upper()]

    def write(
        self, level: Level, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        """Write one line."""
        if level < self.lowest:
            return
        first = {"time": format_us(self._now_us()), "level": level.name.lower(), "event": event}
        last = {} if error is None else {"exception": "".join(traceback.format_exception(error))}
        text = self._as_text(self._redactor({**first, **fields, **last}))
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads stderr any more; forwarding must not stop for that


def _columns(*, colours: bool) -> Callable[[dict[str, Any]], str]:
    """Return what formats a line as columns for people."""
    from structlog.dev import ConsoleRenderer  # noqa: PLC0415 - slow, large, for terminals alone

    renderer = ConsoleRenderer(colors=colours, timestamp_key="time")
    return lambda line: str(renderer(None, "", line))


def _as_json(line: dict[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Redactor:
    """Masks known secrets in log lines, and what looks like one."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        """Mask these secrets wherever they appear, beside the patterns."""
        self._secrets = list(secrets)

    def know(self, secrets: Iterable[Secret]) -> None:
        """Replace the secrets to mask; called after the settings changed."""
        self._secrets = list(secrets)

    def __call__(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the line with every text in it cleaned."""
        values = self._values()
        return {key: self._clean(key, value, values) for key, value in line.items()}

    def text(self, text: str) -> str:
        """Return one text cleaned."""
        return _cleaned(text, self._values())

    def _values(self) -> list[str]:
        values = []
        for secret in self._secrets:
            try:
                values.append(secret.reveal())
            except NeedsOperatorError:
                continue  # its file is gone: there is nothing that could be shown
        return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)

    def _clean(self, key: str, value: Any, values: list[str]) -> Any:
        if isinstance(value, str):
            return REDACTED if _SENSITIVE_KEY.search(key) else _cleaned(value, values)
        if isinstance(value, dict):
            return {
                str(inner): self._clean(str(inner), item, values) for inner, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(key, item, values) for item in value]
        return value


def _cleaned(text: str, values: list[str]) -> str:
    for value in values:
        text = text.replace(value, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
