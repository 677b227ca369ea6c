"""The one receiver of happenings: looks up what each means, counts it, logs it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import Clock
from forwarder.observe import of_cloudflare, of_daemon, of_delivery, of_ingest, of_journal
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.of_plugins import observe_plugin
from forwarder.observe.output import LogOutput
from forwarder.observe.repeats import Repeats
from forwarder.observe.table import Handler

_ROOMS = (of_cloudflare, of_daemon, of_delivery, of_ingest, of_journal)

HANDLERS: Mapping[type[TelemetryEvent], Handler] = {
    kind: handler for room in _ROOMS for kind, handler in room.TABLE
}


class Observer:
    """Turns every happening into its metric and its line. Its ``report`` is what logic is given."""

    def __init__(self, metrics: Metrics, output: LogOutput, clock: Clock) -> None:
        """Count in ``metrics``, write to ``output``."""
        self._metrics = metrics
        self._output = output
        self._clock = clock
        self._repeats = Repeats()

    def emit(self, happening: TelemetryEvent) -> None:
        """Take one happening; returns at once and never raises."""
        handler = HANDLERS.get(type(happening), observe_plugin)
        try:
            line = handler(happening, self._metrics)
        except Exception as error:  # noqa: BLE001 - a fault in telemetry must not stop forwarding
            line = _fault_of(happening, error)
        if line is None:
            return
        more = self._repeats.admit(line, self._clock.monotonic())
        if more is not None:
            self._write(line, more)

    def flush(self) -> None:
        """Write what was kept back and is due; the runtime calls it every few seconds."""
        for line, more in self._repeats.due(self._clock.monotonic()):
            self._write(line, more)

    def close(self) -> None:
        """End what works in the background; nothing does here."""

    def _write(self, line: Line, more: int) -> None:
        fields = {key: value for key, value in line.fields.items() if value not in (None, "")}
        if more:
            fields["repeated"] = f"{more} more times"
        self._output.write(line.level, line.event, fields, line.error)


def _fault_of(happening: TelemetryEvent, error: Exception) -> Line:
    last = traceback.extract_tb(error.__traceback__)[-1]
    fields = {
        "code": "telemetry_fault",
        "happening": type(happening).__name__,
        "error": type(error).__name__,
        "where": f"{last.name}:{last.lineno}",
    }
    return Line(Level.ERROR, LogEvent.PLUGIN, fields, limited=True)
