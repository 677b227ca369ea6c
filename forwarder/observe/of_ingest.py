"""The pollers' happenings: metric and line."""

from __future__ import annotations

from typing import Any

from forwarder.core.timing import format_us
from forwarder.ingest.events import (
    BackfillMoved,
    FetchFailed,
    FetchRecovered,
    GateMoved,
    PageStored,
    PartJoined,
    PartsChanged,
    RetentionNear,
    RoundEnded,
    RoundStarted,
    StreamEvent,
)
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table

TABLE = Table()


@TABLE.on(PageStored)
def _stored(event: PageStored, metrics: Metrics) -> Line:
    labels = (event.stream, event.account)
    metrics.rows_seen.labels(*labels).inc(event.rows)
    metrics.rows_new.labels(*labels).inc(event.new)
    metrics.rows_duplicate.labels(*labels).inc(event.rows - event.new)
    metrics.rows_reshaped.labels(*labels).inc(event.reshaped)
    metrics.rows_malformed.labels(*labels).inc(event.malformed)
    metrics.rows_timeless.labels(*labels).inc(event.timeless)
    metrics.rows_late.labels(*labels).inc(len(event.late_s))
    for late in event.late_s:
        metrics.lateness.labels(event.stream).observe(late)
    metrics.store_duration.observe(event.stored_s)
    fields = {
        **_of(event),
        "reader": event.reader,
        "rows": event.rows,
        "new": event.new,
    }
    return Line(Level.DEBUG, LogEvent.PAGE_STORED, fields)


@TABLE.on(RoundStarted)
def _round_started(event: RoundStarted, metrics: Metrics) -> None:
    metrics.poll_delay.labels(event.stream).observe(max(0.0, event.late_by_s))


@TABLE.on(RoundEnded)
def _round_ended(event: RoundEnded, metrics: Metrics) -> Line:
    metrics.rounds.labels(event.stream, event.account).inc()
    fields = {
        **_of(event),
        "reader": event.reader,
        "covered_until": format_us(event.covered_until_us),
        "rows": event.rows,
        "seconds": round(event.seconds, 3),
    }
    return Line(Level.DEBUG, LogEvent.ROUND_ENDED, fields)


@TABLE.on(FetchFailed)
def _failed(event: FetchFailed, metrics: Metrics) -> Line:
    kind = "operator" if event.held else "outage"
    metrics.poll_failures.labels(event.stream, event.account, kind).inc()
    fields = {
        **_of(event),
        "reader": event.reader,
        "reason": kind,
        "error": event.error,
        "hint": event.hint,
        "attempt": event.attempt,
        "retry_in_seconds": round(event.wait_s, 1),
    }
    level = Level.ERROR if event.held else Level.WARNING
    name = LogEvent.STREAM_HELD if event.held else LogEvent.POLL_FAILED
    return Line(level, name, fields, limited=True)


@TABLE.on(FetchRecovered)
def _recovered(event: FetchRecovered, _: Metrics) -> Line:
    fields = {
        **_of(event),
        "reader": event.reader,
        "attempts": event.attempts,
        "after_seconds": round(event.seconds, 1),
    }
    return Line(Level.INFO, LogEvent.POLL_RECOVERED, fields)


@TABLE.on(RetentionNear)
def _retention(event: RetentionNear, _: Metrics) -> Line:
    fields = {
        **_of(event),
        "seconds_left": round(event.retention_left_s),
        "hint": "rows that are not read by then are lost; see forwarder status",
    }
    return Line(Level.WARNING, LogEvent.RETENTION_NEAR, fields, limited=True)


@TABLE.on(PartJoined)
def _joined(event: PartJoined, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.PART_JOINED, {**_of(event), "part": event.part})


@TABLE.on(PartsChanged)
def _parts(event: PartsChanged, _: Metrics) -> Line:
    fields = {**_of(event), "added": event.added, "removed": event.removed}
    return Line(Level.INFO, LogEvent.PARTS_CHANGED, fields)


@TABLE.on(GateMoved)
def _gate(event: GateMoved, _: Metrics) -> Line:
    fields = {
        "undelivered_bytes": event.undelivered_bytes,
        "limit_bytes": event.limit_bytes,
    }
    if not event.closed:
        return Line(Level.INFO, LogEvent.GATE_OPENED, fields)
    hint = "a sink is behind: see forwarder status; or raise journal.max_size"
    return Line(Level.ERROR, LogEvent.GATE_CLOSED, {**fields, "hint": hint})


@TABLE.on(BackfillMoved)
def _backfill(event: BackfillMoved, _: Metrics) -> Line:
    fields = {
        **_of(event),
        "lane": event.lane,
        "done_until": format_us(event.done_until_us),
        "until": format_us(event.until_us),
        "rows": event.rows,
    }
    level = Level.INFO if event.ended else Level.DEBUG
    name = LogEvent.BACKFILL_ENDED if event.ended else LogEvent.BACKFILL_MOVED
    return Line(level, name, fields)


def _of(event: StreamEvent) -> dict[str, Any]:
    return {"account": event.account, "stream": event.stream}
