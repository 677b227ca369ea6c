"""The pollers' happenings: metric and line."""

from __future__ import annotations

from typing import Any

from forwarder.core.timing import format_us
from forwarder.ingest.events import (
    BackfillMoved,
    FetchFailed,
    FetchRecovered,
    GateMoved,
    OfStream,
    PageStored,
    PartJoined,
    PartsChanged,
    RetentionNear,
    RoundEnded,
    RoundStarted,
)
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table

TABLE = Table()


@TABLE.on(PageStored)
def _stored(happening: PageStored, metrics: Metrics) -> Line:
    labels = (happening.stream, happening.account)
    metrics.rows_seen.labels(*labels).inc(happening.rows)
    metrics.rows_new.labels(*labels).inc(happening.new)
    metrics.rows_duplicate.labels(*labels).inc(happening.rows - happening.new)
    metrics.rows_reshaped.labels(*labels).inc(happening.reshaped)
    metrics.rows_malformed.labels(*labels).inc(happening.malformed)
    metrics.rows_timeless.labels(*labels).inc(happening.timeless)
    metrics.rows_late.labels(*labels).inc(len(happening.late_s))
    for late in happening.late_s:
        metrics.lateness.labels(happening.stream).observe(late)
    metrics.store_duration.observe(happening.stored_s)
    fields = {
        **_of(happening),
        "reader": happening.reader,
        "rows": happening.rows,
        "new": happening.new,
    }
    return Line(Level.DEBUG, LogEvent.PAGE_STORED, fields)


@TABLE.on(RoundStarted)
def _round_started(happening: RoundStarted, metrics: Metrics) -> None:
    metrics.poll_delay.labels(happening.stream).observe(max(0.0, happening.late_by_s))


@TABLE.on(RoundEnded)
def _round_ended(happening: RoundEnded, metrics: Metrics) -> Line:
    metrics.rounds.labels(happening.stream, happening.account).inc()
    fields = {
        **_of(happening),
        "reader": happening.reader,
        "covered_until": format_us(happening.covered_until_us),
        "rows": happening.rows,
        "seconds": round(happening.seconds, 3),
    }
    return Line(Level.DEBUG, LogEvent.ROUND_ENDED, fields)


@TABLE.on(FetchFailed)
def _failed(happening: FetchFailed, metrics: Metrics) -> Line:
    kind = "operator" if happening.held else "outage"
    metrics.poll_failures.labels(happening.stream, happening.account, kind).inc()
    fields = {
        **_of(happening),
        "reader": happening.reader,
        "reason": kind,
        "error": happening.error,
        "hint": happening.hint,
        "attempt": happening.attempt,
        "retry_in_seconds": round(happening.wait_s, 1),
    }
    level = Level.ERROR if happening.held else Level.WARNING
    event = LogEvent.STREAM_HELD if happening.held else LogEvent.POLL_FAILED
    return Line(level, event, fields, limited=True)


@TABLE.on(FetchRecovered)
def _recovered(happening: FetchRecovered, _: Metrics) -> Line:
    fields = {
        **_of(happening),
        "reader": happening.reader,
        "attempts": happening.attempts,
        "after_seconds": round(happening.seconds, 1),
    }
    return Line(Level.INFO, LogEvent.POLL_RECOVERED, fields)


@TABLE.on(RetentionNear)
def _retention(happening: RetentionNear, _: Metrics) -> Line:
    fields = {
        **_of(happening),
        "seconds_left": round(happening.retention_left_s),
        "hint": "rows that are not read by then are lost; see forwarder status",
    }
    return Line(Level.WARNING, LogEvent.RETENTION_NEAR, fields, limited=True)


@TABLE.on(PartJoined)
def _joined(happening: PartJoined, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.PART_JOINED, {**_of(happening), "part": happening.part})


@TABLE.on(PartsChanged)
def _parts(happening: PartsChanged, _: Metrics) -> Line:
    fields = {**_of(happening), "added": happening.added, "removed": happening.removed}
    return Line(Level.INFO, LogEvent.PARTS_CHANGED, fields)


@TABLE.on(GateMoved)
def _gate(happening: GateMoved, _: Metrics) -> Line:
    fields = {
        "undelivered_bytes": happening.undelivered_bytes,
        "limit_bytes": happening.limit_bytes,
    }
    if not happening.closed:
        return Line(Level.INFO, LogEvent.GATE_OPENED, fields)
    hint = "a sink is behind: see forwarder status; or raise journal.max_size"
    return Line(Level.ERROR, LogEvent.GATE_CLOSED, {**fields, "hint": hint})


@TABLE.on(BackfillMoved)
def _backfill(happening: BackfillMoved, _: Metrics) -> Line:
    fields = {
        **_of(happening),
        "lane": happening.lane,
        "done_until": format_us(happening.done_until_us),
        "until": format_us(happening.until_us),
        "rows": happening.rows,
    }
    level = Level.INFO if happening.ended else Level.DEBUG
    event = LogEvent.BACKFILL_ENDED if happening.ended else LogEvent.BACKFILL_MOVED
    return Line(level, event, fields)


def _of(happening: OfStream) -> dict[str, Any]:
    return {"account": happening.account, "stream": happening.stream}
