"""Spans of what took time: a request, an append, a write. Needs the extra ``otel``.

Imported only when the settings enable tracing. A span is made from the same event that the
metrics count, when the work is over, so the logic knows nothing of tracing. Spans have no parents:
rows of many requests share a batch, and a batch goes to many sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from forwarder.core.telemetry import TelemetryEvent
from forwarder.delivery.events import BatchSettled, WriteFailed
from forwarder.ingest.events import PageStored
from forwarder.sources.cloudflare_access.events import RequestMade

# Seconds for one export. The process waits for the last one at its end.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class _Span:
    name: str
    seconds: float
    kind: SpanKind
    attributes: Mapping[str, str | int | float]
    error: str = ""


class Tracing:
    """Sends spans to a collector over OTLP; what cannot be sent in time is dropped."""

    def __init__(
        self, endpoint: str, ratio: float, version: str, now_us: Callable[[], int]
    ) -> None:
        """Send the share ``ratio`` of all spans to ``endpoint``, in a thread of its own."""
        self._now_us = now_us
        resource = Resource.create({"service.name": "forwarder", "service.version": version})
        # shutdown_on_exit would wait for a dead collector after the daemon has settled everything.
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(ratio), resource=resource, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("forwarder", version)

    def emit(self, one: TelemetryEvent) -> None:
        """Make a span of an event that took time; returns at once."""
        facts = _span_of(one)
        if facts is None:
            return
        # The event comes when the work is over, so the start is counted back from now.
        end = self._now_us() * 1000
        start = end - round(facts.seconds * 1e9)
        span = self._tracer.start_span(
            facts.name, kind=facts.kind, attributes=facts.attributes, start_time=start
        )
        if facts.error:
            span.set_status(Status(StatusCode.ERROR, facts.error))
        span.end(end)

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()


@singledispatch
def _span_of(_: TelemetryEvent) -> _Span | None:
    return None


@_span_of.register
def _polled(one: RequestMade) -> _Span:
    attributes: Mapping[str, str | float] = {
        "forwarder.account": one.account,
        "forwarder.endpoint": one.endpoint,
        "forwarder.outcome": one.outcome,
        "forwarder.waited_seconds": one.waited,
    }
    error = "" if one.outcome == "2xx" else one.outcome
    return _Span("poll", one.seconds, SpanKind.CLIENT, attributes, error)


@_span_of.register
def _appended(one: PageStored) -> _Span:
    attributes: Mapping[str, str | int] = {
        "forwarder.account": one.account,
        "forwarder.stream": one.stream,
        "forwarder.reader": one.reader,
        "forwarder.rows": one.rows,
        "forwarder.new": one.new,
    }
    return _Span("append", one.stored_s, SpanKind.INTERNAL, attributes)


@_span_of.register(BatchSettled)
@_span_of.register(WriteFailed)
def _delivered(one: BatchSettled | WriteFailed) -> _Span:
    attributes: Mapping[str, str | int] = {
        "forwarder.sink": one.sink,
        "forwarder.lane": one.lane,
        "forwarder.events": one.events,
        "forwarder.bytes": one.bytes,
    }
    error = one.kind if isinstance(one, WriteFailed) else ""
    return _Span("deliver", one.seconds, SpanKind.CLIENT, attributes, error)
