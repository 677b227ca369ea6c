"""The consumers' happenings: metric and line."""

from __future__ import annotations

from typing import Any

from forwarder.delivery.events import (
    BatchSettled,
    BatchSplit,
    EventsDeadLettered,
    EventsFiltered,
    LaneFinished,
    OpenFailed,
    PhaseChanged,
    QueueFailed,
    SinkDrained,
    SinkHeld,
    SinkOpened,
    SinkRecovered,
    SinkThrottled,
    SinkWaiting,
    WriteFailed,
)
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table

TABLE = Table()
_SHOW = "forwarder dead-letters list"


@TABLE.on(BatchSettled)
def _settled(event: BatchSettled, metrics: Metrics) -> Line:
    sink = event.sink
    for counter, counts in (
        (metrics.delivered, event.delivered),
        (metrics.deferred, event.deferred),
    ):
        for stream, count in counts.items():
            counter.labels(sink, stream).inc(count)
    metrics.retried.labels(sink).inc(event.retried)
    metrics.batch_events.labels(sink).observe(event.events)
    metrics.sent_bytes.labels(sink).inc(event.bytes)
    metrics.write_duration.labels(sink).observe(event.seconds)
    for since, ages in (("event", event.ages), ("seen", event.seen_ages)):
        metrics.latency.add((sink, since), ages.counts, ages.total)
    fields: dict[str, Any] = {
        "sink": sink,
        "lane": event.lane,
        "events": event.events,
        "bytes": event.bytes,
        "seconds": round(event.seconds, 3),
    }
    if event.notes:
        fields |= {"notes": list(event.notes), "code": event.notes[0].partition(":")[0]}
        return Line(Level.WARNING, LogEvent.SINK_NOTE, fields, limited=True)
    return Line(Level.DEBUG, LogEvent.BATCH_SETTLED, fields)


@TABLE.on(EventsDeadLettered)
def _dead(event: EventsDeadLettered, metrics: Metrics) -> Line:
    for (stream, _), count in event.reasons.items():
        metrics.rejected.labels(event.sink, stream).inc(count)
    worst = max(event.reasons, key=lambda key: event.reasons[key])
    fields = {
        "sink": event.sink,
        "lane": event.lane,
        "events": sum(event.reasons.values()),
        "reason": worst[1],
        "hint": f"{_SHOW} --sink {event.sink}",
    }
    return Line(Level.WARNING, LogEvent.EVENTS_DEAD_LETTERED, fields, limited=True)


@TABLE.on(EventsFiltered)
def _filtered(event: EventsFiltered, metrics: Metrics) -> None:
    metrics.filtered.labels(event.sink, event.stream).inc(event.count)


@TABLE.on(BatchSplit)
def _split(event: BatchSplit, _: Metrics) -> Line:
    fields = {
        "sink": event.sink,
        "reason": event.why,
        "events": event.events,
        "bytes": event.bytes,
        "error": event.error,
    }
    return Line(Level.WARNING, LogEvent.BATCH_SPLIT, fields, limited=True)


@TABLE.on(WriteFailed)
def _write_failed(event: WriteFailed, metrics: Metrics) -> Line:
    metrics.failed_writes.labels(event.sink, event.kind).inc()
    fields = {
        "sink": event.sink,
        "reason": event.kind,
        "events": event.events,
        "error": event.error,
        "hint": event.hint,
    }
    return Line(Level.WARNING, LogEvent.SINK_WRITE_FAILED, fields, limited=True)


@TABLE.on(OpenFailed)
def _open_failed(event: OpenFailed, metrics: Metrics) -> Line:
    metrics.failed_opens.labels(event.sink, event.kind).inc()
    fields = {
        "sink": event.sink,
        "reason": event.kind,
        "error": event.error,
        "hint": event.hint,
        "attempts": event.attempts,
        "retry_in_seconds": round(event.wait, 1),
    }
    return Line(Level.WARNING, LogEvent.SINK_OPEN_FAILED, fields, limited=True)


@TABLE.on(SinkOpened)
def _opened(event: SinkOpened, _: Metrics) -> Line:
    fields = {"sink": event.sink, "seconds": round(event.seconds, 3)}
    return Line(Level.INFO, LogEvent.SINK_OPENED, fields, limited=True)


@TABLE.on(SinkHeld)
def _held(event: SinkHeld, _: Metrics) -> Line:
    return Line(Level.ERROR, LogEvent.SINK_HELD, _trouble(event))


@TABLE.on(SinkWaiting)
def _waiting(event: SinkWaiting, _: Metrics) -> Line:
    return Line(Level.WARNING, LogEvent.SINK_WAITING, _trouble(event))


@TABLE.on(SinkRecovered)
def _recovered(event: SinkRecovered, _: Metrics) -> Line:
    fields = {"sink": event.sink, "after_seconds": round(event.seconds, 1)}
    return Line(Level.INFO, LogEvent.SINK_RECOVERED, fields)


@TABLE.on(SinkThrottled)
def _throttled(event: SinkThrottled, metrics: Metrics) -> Line:
    metrics.throttled.labels(event.sink).inc()
    fields = {
        "sink": event.sink,
        "window": event.window,
        "retry_after_seconds": event.retry_after,
    }
    return Line(Level.INFO, LogEvent.SINK_THROTTLED, fields, limited=True)


@TABLE.on(PhaseChanged)
def _phase(event: PhaseChanged, _: Metrics) -> Line:
    fields = {"sink": event.sink, "before": event.before, "after": event.after}
    return Line(Level.DEBUG, LogEvent.SINK_PHASE, fields)


@TABLE.on(QueueFailed)
def _queue_failed(event: QueueFailed, _: Metrics) -> Line:
    fields = {**_trouble(event), "reason": event.doing}
    return Line(Level.ERROR, LogEvent.JOURNAL_TROUBLED, fields, limited=True)


@TABLE.on(LaneFinished)
def _lane_finished(event: LaneFinished, _: Metrics) -> Line:
    fields = {"sink": event.sink, "lane": event.lane}
    return Line(Level.INFO, LogEvent.LANE_FINISHED, fields)


@TABLE.on(SinkDrained)
def _drained(event: SinkDrained, _: Metrics) -> Line:
    level = Level.WARNING if event.abandoned else Level.INFO
    fields = {
        "sink": event.sink,
        "abandoned_batches": event.abandoned,
        "seconds": round(event.seconds, 1),
    }
    return Line(level, LogEvent.SINK_DRAINED, fields)


def _trouble(event: SinkHeld | SinkWaiting | QueueFailed) -> dict[str, Any]:
    return {"sink": event.sink, "error": event.error, "hint": event.hint}
