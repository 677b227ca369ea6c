"""Counters that exist from the start, so that their first step is one that `increase()` sees."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from forwarder.core.contracts import FORWARDER_STREAM
from forwarder.observe.metrics import Metrics

GAP_REASONS = (
    "cursor_in_future",
    "cursor_moved",
    "dropped_oldest",
    "identity_provider_refused",
    "instant_unreadable",
    "older_than_retention",
    "sink_was_removed",
)
"""Every reason that a gap can have."""
_TASKS = ("stream", "sink", "backfill", "upkeep", "history", "secrets")
_FAULTS = ("outage", "timeout", "throttled", "operator")


def expect(metrics: Metrics, streams: Iterable[tuple[str, str]], sinks: Iterable[str]) -> None:
    """Let everything begin at zero that these streams (account, stream) and sinks will count.

    Called at the start and after a reload; what has counted already stays as it is.
    """
    known = list(streams)
    for reason in GAP_REASONS:
        metrics.gaps.labels(reason)
    for result in ("applied", "refused"):
        metrics.reloads.labels(result)
    for kind in _TASKS:
        metrics.task_crashes.labels(kind)
    for account, stream in known:
        _expect_stream(metrics, stream, account)
    names = {FORWARDER_STREAM, *(stream for _, stream in known)}
    for sink in sinks:
        _expect_sink(metrics, sink, names)


def _expect_stream(metrics: Metrics, stream: str, account: str) -> None:
    for counter in (
        metrics.rows_seen,
        metrics.rows_new,
        metrics.rows_duplicate,
        metrics.rows_late,
        metrics.rows_reshaped,
        metrics.rows_malformed,
        metrics.rows_timeless,
        metrics.rounds,
    ):
        counter.labels(stream, account)
    for kind in ("outage", "operator"):
        metrics.poll_failures.labels(stream, account, kind)
    metrics.lateness.labels(stream)
    metrics.api_throttled.labels(account)


def _expect_sink(metrics: Metrics, sink: str, streams: Iterable[str]) -> None:
    counters = (metrics.delivered, metrics.rejected, metrics.deferred, metrics.filtered)
    for counter, stream in product(counters, streams):
        counter.labels(sink, stream)
    metrics.dropped.labels(sink, "all")
    for counter in (metrics.retried, metrics.sent_bytes, metrics.throttled):
        counter.labels(sink)
    for counter, kind in product((metrics.failed_writes, metrics.failed_opens), _FAULTS):
        counter.labels(sink, kind)
