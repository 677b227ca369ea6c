"""Gauges show the samples of the moment."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from forwarder.observe.gauges import GAUGES, GaugeCollector, Sample

STREAM = ("access_requests", "acme")


def scrape(*samples: Sample) -> tuple[CollectorRegistry, str]:
    registry = CollectorRegistry()
    registry.register(GaugeCollector(lambda: samples))
    return registry, generate_latest(registry).decode()


def test_a_sample_is_shown_with_its_labels() -> None:
    registry, _ = scrape(
        ("forwarder_covered_until_timestamp_seconds", STREAM, 100.0),
        ("forwarder_sink_backlog_events", ("console",), 7),
        ("forwarder_backpressure_active", (), 1.0),
    )

    value = registry.get_sample_value
    stream = {"stream": "access_requests", "account": "acme"}
    assert value("forwarder_covered_until_timestamp_seconds", stream) == 100
    assert value("forwarder_sink_backlog_events", {"sink": "console"}) == 7
    assert value("forwarder_backpressure_active") == 1


def test_what_is_not_known_yet_is_left_out() -> None:
    registry, text = scrape(("forwarder_covered_until_timestamp_seconds", STREAM, None))

    stream = {"stream": "access_requests", "account": "acme"}
    assert registry.get_sample_value("forwarder_covered_until_timestamp_seconds", stream) is None
    assert text.count("# TYPE") == len(GAUGES)
