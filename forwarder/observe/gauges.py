"""Gauges: the current state, read again at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

STATES = ("ready", "degraded", "not_ready")
"""What ``forwarder_state`` and /status say of the whole; degraded is still ready."""
Sample: TypeAlias = tuple[str, tuple[str, ...], float | None]
"""The name of one of ``GAUGES``, the values of its labels, and its value; None is not shown."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge as Prometheus sees it."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


_STREAM = ("stream", "account")
_SINK = ("sink",)
_PERSON = "1 while only a person can fix what is wrong."
GAUGES = (
    Gauge("forwarder_ready", "1 when /readyz says so."),
    Gauge("forwarder_state", "1 for the state in /status, 0 for the others.", ("state",)),
    Gauge("forwarder_started_timestamp_seconds", "When this process started."),
    Gauge("forwarder_settings_refused", "1 while the settings file has faults and is not used."),
    Gauge("forwarder_settings_need_restart", "1 while some settings wait for a restart."),
    Gauge("forwarder_shard_owned", "1 if this replica works on the shard.", ("shard",)),
    Gauge("forwarder_shard_epoch", "How often the shard has changed hands.", ("shard",)),
    Gauge("forwarder_replicas", "Replicas that live, by the judgement of the database."),
    Gauge("forwarder_covered_until_timestamp_seconds", "Rows up to then have been read.", _STREAM),
    Gauge("forwarder_retention_left_seconds", "Time until rows not read yet expire.", _STREAM),
    Gauge("forwarder_last_poll_success_timestamp_seconds", "When a poll last succeeded.", _STREAM),
    Gauge("forwarder_stream_held", _PERSON, _STREAM),
    Gauge("forwarder_sink_backlog_events", "Events in the journal that wait for the sink.", _SINK),
    Gauge("forwarder_sink_oldest_unacknowledged_seconds", "Age of the oldest one waiting.", _SINK),
    Gauge("forwarder_sink_last_success_timestamp_seconds", "When a write last succeeded.", _SINK),
    Gauge("forwarder_sink_in_flight_batches", "Batches sent and not acknowledged.", _SINK),
    Gauge("forwarder_sink_dead_letters", "Events given up and kept.", _SINK),
    Gauge("forwarder_sink_held", _PERSON, _SINK),
    Gauge("forwarder_journal_undelivered_bytes", "Bytes of rows that a blocking sink still needs."),
    Gauge("forwarder_journal_stored_bytes", "Bytes of all rows kept."),
    Gauge("forwarder_journal_file_bytes", "Size of the journal's file."),
    Gauge("forwarder_journal_limit_bytes", "journal.max_size."),
    Gauge("forwarder_journal_stored_rows", "Rows kept, delivered ones until they are pruned."),
    Gauge("forwarder_backpressure_active", "1 while the journal is full and polling waits."),
)


class GaugeCollector(Collector):
    """Shows the samples of one moment as gauges."""

    def __init__(self, current: Callable[[], Iterable[Sample]]) -> None:
        """Call ``current`` at every scrape; it must not block."""
        self._current = current

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges; called by prometheus_client."""
        families = {
            one.name: GaugeMetricFamily(one.name, one.text, labels=one.labels) for one in GAUGES
        }
        for name, labels, value in self._current():
            # A zero would claim what nobody knows: that rows up to 1970 have been read.
            if value is not None:
                families[name].add_metric(labels, value)
        yield from families.values()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing in advance, so that registering needs no samples."""
        return iter(())
