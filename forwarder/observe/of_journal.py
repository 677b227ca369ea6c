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
def _opened(happening: GapOpened, metrics: Metrics) -> Line:
    metrics.gaps.labels(happening.reason).inc()
    fields = {
        **scope_fields(happening.scope),
        "reason": happening.reason,
        "from": format_us(happening.since_us),
        "to": format_us(happening.until_us),
        "rows": happening.rows,
        "detail": happening.detail,
        "hint": "forwarder gaps list",
    }
    return Line(Level.ERROR, LogEvent.GAP_OPENED, fields)


@TABLE.on(GapClosed)
def _closed(happening: GapClosed, _: Metrics) -> Line:
    fields = {
        **scope_fields(happening.scope),
        "reason": happening.reason,
        "rows": happening.rows,
    }
    return Line(Level.INFO, LogEvent.GAP_CLOSED, fields)


@TABLE.on(RowsDropped)
def _dropped(happening: RowsDropped, metrics: Metrics) -> Line:
    metrics.dropped.labels(happening.sink, "all").inc(happening.rows)
    fields = {"sink": happening.sink, "rows": happening.rows, "reason": "when_full: drop_oldest"}
    return Line(Level.WARNING, LogEvent.ROWS_DROPPED, fields, limited=True)


@TABLE.on(JournalPruned)
def _pruned(happening: JournalPruned, metrics: Metrics) -> Line:
    metrics.journal_pruned_bytes.inc(happening.bytes)
    fields = {
        "emptied": happening.emptied,
        "removed": happening.removed,
        "bytes": happening.bytes,
    }
    return Line(Level.DEBUG, LogEvent.JOURNAL_PRUNED, fields)


def scope_fields(scope: str) -> dict[str, Any]:
    """Return ``account`` and ``stream``, or ``sink``, out of a gap's scope."""
    if scope.startswith("sink:"):
        return {"sink": scope.removeprefix("sink:")}
    account, _, stream = scope.rpartition("/")
    return {"account": account, "stream": stream}
