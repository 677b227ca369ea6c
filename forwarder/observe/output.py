"""Log lines on stderr: one JSON object a line, or coloured columns on a terminal.

Secrets are masked on the way. This is the second line of defence; the first is that nobody passes
one, since secrets are a type that shows asterisks.
"""

from __future__ import annotations

import json
import os
import re
import select
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TextIO

import orjson

from forwarder.core.errors import NeedsOperatorError
from forwarder.core.telemetry import WARNING, Level
from forwarder.core.timing import SystemClock, format_us
from forwarder.transport.settings import CREDENTIALS, REDACTED, Secret

_SENSITIVE_KEY = re.compile(r"(?i)authorization|cookie|password|passwd|secret$|token$|api_?key$")
# What looks like a credential in texts of others: headers, addresses with a user, query strings.
_PATTERNS = (
    (
        re.compile(r"(?i)\b(bearer|basic|splunk|apikey)\s+[A-Za-z0-9._~+/=:-]{6,}"),
        rf"\1 {REDACTED}",
    ),
    (CREDENTIALS, f"//{REDACTED}@"),
    (re.compile(r"(?i)\b((?:api_?)?(?:key|token)|password|secret)=[^&\s]+"), rf"\1={REDACTED}"),
)
_SHORTEST = 6
"""A shorter secret is not masked: it would be found in words that hold it by chance."""
_NOW_US = SystemClock().now_us
_MOST_WAITING = 256 * 1024
_TROUBLES = 20


class LogStream(Protocol):
    """Where lines go: a text file, or a ``BackgroundWriter`` around one."""

    def write(self, text: str, /) -> object:
        """Write one line; raises ``OSError`` if it is lost."""

    def flush(self) -> object:
        """Pass on what is buffered."""

    def isatty(self) -> bool:
        """Return True for a terminal."""


class LogOutput:
    """Writes lines; never raises, since a closed stderr must not stop the forwarder."""

    def __init__(
        self,
        stream: LogStream,
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
        self._dropped = 0
        self._troubles = deque[Mapping[str, Any]](maxlen=_TROUBLES)
        terminal = style == "console" or (style == "auto" and stream.isatty())
        self._as_text = _columns(colours=stream.isatty()) if terminal else _as_json

    def set_level(self, level: str) -> None:
        """Write only lines of at least this level from now on."""
        self.lowest = Level[level.upper()]

    def write(
        self, level: Level, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        """Write one line, or count it as dropped if nobody takes it."""
        if level < self.lowest:
            return
        first = {"time": format_us(self._now_us()), "level": level.name.lower(), "event": event}
        last = {} if error is None else {"exception": "".join(traceback.format_exception(error))}
        line = self._redactor({**first, **fields, **last})
        if level >= WARNING:
            self._troubles.append({key: value for key, value in line.items() if key not in last})
        text = self._as_text(line)
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._dropped += 1

    def troubles(self) -> list[Mapping[str, Any]]:
        """Return the latest warnings and errors as they were written, without tracebacks."""
        return list(self._troubles)

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        lost = self._stream.take_lost() if isinstance(self._stream, BackgroundWriter) else 0
        return dropped + lost


class BackgroundWriter:
    """Writes to a file from a thread, so that a reader that stalls blocks nobody.

    A pipe has room for 64 KiB, or for 4 KiB; when nobody reads it, a write waits for ever, and the
    event loop with it. Non-blocking writes are no way out: the flag belongs to the open file, so
    that it would also change the terminal or the pipe of whoever started the process.
    """

    def __init__(self, stream: TextIO, *, most_waiting: int = _MOST_WAITING) -> None:
        """Write to the file of ``stream``; at most ``most_waiting`` bytes wait for it."""
        self._file = stream.fileno()
        self._terminal = stream.isatty()
        self._most_waiting = most_waiting
        self._lines = deque[bytes]()
        self._waiting = 0
        self._lost = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str, /) -> None:
        """Leave a line to the thread; raises ``BlockingIOError`` if too much waits already."""
        # A lone surrogate, as in a file name that is not UTF-8, must not cost the line.
        line = text.encode(errors="backslashreplace")
        with self._changed:
            if self._waiting + len(line) > self._most_waiting:
                raise BlockingIOError("nobody reads the log")
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()
            if self._thread is None:
                # A daemon thread, since a stalled write must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Do nothing: the thread writes each line as soon as it can."""

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return self._terminal

    def take_lost(self) -> int:
        """Return how many lines could not be written since the last call."""
        with self._changed:
            lost, self._lost = self._lost, 0
        return lost

    def drain(self, seconds: float = 1.0) -> bool:
        """Wait until every line is written, for ``seconds`` at most; return True if it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                lines = list(self._lines)
                self._lines.clear()
            written = _write_all(self._file, b"".join(lines))
            with self._changed:
                # Only now: what is being written takes memory too.
                self._waiting -= sum(map(len, lines))
                self._lost += 0 if written else len(lines)
                self._changed.notify_all()


def _write_all(file: int, data: bytes) -> bool:
    """Write to a file descriptor, however long it takes; return False if it cannot be written.

    The descriptor and not the text stream: a thread that waits in Python's buffered writer holds
    its lock, and the interpreter aborts at its end if it cannot take that lock.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:
            select.select([], [file], [])  # whoever started us made the file non-blocking
        except OSError:
            return False
    return True


def _columns(*, colours: bool) -> Callable[[dict[str, Any]], str]:
    """Return what formats a line as columns for people."""
    from structlog.dev import ConsoleRenderer  # noqa: PLC0415 - slow, large, for terminals alone

    renderer = ConsoleRenderer(colors=colours, timestamp_key="time")
    return lambda line: str(renderer(None, "", line))


def _as_json(line: dict[str, Any]) -> str:
    # default=str: a value that JSON has no form for must not cost the line.
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half a character, as in a file name that is not UTF-8, or an integer of more than 64 bits.
        text = json.dumps(line, default=str, ensure_ascii=False)
        return text.encode(errors="replace").decode()


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
        # Revealed once a line: a secret in a file is read again when the file has changed.
        values = self._values()
        return {key: self._clean(key, value, values) for key, value in line.items()}

    def text(self, text: str) -> str:
        """Return one text cleaned."""
        return _cleaned(text, self._values())

    def _values(self) -> list[str]:
        values = []
        for secret in self._secrets:
            try:
                # A file may hold two of them, a line each, while they change.
                values += secret.reveal().splitlines()
            except NeedsOperatorError:
                continue  # its file is gone: there is nothing that could be shown
        # The longest first: a short secret may be a part of a long one, whose rest would be left.
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
    # Known secrets before patterns, which could cut a secret into parts that are not found then.
    for value in values:
        text = text.replace(value, REDACTED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
