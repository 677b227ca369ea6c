"""Gauges show the snapshot of the moment."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from forwarder.observe.levels import (
    JournalLevels,
    Levels,
    LevelsCollector,
    SinkLevels,
    StreamLevels,
)


def scrape(levels: Levels) -> tuple[CollectorRegistry, str]:
    registry = CollectorRegistry()
    registry.register(LevelsCollector(lambda: levels))
    return registry, generate_latest(registry).decode()


def test_streams_sinks_and_the_journal_are_shown() -> None:
    registry, _ = scrape(
        Levels(
            streams=[StreamLevels("acme", "access_requests", 100.0, 50.0, 90.0)],
            sinks=[SinkLevels("console", 7, 3.5, 80.0, 2)],
            journal=JournalLevels(undelivered=1, stored=2, file=3, limit=4, gate_closed=True),
        )
    )

    stream = {"stream": "access_requests", "account": "acme"}
    value = registry.get_sample_value
    assert value("forwarder_covered_until_timestamp_seconds", stream) == 100
    assert value("forwarder_retention_left_seconds", stream) == 50
    assert value("forwarder_last_poll_success_timestamp_seconds", stream) == 90
    assert value("forwarder_sink_backlog_events", {"sink": "console"}) == 7
    assert value("forwarder_sink_oldest_unacknowledged_seconds", {"sink": "console"}) == 3.5
    assert value("forwarder_sink_last_success_timestamp_seconds", {"sink": "console"}) == 80
    assert value("forwarder_backpressure_active") == 1


def test_the_state_is_one_of_three() -> None:
    registry, _ = scrape(Levels(ready=True, state="degraded"))

    values = {
        state: registry.get_sample_value("forwarder_state", {"state": state})
        for state in ("ready", "degraded", "not_ready")
    }
    assert values == {"ready": 0, "degraded": 1, "not_ready": 0}
    assert registry.get_sample_value("forwarder_ready") == 1


def test_what_is_not_known_yet_is_left_out() -> None:
    registry, _ = scrape(Levels(streams=[StreamLevels("acme", "access_requests")]))

    labels = {"stream": "access_requests", "account": "acme"}
    assert registry.get_sample_value("forwarder_covered_until_timestamp_seconds", labels) is None
