"""Gauges: the current state, read from one snapshot at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

STATES = ("ready", "degraded", "not_ready")
"""What ``forwarder_state`` and /status say of the whole; degraded is still ready."""


@dataclass(frozen=True, slots=True)
class StreamLevels:
    """One stream; times are seconds since 1970, None where nothing is known yet."""

    account: str
    stream: str
    covered_until: float | None = None
    retention_left: float | None = None
    last_success: float | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class SinkLevels:
    """One sink; ``oldest_unacknowledged`` is an age in seconds, zero without a backlog."""

    sink: str
    backlog_events: int = 0
    oldest_unacknowledged: float = 0.0
    last_success: float | None = None
    in_flight: int = 0
    dead_letters: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class JournalLevels:
    """The journal; sizes in bytes, ``rows`` are those whose bodies are kept."""

    undelivered: int = 0
    stored: int = 0
    file: int = 0
    limit: int = 0
    gate_closed: bool = False
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Levels:
    """All gauges of one moment."""

    streams: Sequence[StreamLevels] = ()
    sinks: Sequence[SinkLevels] = ()
    journal: JournalLevels = JournalLevels()
    ready: bool = False
    state: str = "not_ready"
    settings_refused: bool = False
    settings_need_restart: bool = False


class LevelsCollector(Collector):
    """Turns the newest snapshot into gauges."""

    def __init__(self, current: Callable[[], Levels]) -> None:
        """Call ``current`` at every scrape; it must not block."""
        self._current = current

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges; called by prometheus_client."""
        levels = self._current()
        yield GaugeMetricFamily(
            "forwarder_ready", "1 when /readyz says so.", value=float(levels.ready)
        )
        yield _state(levels.state)
        yield GaugeMetricFamily(
            "forwarder_settings_refused",
            "1 while the settings file has faults and older settings stay in force.",
            value=float(levels.settings_refused),
        )
        yield GaugeMetricFamily(
            "forwarder_settings_need_restart",
            "1 while some settings in the file wait for a restart.",
            value=float(levels.settings_need_restart),
        )
        yield from _streams(levels.streams)
        yield from _sinks(levels.sinks)
        yield from _journal(levels.journal)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name nothing in advance, so that registering needs no snapshot."""
        return iter(())


def _state(current: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "forwarder_state",
        "1 for the state that /status gives, 0 for the others.",
        labels=("state",),
    )
    for state in STATES:
        family.add_metric((state,), float(state == current))
    return family


def _streams(streams: Sequence[StreamLevels]) -> Iterator[GaugeMetricFamily]:
    gauges = (
        ("forwarder_covered_until_timestamp_seconds", "All rows up to then have been read."),
        (
            "forwarder_retention_left_seconds",
            "Time until rows that were not read yet expire at Cloudflare.",
        ),
        ("forwarder_last_poll_success_timestamp_seconds", "When a poll last succeeded."),
        ("forwarder_stream_held", "1 while only a person can fix what is wrong."),
    )
    families = [GaugeMetricFamily(*gauge, labels=("stream", "account")) for gauge in gauges]
    for one in streams:
        values = (one.covered_until, one.retention_left, one.last_success, float(one.held))
        _add(families, (one.stream, one.account), values)
    yield from families


def _sinks(sinks: Sequence[SinkLevels]) -> Iterator[GaugeMetricFamily]:
    gauges = (
        ("forwarder_sink_backlog_events", "Events in the journal that wait for the sink."),
        (
            "forwarder_sink_oldest_unacknowledged_seconds",
            "Age of the oldest event that waits for the sink.",
        ),
        ("forwarder_sink_last_success_timestamp_seconds", "When a write last succeeded."),
        ("forwarder_sink_in_flight_batches", "Batches sent and not acknowledged."),
        ("forwarder_sink_dead_letters", "Events given up and kept."),
        ("forwarder_sink_held", "1 while only a person can fix what is wrong."),
    )
    families = [GaugeMetricFamily(*gauge, labels=("sink",)) for gauge in gauges]
    for one in sinks:
        values = (
            float(one.backlog_events),
            one.oldest_unacknowledged,
            one.last_success,
            float(one.in_flight),
            float(one.dead_letters),
            float(one.held),
        )
        _add(families, (one.sink,), values)
    yield from families


def _journal(journal: JournalLevels) -> Iterator[GaugeMetricFamily]:
    gauges = (
        (
            "undelivered_bytes",
            "Bytes of rows that a blocking sink still needs.",
            journal.undelivered,
        ),
        ("stored_bytes", "Bytes of all rows kept.", journal.stored),
        ("file_bytes", "Size of the journal's file.", journal.file),
        ("limit_bytes", "journal.max_size.", journal.limit),
        ("stored_rows", "Rows kept, delivered ones until they are pruned.", journal.rows),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(f"forwarder_journal_{name}", text, value=float(value))
    yield GaugeMetricFamily(
        "forwarder_backpressure_active",
        "1 while the journal is full and polling waits.",
        value=float(journal.gate_closed),
    )


def _add(
    families: Sequence[GaugeMetricFamily],
    labels: Sequence[str],
    values: Sequence[float | None],
) -> None:
    for family, value in zip(families, values, strict=True):
        if value is not None:
            family.add_metric(labels, value)
