"""The one receiver of events: counts each, and writes its line unless it repeats too often."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from forwarder.core.telemetry import Emit, Level, TelemetryEvent
from forwarder.core.timing import Clock
from forwarder.observe.counting import count
from forwarder.observe.events import LibraryWarned, LogLinesDropped, TelemetryFailed
from forwarder.observe.metrics import Metrics
from forwarder.observe.output import LogOutput

# Not the error's text: it often holds a number or an address that differs each time.
_SUBJECT = ("account", "stream", "reader", "sink", "task", "reason", "code", "library", "where")
_INTERVAL = 60.0
_MOST_SUBJECTS = 1000
_ECHOES = ("aiokafka",)
"""Libraries that log what they also raise, each in several places: the sink's own line says it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One log line before it is written."""

    level: Level
    event: str
    fields: dict[str, Any]
    limited: bool

    @property
    def subject(self) -> tuple[Any, ...]:
        """Return what makes two limited lines the same: name, context and reason."""
        return (self.event, *(self.fields.get(key) for key in _SUBJECT))


class Spans(Protocol):
    """What makes spans of events; ``observe.tracing.Tracing``, which needs an extra."""

    def emit(self, one: TelemetryEvent) -> None:
        """Make a span of an event that took time; returns at once."""

    def close(self) -> None:
        """Send what waits; blocks for a few seconds at most."""


class Observer:
    """Turns every event into its metrics and its line. Its ``emit`` is what logic is given."""

    def __init__(
        self, metrics: Metrics, output: LogOutput, clock: Clock, spans: Spans | None = None
    ) -> None:
        """Count in ``metrics``, write to ``output``, and make ``spans`` if given."""
        self._metrics = metrics
        self._output = output
        self._clock = clock
        self.spans = spans
        self._repeats = Repeats()
        # Libraries log from threads of their own, and their lines come here too.
        self._lock = threading.Lock()

    def emit(self, one: TelemetryEvent) -> None:
        """Take one event; returns at once and never raises."""
        lines = list[Line | None]()
        try:
            # Counted whatever the level of the log: metrics must not depend on it.
            count(one, self._metrics)
            lines.append(line_of(one, self._output.lowest))
            if self.spans is not None:
                self.spans.emit(one)
        except Exception as error:  # noqa: BLE001 - a fault in telemetry must not stop forwarding
            lines.append(line_of(_failure(one, error)))
        for line in filter(None, lines):
            with self._lock:
                kept_back = self._repeats.admit(line, self._clock.monotonic())
            if kept_back is not None:
                self._write(line, kept_back)

    def flush(self) -> None:
        """Write what was kept back and is due; the runtime calls it every few seconds."""
        if dropped := self._output.take_dropped():
            self.emit(LogLinesDropped(dropped))
        with self._lock:
            due = list(self._repeats.due(self._clock.monotonic()))
        for line, kept_back in due:
            self._write(line, kept_back)

    def close(self) -> None:
        """Send the spans that wait; blocks for a few seconds at most."""
        if self.spans is not None:
            self.spans.close()

    def _write(self, line: Line, kept_back: int) -> None:
        # An empty list stays: "no identity provider vanished" is something to say.
        fields = {key: value for key, value in line.fields.items() if value not in (None, "")}
        error = fields.pop("exception", None)
        if kept_back:
            fields["repeated"] = kept_back
        self._output.write(line.level, line.event, fields, error)


def line_of(one: TelemetryEvent, lowest: Level = Level.DEBUG) -> Line | None:
    """Return an event's log line; None if it has none, or one below the level ``lowest``."""
    described = one.description
    if described is None:
        return None
    level = described.levels[one.is_worse()]
    if level < lowest:
        return None
    return Line(level, described.line, described.values(one), described.limited)


def _failure(one: TelemetryEvent, error: Exception) -> TelemetryFailed:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return TelemetryFailed(type(one).__name__, type(error).__name__, f"{last.name}:{last.lineno}")


class _Subject:
    """Limited lines that are the same: when one was written, and what was kept back since."""

    def __init__(self, written: float) -> None:
        self.written = written
        self.kept_back = 0
        self.last: Line | None = None

    def keep_back(self, line: Line) -> None:
        self.kept_back += 1
        self.last = line


class Repeats:
    """Decides which lines are written: the first of a subject, then one a minute.

    Bounded: beyond a thousand subjects the oldest is forgotten.
    """

    def __init__(self) -> None:
        """Know no subject yet."""
        self._subjects: dict[tuple[object, ...], _Subject] = {}

    def admit(self, line: Line, now: float) -> int | None:
        """Return how many lines were kept back before, or None to keep this one back too."""
        if not line.limited:
            return 0
        known = self._subjects.get(line.subject)
        if known is not None and now - known.written < _INTERVAL:
            known.keep_back(line)
            return None
        # A dict keeps the order of insertion: the first key is the subject written longest ago.
        self._subjects.pop(line.subject, None)
        self._subjects[line.subject] = _Subject(now)
        while len(self._subjects) > _MOST_SUBJECTS:
            del self._subjects[next(iter(self._subjects))]
        return known.kept_back if known else 0

    def due(self, now: float) -> Iterator[tuple[Line, int]]:
        """Yield the last line of each subject whose minute is over, with the number kept back."""
        over = [key for key, one in self._subjects.items() if now - one.written >= _INTERVAL]
        for key in over:
            one = self._subjects.pop(key)
            if one.last is not None:
                yield one.last, one.kept_back


class LibraryHandler(logging.Handler):
    """Emits warnings and errors of libraries; drops what they log below that."""

    def __init__(self, emit: Emit) -> None:
        """Pass records on to ``emit``."""
        # Below a warning libraries write a line a request, with URLs and sometimes with headers.
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        """Emit one record as an event; called by ``logging`` in any thread."""
        echoes = record.name.partition(".")[0] in _ECHOES
        self._emit(
            LibraryWarned(
                library=record.name,
                message=record.getMessage(),
                # A library that echoes logs one fault from several lines: the module alone makes
                # them one subject.
                where=record.module if echoes else f"{record.module}:{record.lineno}",
                # An error of an echoing library is the outage that the sink reports as a warning.
                severe=record.levelno >= logging.ERROR and not echoes,
                error=record.exc_info[1] if record.exc_info else None,
            )
        )
