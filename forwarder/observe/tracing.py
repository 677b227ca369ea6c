"""Spans of what took time: a request, an append, a write. Needs the extra ``otel``.

Imported only when the settings ask for it. A span is made when what it tells of is over, out of
the same happening that the metrics count, so the logic knows nothing of tracing. Spans stand
alone: rows of many requests share a batch, and a batch goes to many sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from forwarder import __version__
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import Clock
from forwarder.delivery.events import BatchSettled, WriteFailed
from forwarder.ingest.events import PageStored
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput
from forwarder.sources.cloudflare_access.events import RequestMade

_PATIENCE = 3.0
_Attributes: TypeAlias = Mapping[str, str | int | float]
_Told: TypeAlias = tuple[str, float, SpanKind, _Attributes, str]
"""Name, seconds, kind, attributes, and the error if there was one."""


class Tracing:
    """Sends spans to a collector over OTLP; what cannot be sent in time is dropped."""

    def __init__(self, endpoint: str, ratio: float, clock: Clock) -> None:
        """Send the share ``ratio`` of all spans to ``endpoint``, in a thread of its own."""
        self._clock = clock
        resource = Resource.create({"service.name": "forwarder", "service.version": __version__})
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(ratio), resource=resource, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("forwarder", __version__)

    def emit(self, event: TelemetryEvent) -> None:
        """Make a span of a happening that took time; returns at once."""
        tell = _SPANS.get(type(event))
        if tell is None:
            return
        name, seconds, kind, attributes, error = tell(event)
        end = self._clock.now_us() * 1000
        start = end - round(seconds * 1e9)
        span = self._tracer.start_span(name, kind=kind, attributes=attributes, start_time=start)
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end)

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()


class TracedObserver(Observer):
    """An observer that also makes spans."""

    def __init__(self, metrics: Metrics, output: LogOutput, clock: Clock, tracing: Tracing) -> None:
        """Observe as ever, and send spans with ``tracing``."""
        super().__init__(metrics, output, clock)
        self._tracing = tracing

    def emit(self, event: TelemetryEvent) -> None:
        """Take one happening; returns at once and never raises."""
        super().emit(event)
        self._tracing.emit(event)

    def close(self) -> None:
        """Send what waits."""
        self._tracing.close()


def _polled(one: RequestMade) -> _Told:
    attributes: _Attributes = {
        "forwarder.account": one.account,
        "forwarder.endpoint": one.endpoint,
        "forwarder.outcome": one.outcome,
        "forwarder.waited_seconds": one.waited,
    }
    error = "" if one.outcome == "2xx" else one.outcome
    return "poll", one.seconds, SpanKind.CLIENT, attributes, error


def _appended(one: PageStored) -> _Told:
    attributes: _Attributes = {
        "forwarder.account": one.account,
        "forwarder.stream": one.stream,
        "forwarder.reader": one.reader,
        "forwarder.rows": one.rows,
        "forwarder.new": one.new,
    }
    return "append", one.stored_s, SpanKind.INTERNAL, attributes, ""


def _delivered(one: BatchSettled | WriteFailed) -> _Told:
    attributes: _Attributes = {
        "forwarder.sink": one.sink,
        "forwarder.lane": one.lane,
        "forwarder.events": one.events,
        "forwarder.bytes": one.bytes,
    }
    error = one.kind if isinstance(one, WriteFailed) else ""
    return "deliver", one.seconds, SpanKind.CLIENT, attributes, error


_SPANS: Mapping[type[TelemetryEvent], Callable[..., _Told]] = {
    RequestMade: _polled,
    PageStored: _appended,
    BatchSettled: _delivered,
    WriteFailed: _delivered,
}
