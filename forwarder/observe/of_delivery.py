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
def _settled(happening: BatchSettled, metrics: Metrics) -> Line:
    sink = happening.sink
    for counter, counts in (
        (metrics.delivered, happening.delivered),
        (metrics.deferred, happening.deferred),
    ):
        for stream, count in counts.items():
            counter.labels(sink, stream).inc(count)
    metrics.retried.labels(sink).inc(happening.retried)
    metrics.batch_events.labels(sink).observe(happening.events)
    metrics.sent_bytes.labels(sink).inc(happening.bytes)
    metrics.write_duration.labels(sink).observe(happening.seconds)
    for since, ages in (("event", happening.ages), ("seen", happening.seen_ages)):
        metrics.latency.add((sink, since), ages.counts, ages.total)
    fields: dict[str, Any] = {
        "sink": sink,
        "lane": happening.lane,
        "events": happening.events,
        "bytes": happening.bytes,
        "seconds": round(happening.seconds, 3),
    }
    if happening.notes:
        fields |= {"notes": list(happening.notes), "code": happening.notes[0].partition(":")[0]}
        return Line(Level.WARNING, LogEvent.SINK_NOTE, fields, limited=True)
    return Line(Level.DEBUG, LogEvent.BATCH_SETTLED, fields)


@TABLE.on(EventsDeadLettered)
def _dead(happening: EventsDeadLettered, metrics: Metrics) -> Line:
    for (stream, _), count in happening.reasons.items():
        metrics.rejected.labels(happening.sink, stream).inc(count)
    worst = max(happening.reasons, key=lambda key: happening.reasons[key])
    fields = {
        "sink": happening.sink,
        "lane": happening.lane,
        "events": sum(happening.reasons.values()),
        "reason": worst[1],
        "hint": f"{_SHOW} --sink {happening.sink}",
    }
    return Line(Level.WARNING, LogEvent.EVENTS_DEAD_LETTERED, fields, limited=True)


@TABLE.on(EventsFiltered)
def _filtered(happening: EventsFiltered, metrics: Metrics) -> None:
    metrics.filtered.labels(happening.sink, happening.stream).inc(happening.count)


@TABLE.on(BatchSplit)
def _split(happening: BatchSplit, _: Metrics) -> Line:
    fields = {
        "sink": happening.sink,
        "reason": happening.why,
        "events": happening.events,
        "bytes": happening.bytes,
        "error": happening.error,
    }
    return Line(Level.WARNING, LogEvent.BATCH_SPLIT, fields, limited=True)


@TABLE.on(WriteFailed)
def _write_failed(happening: WriteFailed, metrics: Metrics) -> Line:
    metrics.failed_writes.labels(happening.sink, happening.kind).inc()
    fields = {
        "sink": happening.sink,
        "reason": happening.kind,
        "events": happening.events,
        "error": happening.error,
        "hint": happening.hint,
    }
    return Line(Level.WARNING, LogEvent.SINK_WRITE_FAILED, fields, limited=True)


@TABLE.on(OpenFailed)
def _open_failed(happening: OpenFailed, metrics: Metrics) -> Line:
    metrics.failed_opens.labels(happening.sink, happening.kind).inc()
    fields = {
        "sink": happening.sink,
        "reason": happening.kind,
        "error": happening.error,
        "hint": happening.hint,
        "attempts": happening.attempts,
        "retry_in_seconds": round(happening.wait, 1),
    }
    return Line(Level.WARNING, LogEvent.SINK_OPEN_FAILED, fields, limited=True)


@TABLE.on(SinkOpened)
def _opened(happening: SinkOpened, _: Metrics) -> Line:
    fields = {"sink": happening.sink, "seconds": round(happening.seconds, 3)}
    return Line(Level.INFO, LogEvent.SINK_OPENED, fields, limited=True)


@TABLE.on(SinkHeld)
def _held(happening: SinkHeld, _: Metrics) -> Line:
    return Line(Level.ERROR, LogEvent.SINK_HELD, _trouble(happening))


@TABLE.on(SinkWaiting)
def _waiting(happening: SinkWaiting, _: Metrics) -> Line:
    return Line(Level.WARNING, LogEvent.SINK_WAITING, _trouble(happening))


@TABLE.on(SinkRecovered)
def _recovered(happening: SinkRecovered, _: Metrics) -> Line:
    fields = {"sink": happening.sink, "after_seconds": round(happening.seconds, 1)}
    return Line(Level.INFO, LogEvent.SINK_RECOVERED, fields)


@TABLE.on(SinkThrottled)
def _throttled(happening: SinkThrottled, metrics: Metrics) -> Line:
    metrics.throttled.labels(happening.sink).inc()
    fields = {
        "sink": happening.sink,
        "window": happening.window,
        "retry_after_seconds": happening.retry_after,
    }
    return Line(Level.INFO, LogEvent.SINK_THROTTLED, fields, limited=True)


@TABLE.on(PhaseChanged)
def _phase(happening: PhaseChanged, _: Metrics) -> Line:
    fields = {"sink": happening.sink, "before": happening.before, "after": happening.after}
    return Line(Level.DEBUG, LogEvent.SINK_PHASE, fields)


@TABLE.on(QueueFailed)
def _queue_failed(happening: QueueFailed, _: Metrics) -> Line:
    fields = {**_trouble(happening), "reason": happening.doing}
    return Line(Level.ERROR, LogEvent.JOURNAL_TROUBLED, fields, limited=True)


@TABLE.on(LaneFinished)
def _lane_finished(happening: LaneFinished, _: Metrics) -> Line:
    fields = {"sink": happening.sink, "lane": happening.lane}
    return Line(Level.INFO, LogEvent.LANE_FINISHED, fields)


@TABLE.on(SinkDrained)
def _drained(happening: SinkDrained, _: Metrics) -> Line:
    level = Level.WARNING if happening.abandoned else Level.INFO
    fields = {
        "sink": happening.sink,
        "abandoned_batches": happening.abandoned,
        "seconds": round(happening.seconds, 1),
    }
    return Line(level, LogEvent.SINK_DRAINED, fields)


def _trouble(happening: SinkHeld | SinkWaiting | QueueFailed) -> dict[str, Any]:
    return {"sink": happening.sink, "error": happening.error, "hint": happening.hint}
