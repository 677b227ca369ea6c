"""The journal's happenings: metric and line."""

from __future__ import annotations

from typing import Any

from forwarder.core.timing import format_us
from forwarder.journal.events import GapClosed, GapOpened, JournalPruned, RowsDropped
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table

TABLE = Table()


@TABLE.on(GapOpened)
def _opened(event: GapOpened, metrics: Metrics) -> Line:
    metrics.gaps.labels(event.reason).inc()
    fields = {
        **scope_fields(event.scope),
        "reason": event.reason,
        "from": format_us(event.since_us),
        "to": format_us(event.until_us),
        "rows": event.rows,
        "detail": event.detail,
        "hint": "forwarder gaps list",
    }
    return Line(Level.ERROR, LogEvent.GAP_OPENED, fields)


@TABLE.on(GapClosed)
def _closed(event: GapClosed, _: Metrics) -> Line:
    fields = {
        **scope_fields(event.scope),
        "reason": event.reason,
        "rows": event.rows,
    }
    return Line(Level.INFO, LogEvent.GAP_CLOSED, fields)


@TABLE.on(RowsDropped)
def _dropped(event: RowsDropped, metrics: Metrics) -> Line:
    metrics.dropped.labels(event.sink, "all").inc(event.rows)
    fields = {"sink": event.sink, "rows": event.rows, "reason": "when_full: drop_oldest"}
    return Line(Level.WARNING, LogEvent.ROWS_DROPPED, fields, limited=True)


@TABLE.on(JournalPruned)
def _pruned(event: JournalPruned, metrics: Metrics) -> Line:
    metrics.journal_pruned_bytes.inc(event.bytes)
    fields = {
        "emptied": event.emptied,
        "removed": event.removed,
        "bytes": event.bytes,
    }
    return Line(Level.DEBUG, LogEvent.JOURNAL_PRUNED, fields)


def scope_fields(scope: str) -> dict[str, Any]:
    """Return ``account`` and ``stream``, or ``sink``, out of a gap's scope."""
    if scope.startswith("sink:"):
        return {"sink": scope.removeprefix("sink:")}
    account, _, stream = scope.rpartition("/")
    return {"account": account, "stream": stream}
