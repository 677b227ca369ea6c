"""Every counter and histogram, declared once.

Names follow ``forwarder_<what>_<unit>``; labels are bounded by the settings (accounts, streams,
sinks) or by a list in the code. Account and sink never meet on one metric.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from forwarder.core.contracts import FORWARDER_STREAM
from forwarder.delivery.outgoing import AGE_BOUNDS

GAP_REASONS = (
    "cursor_in_future",
    "cursor_moved",
    "dropped_oldest",
    "expected_refusals",
    "identity_provider_refused",
    "instant_unreadable",
    "lane_cancelled",
    "older_than_retention",
    "push_unreadable",
    "replay_dropped",
    "sink_was_removed",
)
"""Every reason that a gap can have."""
TAKEOVERS = RELEASED, EXPIRED = ("released", "expired")
"""How a shard became free: its owner gave it back, or its lease ended."""
PUSH_RESULTS = (
    "accepted",
    "duplicate",
    "validation",
    "passed_on",
    "refused_secret",
    "refused_peer",
    "refused_network",
    "refused_account",
    "refused_size",
    "refused_encoding",
    "incomplete",
    "gate_closed",
    "no_owner",
    "failed",
)
"""Every way in which a push can end."""
# The part of a task's name before the colon, as the supervisor and the cell give them.
_TASKS = (
    *("stream", "sink", "backfill", "upkeep", "history"),
    *("secrets", "settings", "token", "requests"),
)
_FAULTS = ("outage", "timeout", "throttled", "operator")

# Up to a day: the retention of Cloudflare's smallest plan, beyond which no row can come late.
_LATENESS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_REQUEST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMMIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From the single events of a quiet tenant to the largest batches of a catch-up.
_BATCH = (1, 5, 10, 50, 100, 500, 1000, 5000, 10_000)

_STREAM = ("stream", "account")
_SINK = ("sink",)
_SINK_STREAM = ("sink", "stream")
_PUSH = ("account", "dataset")


def summed(metric: Counter | Gauge, *labels: str) -> dict[str, float]:
    """Return the sums of a counter or gauge by some of its labels, whose values a slash parts."""
    sums: dict[str, float] = {}
    for family in metric.collect():
        for sample in family.samples:
            # A counter may also have a sample with the time of its creation.
            if not sample.name.endswith("_created"):
                name = "/".join(sample.labels[label] for label in labels)
                sums[name] = sums.get(name, 0.0) + sample.value
    return sums


class _Sums:
    """One series of a ``CountedHistogram``: a count for each bucket and the sum of all values."""

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0

    def add(self, counts: Sequence[int], total: float) -> None:
        self.counts = [have + more for have, more in zip(self.counts, counts, strict=True)]
        self.total += total


class CountedHistogram(Collector):
    """A histogram that takes counts between fixed bounds, a whole batch at once.

    The library's own histogram takes one value a call, which costs more than delivering an event.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Declare it; ``bounds`` are upper bounds, with one bucket more beyond the last."""
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._sums: dict[tuple[str, ...], _Sums] = {}
        registry.register(self)

    def observe(self, labels: Sequence[str], counts: Sequence[int], total: float) -> None:
        """Add the counts of one batch and the sum of its values."""
        series = tuple(labels)
        if series not in self._sums:
            self._sums[series] = _Sums(len(self._bounds))
        self._sums[series].add(counts, total)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram; called by prometheus_client."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, sums in self._sums.items():
            # In Prometheus a bucket counts everything up to its bound, not what lies between two.
            buckets = list(zip(self._bounds, accumulate(sums.counts), strict=True))
            family.add_metric(labels, buckets, sums.total)
        yield family

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Name the histogram without reading values."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)


class Metrics:
    """The counters and histograms of one process, in a registry of their own."""

    def __init__(self) -> None:
        """Declare every counter and histogram."""
        # Not the library's global registry: tests run several daemons in one process.
        self.registry = CollectorRegistry()
        self._declare_process()
        self._declare_ends()
        self._declare_streams()
        self._declare_api()
        self._declare_logpush()
        self._declare_sinks()

    @property
    def collectors(self) -> list[Any]:
        """Return every counter, gauge and histogram."""
        return [found for found in vars(self).values() if found is not self.registry]

    def _declare_process(self) -> None:
        self.build = Info("forwarder_build", "Version of the program.", registry=self.registry)
        self.config = Info(
            "forwarder_config", "Hash of the settings in force.", registry=self.registry
        )
        self.reloads = self._counter(
            "forwarder_config_reloads_total", "Reloads of the settings.", ("result",)
        )
        self.task_crashes = self._counter(
            "forwarder_task_crashes_total",
            "Crashes of a task, each followed by a restart.",
            ("kind",),
        )
        self.gaps = self._counter(
            "forwarder_gaps_total", "Gaps opened: rows were, or may have been, lost.", ("reason",)
        )
        self.notices = self._counter(
            "forwarder_plugin_notices_total", "What plugins reported, by name.", ("notice",)
        )
        self.library_warnings = self._counter(
            "forwarder_library_warnings_total", "Warnings logged by libraries.", ()
        )
        self.log_lines_dropped = self._counter(
            "forwarder_log_lines_dropped_total", "Log lines that standard error did not take.", ()
        )
        self.journal_pruned_bytes = self._counter(
            "forwarder_journal_pruned_bytes_total", "Bytes of delivered rows that made room.", ()
        )
        self.commit_duration = self._histogram(
            "forwarder_journal_commit_seconds", "Time of a write transaction.", (), _COMMIT
        )
        self.takeovers = self._counter(
            "forwarder_takeovers_total",
            "Shards that this replica took; expired: their owner never gave them back.",
            ("reason",),
        )
        self.fenced = self._counter(
            "forwarder_fenced_total", "Shards that this replica lost while it worked on them.", ()
        )

    def _declare_ends(self) -> None:
        self.token_expires = self._gauge(
            "forwarder_token_expires_timestamp_seconds",
            "When the account's API token ends; nothing if Cloudflare names no end.",
            ("account",),
        )
        self.certificate_expires = self._gauge(
            "forwarder_certificate_expires_timestamp_seconds",
            "When a certificate expires: theirs, as a sink has last seen it, or ours.",
            ("where", "side"),
        )
        self.certificate_valid_from = self._gauge(
            "forwarder_certificate_valid_from_timestamp_seconds",
            "When its validity begins.",
            ("where", "side"),
        )

    def _declare_streams(self) -> None:
        rows = "forwarder_rows_{}_total"
        self.rows_seen = self._counter(
            rows.format("seen"), "Rows in answers of the API, seen before or not.", _STREAM
        )
        self.rows_new = self._counter(
            rows.format("new"), "Rows stored for the first time.", _STREAM
        )
        self.rows_duplicate = self._counter(
            rows.format("duplicate"), "Rows that were stored before.", _STREAM
        )
        self.rows_late = self._counter(
            rows.format("late"), "New rows that appeared after their time had been read.", _STREAM
        )
        self.rows_reshaped = self._counter(
            rows.format("reshaped"), "Known rows that came again with more keys.", _STREAM
        )
        self.rows_malformed = self._counter(
            rows.format("malformed"), "Rows that could not be read and were kept as text.", _STREAM
        )
        self.rows_timeless = self._counter(
            rows.format("timeless"), "Rows without a usable time of their own.", _STREAM
        )
        self.rows_amended = self._counter(
            rows.format("amended"), "Known rows that came again with other content.", _STREAM
        )
        self.rounds = self._counter(
            "forwarder_rounds_total", "Windows that were read to their end.", _STREAM
        )
        self.poll_delay = self._histogram(
            "forwarder_poll_delay_seconds", "How late polls start.", ("stream",), _REQUEST
        )
        self.store_duration = self._histogram(
            "forwarder_store_duration_seconds", "From an answer to its commit.", (), _REQUEST
        )
        self.lateness = self._histogram(
            "forwarder_row_lateness_seconds", "How late late rows were.", ("stream",), _LATENESS
        )
        self.poll_failures = self._counter(
            "forwarder_poll_failures_total", "Polls that failed.", (*_STREAM, "kind")
        )

    def _declare_api(self) -> None:
        self.api_requests = self._counter(
            "forwarder_api_requests_total",
            "Requests to the API; outcome is 2xx to 5xx, or none without an answer.",
            ("account", "endpoint", "outcome"),
        )
        self.api_duration = self._histogram(
            "forwarder_api_request_duration_seconds", "Time to an answer.", ("endpoint",), _REQUEST
        )
        self.api_budget = self._gauge(
            "forwarder_api_budget_left_requests", "Requests that may go at once.", ("account",)
        )
        self.api_budget_wait = self._gauge(
            "forwarder_api_budget_wait_seconds",
            "How long a live request has been waiting for the budget; 0 if for less than minutes.",
            ("account",),
        )
        self.api_throttled = self._counter(
            "forwarder_api_throttled_seconds_total",
            "Seconds waited for the request budget.",
            ("account",),
        )

    def _declare_logpush(self) -> None:
        self.logpush_requests = self._counter(
            "forwarder_logpush_requests_total", "Requests to the receiver, answered.", ("result",)
        )
        self.logpush_bytes = self._counter(
            "forwarder_logpush_bytes_total", "Bytes of stored bodies as they were sent.", ()
        )
        self.logpush_last_push = self._gauge(
            "forwarder_logpush_last_push_timestamp_seconds", "When a body was last stored.", _PUSH
        )
        self.logpush_oldest_row = self._gauge(
            "forwarder_logpush_oldest_row_seconds",
            "Age of the oldest row in the last body, when it was stored.",
            _PUSH,
        )

    def _declare_sinks(self) -> None:
        events = "forwarder_sink_{}_events_total"
        self.delivered = self._counter(
            events.format("delivered"), "Events the destination acknowledged.", _SINK_STREAM
        )
        self.rejected = self._counter(
            events.format("rejected"), "Events given up and kept as dead letters.", _SINK_STREAM
        )
        self.expected_refusals = self._counter(
            events.format("expected_refusal"),
            "Events refused as expected; kept while there is room.",
            _SINK_STREAM,
        )
        self.filtered = self._counter(
            events.format("filtered"), "Events left out by only and except.", _SINK_STREAM
        )
        self.deferred = self._counter(
            events.format("deferred"), "Events the destination asked to send later.", _SINK_STREAM
        )
        self.dropped = self._counter(
            events.format("dropped"), "Events that a best-effort sink lost to room.", _SINK_STREAM
        )
        self.unconfirmed = self._counter(
            events.format("unconfirmed"), "Events sent where nobody acknowledges.", _SINK
        )
        self.retried = self._counter(
            events.format("retried"), "Events in batches that had been sent before.", _SINK
        )
        self.sent_bytes = self._counter(
            "forwarder_sink_sent_bytes_total", "Bytes of the bodies in answered batches.", _SINK
        )
        self.throttled = self._counter(
            "forwarder_sink_throttled_total", "Requests of the destination to send less.", _SINK
        )
        self.failed_writes = self._counter(
            "forwarder_sink_failed_writes_total", "Batches without an answer.", (*_SINK, "kind")
        )
        self.failed_opens = self._counter(
            "forwarder_sink_failed_opens_total", "Failed attempts to connect.", (*_SINK, "kind")
        )
        self._declare_writes()

    def _declare_writes(self) -> None:
        self.batch_events = self._histogram(
            "forwarder_sink_batch_events", "Events in a batch.", _SINK, _BATCH
        )
        self.write_duration = self._histogram(
            "forwarder_sink_write_duration_seconds", "Time of a write.", _SINK, _REQUEST
        )
        self.latency = CountedHistogram(
            "forwarder_sink_latency_seconds",
            "To the acknowledgement: from the row's own time (event), from first sight (seen).",
            (*_SINK, "since"),
            AGE_BOUNDS,
            self.registry,
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


def expect(metrics: Metrics, streams: Iterable[tuple[str, str]], sinks: Iterable[str]) -> None:
    """Start every counter of these streams (account, stream) and sinks at zero.

    Without this, ``increase()`` misses a counter's first step, since a series that appears with
    the value 1 has not increased. Called at the start and after a reload; existing counts stay.
    """
    known = list(streams)
    for reason in GAP_REASONS:
        metrics.gaps.labels(reason)
    for result in ("applied", "refused"):
        metrics.reloads.labels(result)
    for reason in TAKEOVERS:
        metrics.takeovers.labels(reason)
    for result in PUSH_RESULTS:
        metrics.logpush_requests.labels(result)
    for kind in _TASKS:
        metrics.task_crashes.labels(kind)
    for account, stream in known:
        _expect_stream(metrics, stream, account)
    names = {FORWARDER_STREAM, *(stream for _, stream in known)}
    configured = list(sinks)
    for sink in configured:
        _expect_sink(metrics, sink, names)
    _forget_certificates(metrics, {f"sink {sink}" for sink in configured})


def _forget_certificates(metrics: Metrics, sinks: Collection[str]) -> None:
    """Remove those of sinks that are gone: nobody would see them renewed."""
    for gauge in (metrics.certificate_expires, metrics.certificate_valid_from):
        for sample in [sample for family in gauge.collect() for sample in family.samples]:
            where = sample.labels["where"]
            if where.startswith("sink ") and where not in sinks:
                gauge.remove(where, sample.labels["side"])


def _expect_stream(metrics: Metrics, stream: str, account: str) -> None:
    for counter in (
        metrics.rows_seen,
        metrics.rows_new,
        metrics.rows_duplicate,
        metrics.rows_late,
        metrics.rows_reshaped,
        metrics.rows_malformed,
        metrics.rows_timeless,
        metrics.rows_amended,
        metrics.rounds,
    ):
        counter.labels(stream, account)
    for kind in ("outage", "operator"):
        metrics.poll_failures.labels(stream, account, kind)
    metrics.lateness.labels(stream)
    metrics.api_throttled.labels(account)
    metrics.api_budget_wait.labels(account)


def _expect_sink(metrics: Metrics, sink: str, streams: Iterable[str]) -> None:
    counters = (
        metrics.delivered,
        metrics.rejected,
        metrics.expected_refusals,
        metrics.deferred,
        metrics.filtered,
    )
    for counter, stream in product(counters, streams):
        counter.labels(sink, stream)
    # What is dropped is counted by page, before anybody looks at the rows' streams.
    metrics.dropped.labels(sink, "all")
    for counter in (metrics.retried, metrics.sent_bytes, metrics.throttled):
        counter.labels(sink)
    for counter, kind in product((metrics.failed_writes, metrics.failed_opens), _FAULTS):
        counter.labels(sink, kind)
